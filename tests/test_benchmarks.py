"""The measurement that needs a GPU runs on a CPU too, so that it works when there is one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT


@pytest.mark.slow
def test_gpu_measurement_can_be_tried_on_a_cpu(real_data: Path, tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    asked = ("--settings", "tinyllama:lora:256,tinyllama:nf4:256", "--layers", "1", "--sides", "")
    size = ("--examples", "2", "--steps", "2", "--tokens", "256", "--dtype", "float32")
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py", "--data-dir", real_data, *asked, *size, "--output", output],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(output.read_text(encoding="utf-8"))
    assert document["machine"]["matmul_flops_per_second"] > 0
    sides = {row["method"]: row["mathreason"] for row in document["rows"]}
    assert sorted(sides) == ["lora", "nf4"]
    for side in sides.values():
        assert side["tokens_per_second"] > 0
        assert side["losses"][1] < side["losses"][0]
        assert side["gib"]["process"] > 0
    # Four bits change the loss a little; weights that were not quantized would leave it as it is.
    first = [side["losses"][0] for side in sides.values()]
    assert 0 < abs(first[0] - first[1]) < 0.1


@pytest.mark.slow
def test_plan_agrees_with_what_a_gpu_was_measured_to_take(real_data: Path, tmp_path: Path) -> None:
    output = tmp_path / "plan.json"
    figures = ROOT / "benchmarks" / "results" / "gpu.json"
    asked = ("--gpu", figures, "--data-dir", real_data, "--output", output)
    done = subprocess.run(
        [sys.executable, "benchmarks/memory_plan.py", *asked],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(output.read_text(encoding="utf-8"))
    assert {row["shape"] for row in rows} == {"tinyllama", "mistral"}
    assert all(abs(row["error"]) < 0.1 for row in rows)
