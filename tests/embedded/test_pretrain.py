from __future__ import annotations

import json
import math
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mathreason.embedded import model_path
from mathreason.embedded.corpus import documents
from mathreason.embedded.pretrain import PEAK_LEARNING_RATE, WARMUP, batches, learning_rate, pretrain
from mathreason.errors import InputError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output: Path = tmp_path_factory.mktemp("embedded") / "deep" / "model"
    pretrain(output, steps=3, seed=0)
    return output


def test_it_remakes_the_shipped_tokenizer_and_configuration(made: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json"):
        fresh, shipped = (json.loads((folder / name).read_text("utf-8")) for folder in (made, model_path()))
        for document in (fresh, shipped):
            document.pop("transformers_version", None)
        assert fresh == shipped, name


def test_a_few_steps_already_beat_guessing(made: Path) -> None:
    record = json.loads((made / "pretraining.json").read_text("utf-8"))
    assert record["steps"] == 3
    assert record["held_out_loss"] < math.log(1024)
    model = AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(made)
    (batch,) = islice(batches(tokenizer, seed=9), 1)
    with torch.no_grad():
        loss = model(input_ids=batch, labels=batch).loss.item()
    assert loss == pytest.approx(record["held_out_loss"], abs=0.1)


def test_an_existing_folder_is_replaced_as_a_whole_and_the_same_seed_gives_the_same_weights(
    made: Path, tmp_path: Path
) -> None:
    output = tmp_path / "model"
    output.mkdir()
    (output / "stale.txt").write_text("old", encoding="utf-8")
    pretrain(output, steps=3, seed=0)
    assert sorted(path.name for path in output.iterdir()) == sorted(path.name for path in made.iterdir())
    assert (output / "model.safetensors").read_bytes() == (made / "model.safetensors").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_batches_are_the_documents_one_after_the_other() -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_path())
    (batch,) = islice(batches(tokenizer, seed=3), 1)
    text = tokenizer.decode(batch.flatten().tolist())
    expected = "".join(f"<s>{document}</s>" for document in islice(documents(3), 60))
    assert expected.startswith(text)
    assert text.count("</s>") > 5


def test_the_learning_rate_warms_up_to_its_peak_and_falls_to_a_hundredth() -> None:
    rates = [learning_rate(step, 1000) for step in range(1000)]
    assert max(rates) == rates[WARMUP] == pytest.approx(PEAK_LEARNING_RATE)
    assert rates[:WARMUP] == sorted(rates[:WARMUP])
    assert rates[WARMUP:] == sorted(rates[WARMUP:], reverse=True)
    assert rates[-1] == pytest.approx(PEAK_LEARNING_RATE / 100, rel=0.01)


def test_no_steps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--steps 0"):
        pretrain(tmp_path / "model", steps=0, seed=0)
