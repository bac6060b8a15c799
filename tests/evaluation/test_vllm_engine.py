"""What can be said of the vLLM engine where vLLM is not installed; vLLM itself needs a GPU."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from mathreason.errors import InputError
from mathreason.evaluation.engine import Sampling
from mathreason.evaluation.vllm_engine import VllmEngine, engine_options
from mathreason.progress import Reporter


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vllm is installed")
def test_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(InputError, match=r"pip install mathreason\[vllm\]"):
        VllmEngine(
            model="embedded",
            revision=None,
            dtype="float32",
            quantization="none",
            adapter=None,
            seed=0,
            sampling=Sampling(8),
            reporter=Reporter(quiet=True),
        )


@pytest.mark.parametrize(("rank", "room"), [(1, 1), (4, 8), (32, 32), (33, 64), (300, 320), (512, 512)])
def test_room_is_made_for_the_adapters_rank(tmp_path: Path, rank: int, room: int) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 1, "rank_pattern": {"q_proj": rank}}))
    options = engine_options("m", None, "bfloat16", 0, tmp_path)
    assert (options["enable_lora"], options["max_lora_rank"]) == (True, room)
    assert "enable_lora" not in engine_options("m", None, "bfloat16", 0, None)


def test_adapter_that_vllm_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="says no LoRA rank"):
        engine_options("m", None, "bfloat16", 0, tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"r": 513}')
    with pytest.raises(InputError, match="vLLM takes adapters up to 512"):
        engine_options("m", None, "bfloat16", 0, tmp_path)
