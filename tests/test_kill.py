"""SIGKILL in the middle of training and of evaluation: the same command ends with the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT, command, run_program, small_job

from mathreason.results import RunDir
from mathreason.training.checkpoints import WRITING

DEADLINE_SECONDS = 240.0


def longer_job() -> dict[str, Any]:
    job = small_job()
    job["training"].update(max_steps=24, checkpoint_steps=3, logging_steps=2)
    job["lora"] = {"r": 8, "alpha": 16, "dropout": 0.1}
    job["evaluation"].update(batch_size=2, max_new_tokens=48)
    job["evaluation"]["benchmarks"] = [{"name": "generator", "count": 24, "seed": 5}]
    return job


@pytest.fixture(scope="module")
def job_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kill") / "job.yaml"
    path.write_text(yaml.safe_dump(longer_job()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def undisturbed(job_file: Path) -> RunDir:
    return finish(job_file, job_file.parent / "undisturbed")


def finish(job_file: Path, results: Path) -> RunDir:
    done = run_program("run", job_file, "--results", results)
    assert done.returncode == 0, done.stderr
    [run] = results.iterdir()
    return RunDir(run)


def kill_when(job_file: Path, results: Path, moment: Callable[[RunDir], bool]) -> None:
    """Start the program and SIGKILL it as soon as `moment` holds."""
    with (results.parent / f"{results.name}.log").open("ab") as log:
        process = subprocess.Popen(
            command("run", job_file, "--results", results),
            cwd=ROOT,
            stdout=log,
            stderr=log,
            env=dict(os.environ),
        )
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            assert process.poll() is None, "the program ended before it could be killed"
            runs = list(results.iterdir()) if results.is_dir() else []
            if runs and moment(RunDir(runs[0])):
                return
            time.sleep(0.002)
        pytest.fail("the moment never came")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def checkpoint(step: int) -> Callable[[RunDir], bool]:
    return lambda run: (run.checkpoints / f"checkpoint-{step}").is_dir()


def writing(step: int) -> Callable[[RunDir], bool]:
    return lambda run: (run.checkpoints / WRITING / f"checkpoint-{step}").is_dir()


def samples(variant: str, lines: int) -> Callable[[RunDir], bool]:
    def moment(run: RunDir) -> bool:
        path = run.samples("generator", variant)
        return path.is_file() and path.read_bytes().count(b"\n") >= lines

    return moment


def products(run: RunDir) -> dict[str, bytes]:
    """The adapter and the samples, byte for byte."""
    files = [*sorted(run.adapter.iterdir()), *(run.samples("generator", v) for v in ("base", "tuned"))]
    return {str(path.relative_to(run.path)): path.read_bytes() for path in files}


@pytest.mark.slow
def test_killed_run_ends_with_the_bytes_of_an_undisturbed_one(job_file: Path, undisturbed: RunDir) -> None:
    results = job_file.parent / "killed"
    for moment in (checkpoint(6), writing(12), checkpoint(18), samples("base", 8), samples("tuned", 4)):
        kill_when(job_file, results, moment)
    run = finish(job_file, results)
    assert products(run) == products(undisturbed)
    state = json.loads(run.run.read_text())
    assert (state["status"], state["starts"]) == ("done", 6)
    steps = [json.loads(line)["step"] for line in run.log.read_text().splitlines()]
    assert steps == [json.loads(line)["step"] for line in undisturbed.log.read_text().splitlines()]


@pytest.mark.slow
def test_complete_run_is_not_repeated(job_file: Path, undisturbed: RunDir) -> None:
    kept = [undisturbed.data, undisturbed.train, undisturbed.evaluation("generator", "tuned")]
    before = [path.read_bytes() for path in kept]
    finish(job_file, undisturbed.path.parent)
    assert [path.read_bytes() for path in kept] == before
    assert "evaluation: already complete" in undisturbed.log_text.read_text()
