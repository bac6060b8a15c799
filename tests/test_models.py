"""Loading says what it could not do, and an adapter that is not applied is noticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mathreason.config import LoraConfig, ModelConfig
from mathreason.errors import InputError, MathreasonError
from mathreason.models import ADAPTER_WEIGHTS, apply_adapter, load_model, load_tokenizer, model_source
from mathreason.progress import Reporter
from mathreason.training.train import add_lora

QUIET = Reporter(quiet=True)


@pytest.fixture
def adapter(loaded: Any, tmp_path: Path) -> Path:
    """An adapter folder with weights that change the model."""
    torch.manual_seed(3)
    model = add_lora(loaded.model, LoraConfig(r=4, alpha=8))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    model.save_pretrained(tmp_path / "adapter")
    model.unload()
    return tmp_path / "adapter"


def fresh() -> Any:
    return load_model(ModelConfig(name="embedded", quantization="none"), QUIET)


def rewrite(adapter: Path, change: Any) -> None:
    tensors = change(load_file(str(adapter / ADAPTER_WEIGHTS)))
    save_file(tensors, str(adapter / ADAPTER_WEIGHTS))


def test_good_adapter_is_applied_and_changes_the_logits(adapter: Path) -> None:
    ids = torch.tensor([[5, 6, 7, 8]])
    loaded = fresh()
    before = loaded.model(input_ids=ids).logits.detach().clone()
    tuned = apply_adapter(loaded, adapter)
    assert not torch.equal(tuned.model(input_ids=ids).logits, before)
    with tuned.model.disable_adapter():  # type: ignore[operator]
        assert torch.equal(tuned.model(input_ids=ids).logits, before)


def test_renamed_tensors_are_noticed(adapter: Path) -> None:
    rewrite(adapter, lambda tensors: {name.replace("q_proj", "x_proj"): t for name, t in tensors.items()})
    with pytest.raises(MathreasonError, match=r"is not applied|does not fit"):
        apply_adapter(fresh(), adapter)


def test_missing_tensors_are_noticed(adapter: Path) -> None:
    rewrite(adapter, lambda tensors: dict(list(tensors.items())[2:]))
    with pytest.raises(MathreasonError, match="is not applied: 2 tensors"):
        apply_adapter(fresh(), adapter)


def test_untrained_adapter_is_noticed(adapter: Path) -> None:
    rewrite(adapter, lambda tensors: {n: t * 0 if "lora_B" in n else t for n, t in tensors.items()})
    with pytest.raises(MathreasonError, match="changes nothing"):
        apply_adapter(fresh(), adapter)


def test_adapter_of_another_shape_is_refused(adapter: Path) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "r": 8}))
    with pytest.raises(MathreasonError, match="does not fit the model"):
        apply_adapter(fresh(), adapter)


def test_folder_without_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no adapter"):
        apply_adapter(fresh(), tmp_path)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/model", "nowhere", "a/b/c"])
def test_model_folder_that_does_not_exist_is_named(name: str) -> None:
    with pytest.raises(InputError, match=f"the model folder {name} does not exist"):
        model_source(ModelConfig(name=name))


def test_hub_model_that_is_not_cached_gets_a_sentence_without_network() -> None:
    with pytest.raises(InputError, match="the tokenizer of model nobody/nothing cannot be loaded"):
        load_tokenizer(ModelConfig(name="nobody/nothing"))


def test_flash_attention_without_a_gpu_falls_back_and_says_so() -> None:
    if torch.cuda.is_available():
        pytest.fail("this test describes a machine without a GPU")
    reporter = Reporter(quiet=True)
    loaded = load_model(
        ModelConfig(name="embedded", quantization="none", attention="flash_attention_2"), reporter
    )
    assert loaded.facts["attention"] == "sdpa"
    assert reporter.warnings == loaded.facts["fallbacks"]
    assert "flash_attention_2" in reporter.warnings[0]


def test_weights_with_a_tensor_missing_are_refused(tmp_path: Path) -> None:
    from mathreason.embedded import model_path

    for path in model_path().iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(str(tmp_path / "model.safetensors"))
    tensors.pop("model.layers.0.mlp.up_proj.weight")
    save_file(tensors, str(tmp_path / "model.safetensors"), metadata={"format": "pt"})
    with pytest.raises(MathreasonError, match=r"lack 1 tensors, such as model\.layers\.0\.mlp\.up_proj"):
        load_model(ModelConfig(name=str(tmp_path), quantization="none"), QUIET)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    from mathreason.embedded import model_path

    for path in model_path().iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save(load_file(str(model_path() / "model.safetensors")), tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(ModelConfig(name=str(tmp_path), quantization="none"), QUIET)
