"""rsLoRA and DoRA: the job's keys reach the adapter, which trains, is kept whole and is applied."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import Job, run_program

from mathreason.config import LoraConfig
from mathreason.results import RunDir, read_json
from mathreason.training.train import add_lora


def scales(model: Any) -> set[float]:
    return {module.scaling["default"] for module in model.modules() if hasattr(module, "lora_A")}


def test_rslora_divides_by_the_root_of_the_rank(loaded: Any) -> None:
    assert scales(add_lora(loaded.model, LoraConfig(r=16, alpha=16, use_rslora=True))) == {4.0}


def test_lora_divides_by_the_rank_and_has_no_magnitudes(loaded: Any) -> None:
    model = add_lora(loaded.model, LoraConfig(r=16, alpha=16))
    assert scales(model) == {1.0}
    assert not any("magnitude" in name for name, _ in model.named_parameters())


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_dora_goes_through_every_stage(
    tmp_path: Path, job: Job, write_job: Callable[[Job], Path], quantization: str
) -> None:
    from safetensors.torch import load_file

    job["model"]["quantization"] = quantization
    job["lora"]["use_dora"] = True
    done = run_program("run", write_job(job), "--results", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    [path] = (tmp_path / "results").iterdir()
    run = RunDir(path)
    assert json.loads((run.adapter / "adapter_config.json").read_text())["use_dora"] is True
    tensors = load_file(str(run.adapter / "adapter_model.safetensors"))
    magnitudes = [tensor for name, tensor in tensors.items() if "magnitude" in name]
    assert len(magnitudes) == len([name for name in tensors if "lora_A" in name])
    losses = [point["loss"] for point in read_json(run.train)["validation"]]
    assert losses[-1] < losses[0]
    assert read_json(run.evaluation("generator", "tuned"))["adapter"]["sha256"]
