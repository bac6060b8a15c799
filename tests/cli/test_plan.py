"""`mathreason plan`: what it says, and that it needs no weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Job, run_program


@pytest.fixture
def bare_model(tmp_path: Path) -> Path:
    """The embedded model's config alone."""
    from mathreason.embedded import model_path

    folder = tmp_path / "bare"
    folder.mkdir()
    shutil.copyfile(model_path() / "config.json", folder / "config.json")
    return folder


def test_a_config_is_enough(
    tmp_path: Path, write_job: Callable[[Job], Path], job: Job, bare_model: Path
) -> None:
    job["model"]["name"] = str(bare_model)
    path, results = write_job(job), tmp_path / "results"
    done = run_program("plan", path, "--results", results, "--tokens-per-second", "100", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    training = document["training"]
    assert sum(training["bytes"].values()) == training["total_bytes"]
    assert training["fits"]
    assert document["changes"] == []
    assert (document["work"]["steps"], document["work"]["rate"]) == (4, "stated")
    assert document["work"]["seconds"] == document["work"]["tokens"] // 100
    assert not results.exists()


def test_what_does_not_fit_says_what_to_change(write_job: Callable[[Job], Path], job: Job) -> None:
    done = run_program("plan", write_job(job), "--memory", "1MiB", "--tokens-per-second", "100")
    assert done.returncode == 0, done.stderr
    assert "does not fit" in done.stdout
    assert "largest micro-batch that fits: none" in done.stdout
    assert "training.gradient_checkpointing: true" in done.stdout
    assert "then only more memory helps" in done.stdout


def test_a_size_without_a_unit_is_refused(write_job: Callable[[Job], Path], job: Job) -> None:
    done = run_program("plan", write_job(job), "--memory", "24")
    assert done.returncode == 2
    assert "Error: --memory: '24' is no size of memory" in done.stderr


def test_a_device_that_is_not_here_needs_its_memory(write_job: Callable[[Job], Path], job: Job) -> None:
    path = write_job(job)
    done = run_program("plan", path, "--device", "cuda", environment={"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 2
    assert "Error: there is no cuda device here to ask for its memory" in done.stderr
    done = run_program(
        "plan",
        path,
        "--device",
        "cuda",
        "--memory",
        "80GiB",
        "--json",
        environment={"CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["device"], document["model"]["dtype"]) == ("cuda", "bfloat16")
    assert document["work"]["seconds"] is None
