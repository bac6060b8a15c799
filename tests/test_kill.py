"""SIGKILL in the middle of training and of evaluation: the same command ends with the same bytes.

Thirty kills at random moments, including inside the write of a checkpoint, for one process and for two that
train together; and the program under torchrun.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import (
    adapter_bytes,
    cleared,
    ended,
    losses,
    run_in,
    start,
    start_ranks,
    state,
    steps_logged,
    wait_until,
)
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


# -- thirty times ----------------------------------------------------------------------------------

KILLS, STEPS = 30, 110


def often_saved() -> dict[str, Any]:
    job = small_job()
    job["training"].update(
        max_steps=STEPS, checkpoint_steps=2, logging_steps=1, gradient_accumulation=2, keep_last=2
    )
    job["lora"] = {"r": 4, "alpha": 8, "dropout": 0.1}
    job["data"]["validation_fraction"] = 0.02
    return job


def written(job: dict[str, Any], path: Path) -> Path:
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return path


def train(processes: int, job_file: Path, results: Path) -> list[Any]:
    arguments = ("train", job_file, "--results", results)
    output = results.with_suffix(".txt")
    if processes == 1:
        return [start(*arguments, output=output)]
    return start_ranks(processes, *arguments, output=output)


def trained(processes: int, job_file: Path, results: Path) -> None:
    group = train(processes, job_file, results)
    with cleared(group):
        codes = [ended(process) for process in group]
    assert codes == [0] * processes, results.with_suffix(".txt").read_text()


def is_writing(results: Path, since: float) -> bool:
    """Whether a checkpoint is being written that was begun after `since` (what a kill left is older)."""
    run = run_in(results)
    try:
        return run is not None and any(
            path.stat().st_mtime > since for path in run.checkpoints.glob(f"{WRITING}/*")
        )
    except FileNotFoundError:  # just moved to its place
        return False


def kill_at_random(group: list[Any], results: Path, chance: random.Random) -> bool:
    """Wait for a random moment and kill one of the group, then (as torchrun does) the others.

    Whether a checkpoint was being written.
    """
    started = time.time()
    kind = chance.choices(("starting", "step", "writing"), (1, 3, 2))[0]
    if kind == "starting":
        time.sleep(chance.uniform(0.0, 1.5))
    elif kind == "step":
        wanted = steps_logged(results) + chance.randint(1, 3)
        wait_until(lambda: steps_logged(results) >= wanted, group[0])
        time.sleep(chance.uniform(0.0, 0.05))
    else:
        wait_until(lambda: is_writing(results, started), group[0])
        time.sleep(chance.uniform(0.0, 0.02))
    assert all(process.exitcode is None for process in group), "the program ended before it could be killed"
    for process in chance.sample(group, len(group)):
        process.kill()
    assert [ended(process) for process in group] == [-signal.SIGKILL] * len(group)
    return is_writing(results, started)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_thirty_kills_change_no_byte_of_the_adapter(processes: int, tmp_path: Path) -> None:
    job_file = written(often_saved(), tmp_path / "job.yaml")
    trained(processes, job_file, tmp_path / "undisturbed")
    results, chance = tmp_path / "killed", random.Random(processes)
    inside_a_write, reached = 0, []
    for _ in range(KILLS):
        group = train(processes, job_file, results)
        with cleared(group):
            inside_a_write += kill_at_random(group, results, chance)
        reached.append(steps_logged(results))
    trained(processes, job_file, results)
    assert inside_a_write >= 3
    assert reached[-1] > 20  # the kills were spread over the training
    assert state(results)["starts"] > KILLS // 2  # the rest were killed before they had begun to write
    assert adapter_bytes(results) == adapter_bytes(tmp_path / "undisturbed")
    assert losses(results) == losses(tmp_path / "undisturbed")


@pytest.mark.slow
def test_two_processes_by_torchrun_follow_the_loss_curve_of_one(tmp_path: Path) -> None:
    job = often_saved()
    job["training"].update(max_steps=8, checkpoint_steps=4)
    job["lora"]["dropout"] = 0.0
    job_file = written(job, tmp_path / "job.yaml")
    trained(1, job_file, tmp_path / "one")
    results = tmp_path / "two"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, "-m", *command("train", job_file, "--results", results)[2:]],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("adapter: ") == 1  # rank 0 alone speaks
    assert done.stderr.count("training embedded: 8 steps") == 1
    alone, together = losses(tmp_path / "one"), losses(results)
    assert [line[:2] for line in together] == [line[:2] for line in alone]
    assert [line[2] for line in together] == pytest.approx([line[2] for line in alone], rel=1e-3)
    run = run_in(results)
    assert run is not None
    assert json.loads(run.train.read_text())["processes"] == 2
    assert sorted(p.name for p in (run.checkpoints / "checkpoint-8").glob("rng_state*")) == [
        "rng_state_0.pth",
        "rng_state_1.pth",
    ]


@pytest.mark.slow
def test_accumulation_that_the_processes_cannot_share_is_refused(tmp_path: Path) -> None:
    job = often_saved()
    job["training"]["gradient_accumulation"] = 3
    group = train(2, written(job, tmp_path / "job.yaml"), tmp_path / "results")
    with cleared(group):
        assert 2 in [ended(process) for process in group]
    assert (
        "gradient_accumulation is 3, which 2 processes cannot share" in (tmp_path / "results.txt").read_text()
    )
