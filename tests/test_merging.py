"""Merging proves that the adapter is in the weights, or says how much of it rounding left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraModel, PeftModel
from peft.tuners.lora import Linear

from mathreason.config import LoraConfig, ModelConfig
from mathreason.errors import MathreasonError
from mathreason.merging import distance, logits_of, merge, same_next_token
from mathreason.models import LoadedModel, apply_adapter, load_model
from mathreason.progress import Reporter
from mathreason.training.train import add_lora

PROMPTS = [[0, *range(40 + start, 140 + start)] for start in (0, 300, 600)]


def base(dtype: str = "float32") -> LoadedModel:
    config = ModelConfig.model_validate({"name": "embedded", "quantization": "none", "dtype": dtype})
    return load_model(config, Reporter(quiet=True))


def tuned(folder: Path, dtype: str, strength: float, **lora: Any) -> LoadedModel:
    """The embedded model with random adapters, whose second matrices have entries of size `strength`."""
    torch.manual_seed(1)
    model = add_lora(base().model, LoraConfig.model_validate({"r": 4, "alpha": 4, **lora}))
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name:  # those that begin as zeros
            torch.nn.init.normal_(parameter, std=strength)
    model.save_pretrained(folder / "adapter")
    return apply_adapter(base(dtype), folder / "adapter")


@pytest.mark.parametrize(
    "lora", [{}, {"use_rslora": True}, {"use_dora": True}], ids=["lora", "rslora", "dora"]
)
def test_a_strong_adapter_is_carried_in_every_dtype(tmp_path: Path, lora: dict[str, bool]) -> None:
    for dtype, rounding in (("float32", 1e-5), ("float16", 5e-3), ("bfloat16", 3e-2)):
        model = tuned(tmp_path, dtype, 0.3, **lora)
        adapted = logits_of(model.model, PROMPTS)
        merged, check = merge(model, PROMPTS)
        found = logits_of(merged, PROMPTS)
        assert check["verdict"] == "carried"
        assert check["layers"] == 35  # seven in each of five blocks
        assert check["difference"] == pytest.approx(distance(adapted, found))
        assert check["distance_from_base"] == pytest.approx(
            distance(logits_of(base(dtype).model, PROMPTS), found)
        )
        assert check["difference"] < rounding < 0.05 < min(check["effect"], check["distance_from_base"])
        assert check["kept_in_weights"] == pytest.approx(1, abs=0.02)
        assert check["same_next_token"] == same_next_token(adapted, found)
        assert check["tokens"] == 3 * 64
        assert merged.dtype == getattr(torch, dtype)
        assert not any("lora" in name for name in merged.state_dict())


def test_an_adapter_weaker_than_rounding_is_said_not_passed(tmp_path: Path) -> None:
    _, coarse = merge(tuned(tmp_path, "bfloat16", 1e-4), PROMPTS)
    assert coarse["verdict"] == "below rounding"
    assert 0 < coarse["kept_in_weights"] < 0.5
    assert coarse["difference"] > coarse["effect"] / 2
    _, fine = merge(tuned(tmp_path, "float32", 1e-4), PROMPTS)
    assert fine["verdict"] == "carried"
    assert fine["kept_in_weights"] == pytest.approx(1, abs=1e-3)


def test_an_adapter_that_rounding_wipes_out_is_refused(tmp_path: Path) -> None:
    tuned(tmp_path, "float32", 1e-6)
    coarse = base("bfloat16")
    model: Any = PeftModel.from_pretrained(coarse.model, tmp_path / "adapter").eval()
    with pytest.raises(MathreasonError, match=r"to bfloat16 leaves -?0\.\d% of the adapter.*--dtype float32"):
        merge(LoadedModel(model, coarse.tokenizer, coarse.facts), PROMPTS)


def test_weights_beyond_the_range_of_float16_are_refused(tmp_path: Path) -> None:
    model = tuned(tmp_path, "float16", 0.05)
    with torch.no_grad():
        next(p for name, p in model.model.named_parameters() if "lora_B" in name).mul_(1e7)
    with pytest.raises(MathreasonError, match=r"range of float16; use --dtype bfloat16"):
        merge(model, PROMPTS)


@pytest.mark.parametrize("strength", [1e-4, 0.05])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_layer_not_merged_wholly_is_noticed(
    tmp_path: Path, dtype: str, strength: float, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rightly = Linear.merge

    def merge_a_share(self: Linear, *arguments: Any, **options: Any) -> None:
        self.scaling = {name: scale * share for name, scale in self.scaling.items()}
        rightly(self, *arguments, **options)

    model = tuned(tmp_path, dtype, strength)
    monkeypatch.setattr(Linear, "merge", merge_a_share)
    with pytest.raises(MathreasonError, match="not merged as it was trained"):
        merge(model, PROMPTS)


@pytest.mark.parametrize("strength", [1e-4, 0.05])
def test_an_adapter_lost_on_the_way_out_of_peft_is_noticed(
    tmp_path: Path, strength: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tuned(tmp_path, "bfloat16", strength)
    monkeypatch.setattr(LoraModel, "unload", lambda _: base("bfloat16").model)
    with pytest.raises(MathreasonError, match="is not in the model that would be written"):
        merge(model, PROMPTS)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_adapted_head_is_untied_from_the_embedding(tmp_path: Path, dtype: str) -> None:
    model = tuned(tmp_path, dtype, 0.05, target_modules=["q_proj", "lm_head"])
    merged, check = merge(model, PROMPTS)
    before = base(dtype).model
    assert before.config.tie_word_embeddings
    assert not merged.config.tie_word_embeddings
    assert torch.equal(merged.get_input_embeddings().weight, before.get_input_embeddings().weight)
    assert not torch.equal(merged.get_output_embeddings().weight, before.get_output_embeddings().weight)
    assert check["verdict"] == "carried"


def test_an_adapted_embedding_is_untied_from_the_head(tmp_path: Path) -> None:
    model = tuned(tmp_path, "float32", 0.05, target_modules=["embed_tokens"])
    merged, check = merge(model, PROMPTS)
    before = base().model
    assert torch.equal(merged.get_output_embeddings().weight, before.get_output_embeddings().weight)
    assert not merged.config.tie_word_embeddings
    assert check["verdict"] == "carried"
    assert check["difference"] < 1e-5
