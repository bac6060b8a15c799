"""A small job and the program as a process, for tests of several rooms."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

Job = dict[str, Any]


def small_job() -> Job:
    """A job that goes through every stage in seconds."""
    return {
        "name": "small",
        "model": {"name": "embedded", "quantization": "none"},
        "data": {
            "mixture": [{"source": "generator", "count": 60}],
            "max_length": 256,
            "validation_fraction": 0.1,
        },
        "lora": {"r": 4, "alpha": 8},
        "training": {
            "max_steps": 4,
            "micro_batch": 1,
            "gradient_accumulation": 1,
            "learning_rate": 1e-3,
            "optimizer": "adamw_torch",
            "gradient_checkpointing": False,
            "checkpoint_steps": 2,
            "logging_steps": 1,
        },
        "evaluation": {
            "benchmarks": [{"name": "generator", "count": 12, "seed": 5}],
            "limit": None,
            "batch_size": 4,
            "max_new_tokens": 16,
        },
    }


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "mathreason", *map(str, arguments)]


def run_program(
    *arguments: str | Path, environment: dict[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """`mathreason …` as a process of its own."""
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        check=False,
    )


def run_script(path: Path, *arguments: str | Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """A Python file as a process of its own, with this package importable."""
    return subprocess.run(
        [sys.executable, str(path), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
