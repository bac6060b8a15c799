"""A request to stop ends the work within one optimizer step, with exit code 0 and nothing lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
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
from support import run_program, small_job

from mathreason.errors import InputError
from mathreason.pipeline import train_stage
from mathreason.session import open_session, resolve
from mathreason.training import checkpoints
from mathreason.training.stopping import (
    REASONS,
    SLURM_MARGIN_SECONDS,
    Stopped,
    StopRequest,
    leave_word,
    listening,
    parse_deadline,
    safe_point,
)
from mathreason.training.trainer import MathTrainer

STEPS = 40


@pytest.fixture(scope="module")
def job_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    job = small_job()
    job["training"].update(max_steps=STEPS, checkpoint_steps=25, logging_steps=1, gradient_accumulation=2)
    job["data"]["validation_fraction"] = 0.3
    job["lora"] = {"r": 4, "alpha": 8, "dropout": 0.1}
    path = tmp_path_factory.mktemp("stopping") / "job.yaml"
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return path


def finish(command: str, job_file: Path, results: Path) -> Path:
    process = start(command, job_file, "--results", results, output=results.with_suffix(".txt"))
    with cleared([process]):
        assert ended(process) == 0, results.with_suffix(".txt").read_text()
    return results


@pytest.fixture(scope="module")
def undisturbed(job_file: Path) -> Path:
    return finish("train", job_file, job_file.parent / "undisturbed")


def ask_by_file(results: Path, process: Any) -> None:
    del process
    run = run_in(results)
    assert run is not None
    (run.path / "STOP").touch()


def ask_by(number: signal.Signals) -> Callable[[Path, Any], None]:
    return lambda _, process: os.kill(process.pid, number)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        (ask_by_file, "a STOP file"),
        (ask_by(signal.SIGTERM), "SIGTERM"),
        (ask_by(signal.SIGUSR1), "SIGUSR1"),
        (ask_by(signal.SIGINT), "Ctrl-C"),
    ],
)
def test_a_stopped_training_goes_on_to_the_bytes_of_an_undisturbed_one(
    job_file: Path, undisturbed: Path, ask: Callable[[Path, Any], None], reason: str
) -> None:
    results = job_file.parent / reason
    output = results.with_suffix(".txt")
    process = start("train", job_file, "--results", results, output=output)
    with cleared([process]):
        wait_until(lambda: steps_logged(results) >= 7, process)
        ask(results, process)
        at = steps_logged(results)
        assert ended(process) == 0, output.read_text()
    assert (state(results)["status"], state(results)["reason"]) == ("stopped", reason)
    assert f"stopped by {reason}; the same command goes on from there" in output.read_text()
    run = run_in(results)
    assert run is not None
    [saved], torn = checkpoints.complete_checkpoints(run.checkpoints)
    # One step may have ended between the last look at the log and the request, and one ends after it.
    assert torn == []
    assert at <= checkpoints.step_of(saved) <= at + 2
    assert not (run.path / "STOP").exists()
    finish("train", job_file, results)
    assert state(results)["status"] == "done"
    assert adapter_bytes(results) == adapter_bytes(undisturbed)
    assert losses(results) == losses(undisturbed)


@pytest.mark.slow
def test_further_signals_change_nothing(job_file: Path, undisturbed: Path) -> None:
    results = job_file.parent / "insisting"
    process = start("train", job_file, "--results", results, output=results.with_suffix(".txt"))
    with cleared([process]):
        wait_until(lambda: steps_logged(results) >= 3, process)
        while process.exitcode is None:
            os.kill(process.pid, signal.SIGTERM)
            run = run_in(results)
            assert run is not None
            if state(results)["status"] == "stopped":
                break
            time.sleep(0.001)
        assert ended(process) == 0
    assert state(results)["status"] == "stopped"
    finish("train", job_file, results)
    assert adapter_bytes(results) == adapter_bytes(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["--deadline", "Slurm"])
def test_training_ends_before_its_deadline(job_file: Path, undisturbed: Path, way: str) -> None:
    results = job_file.parent / way.strip("-")
    options: list[str] = ["--deadline", "2s"] if way == "--deadline" else []
    end = int(time.time() + 2 + SLURM_MARGIN_SECONDS)
    environment = {"SLURM_JOB_END_TIME": str(end)} if way == "Slurm" else {}
    output = results.with_suffix(".txt")
    process = start("train", job_file, "--results", results, *options, environment=environment, output=output)
    with cleared([process]):
        assert ended(process) == 0
    assert state(results)["status"] == "stopped", output.read_text()
    assert state(results)["reason"] == REASONS[4 if options else 5]
    assert time.time() < end
    finish("train", job_file, results)
    assert adapter_bytes(results) == adapter_bytes(undisturbed)


@pytest.mark.slow
def test_evaluation_stops_between_samples_and_goes_on(job_file: Path) -> None:
    job = small_job()
    job["training"].update(max_steps=2)
    job["evaluation"].update(batch_size=1, max_new_tokens=32)
    job["evaluation"]["benchmarks"] = [{"name": "generator", "count": 20, "seed": 5}]
    path = job_file.with_name("evaluated.yaml")
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    whole = finish("run", path, job_file.parent / "whole")
    results = job_file.parent / "halved"

    def samples(of: Path) -> bytes:
        run = run_in(of)
        file = run.samples("generator", "base") if run else of
        return file.read_bytes() if file.is_file() else b""

    process = start("run", path, "--results", results, output=results.with_suffix(".txt"))
    with cleared([process]):
        wait_until(lambda: samples(results).count(b"\n") >= 3, process)
        os.kill(process.pid, signal.SIGTERM)
        assert ended(process) == 0
    assert (state(results)["status"], state(results)["stage"]) == ("stopped", "evaluate")
    assert 3 <= samples(results).count(b"\n") < 20
    finish("run", path, results)
    assert samples(results) == samples(whole)


@pytest.mark.slow
def test_a_stop_file_from_before_is_removed_and_said(job_file: Path, undisturbed: Path) -> None:
    run = run_in(undisturbed)
    assert run is not None
    (run.path / "STOP").touch()
    finish("train", job_file, undisturbed)
    assert not (run.path / "STOP").exists()
    assert "STOP was there from before" in undisturbed.with_suffix(".txt").read_text()
    assert state(undisturbed)["status"] == "done"


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_both(job_file: Path) -> None:
    job = yaml.safe_load(job_file.read_text())
    job["training"]["logging_steps"] = 4  # so that the stop falls between two lines of the log
    path = job_file.with_name("ranks.yaml")
    path.write_text(yaml.safe_dump({**job, "name": "ranks"}), encoding="utf-8")
    wanted, results = job_file.parent / "ranks-whole", job_file.parent / "ranks-stopped"

    def train(into: Path) -> list[Any]:
        return start_ranks(2, "train", path, "--results", into, output=into.with_suffix(".txt"))

    whole = train(wanted)
    with cleared(whole):
        assert [ended(process) for process in whole] == [0, 0], wanted.with_suffix(".txt").read_text()
    ranks = train(results)
    with cleared(ranks):
        wait_until(lambda: steps_logged(results) >= 7, ranks[0])
        os.kill(ranks[1].pid, signal.SIGUSR1)
        assert [ended(process) for process in ranks] == [0, 0]
    assert (state(results)["status"], state(results)["reason"]) == ("stopped", "SIGUSR1")
    again = train(results)
    with cleared(again):
        assert [ended(process) for process in again] == [0, 0]
    assert adapter_bytes(results) == adapter_bytes(wanted)
    assert losses(results) == losses(wanted)


# -- a stop while the validation loss is computed -------------------------------------------------------


class Passes:
    """Passes of validations as they begin (step, number); after the second of each comes `then`."""

    def __init__(self) -> None:
        self.began: list[tuple[int, int]] = []
        self.then: Callable[[MathTrainer], None] = lambda _: None

    def note(self, trainer: MathTrainer) -> None:
        step = trainer.state.global_step
        self.began.append((step, 1 + sum(at == step for at, _ in self.began)))
        if self.began[-1][1] == 2:
            self.then(trainer)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Passes]:
    noted, validate = Passes(), MathTrainer._validate

    def validate_noted(trainer: MathTrainer, batch: Any) -> float:
        noted.note(trainer)
        return validate(trainer, batch)

    monkeypatch.setattr(MathTrainer, "_validate", validate_noted)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield noted
    torch.set_num_threads(threads)


def train_here(job_file: Path, results: Path, deadline: float | None = None) -> None:
    with open_session(resolve(str(job_file), [], results, None), deadline=deadline) as session:
        train_stage(session)


def ask_here(trainer: MathTrainer) -> None:
    (trainer.run.path / "STOP").touch()


@pytest.mark.parametrize("step", [25, STEPS])
def test_a_stop_ends_a_validation_after_the_pass_under_way_and_it_is_made_up_for(
    job_file: Path, undisturbed: Path, passes: Passes, step: int
) -> None:
    results = job_file.parent / f"in-validation-{step}"
    passes.then = lambda trainer: ask_here(trainer) if trainer.state.global_step == step else None
    for _ in range(2):  # in the validation, and while that is made up for
        with pytest.raises(Stopped, match="a STOP file"):
            train_here(job_file, results)
        assert [number for at, number in passes.began if at == step] == [1, 2]
        passes.began.clear()
        run = run_in(results)
        assert run is not None
        assert checkpoints.steps(run.checkpoints)[-1] == step
        assert (step, "validation_loss") not in [line[:2] for line in losses(results)]
        assert not run.train.exists()
    passes.then = lambda _: None
    train_here(job_file, results)
    assert adapter_bytes(results) == adapter_bytes(undisturbed)
    assert losses(results) == losses(undisturbed)


@pytest.mark.slow
def test_a_kill_after_a_validation_was_made_up_for_does_not_log_it_twice(
    job_file: Path, undisturbed: Path, passes: Passes
) -> None:
    results = job_file.parent / "made-up"
    passes.then = ask_here
    with pytest.raises(Stopped, match="a STOP file"):
        train_here(job_file, results)
    process = start("train", job_file, "--results", results, output=results.with_suffix(".txt"))
    with cleared([process]):
        wait_until(lambda: (25, "validation_loss") in [line[:2] for line in losses(results)], process)
        process.kill()
        assert ended(process) == -signal.SIGKILL
    run = run_in(results)
    assert run is not None
    assert checkpoints.steps(run.checkpoints) == [25]
    finish("train", job_file, results)
    assert losses(results) == losses(undisturbed)
    assert adapter_bytes(results) == adapter_bytes(undisturbed)


def test_a_validation_that_does_not_fit_before_the_deadline_is_not_begun(
    job_file: Path, undisturbed: Path, passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Validations took an hour so far; half an hour is left.
    monkeypatch.setattr(
        MathTrainer, "_validation_seconds", property(lambda _: 3600.0, lambda *_: None), raising=False
    )
    results = job_file.parent / "no-time"
    for step in (25, STEPS):
        with pytest.raises(Stopped, match="the deadline"):
            train_here(job_file, results, time.time() + 1800)
        assert step not in [at for at, _ in passes.began]
        run = run_in(results)
        assert run is not None
        assert checkpoints.steps(run.checkpoints)[-1] == step
    train_here(job_file, results)
    assert adapter_bytes(results) == adapter_bytes(undisturbed)
    assert losses(results) == losses(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 6])
def test_a_signal_to_one_rank_ends_the_validation_of_both(job_file: Path, step: int) -> None:
    job = yaml.safe_load(job_file.read_text())
    job["data"].update(mixture=[{"source": "generator", "count": 400}], validation_fraction=0.9)
    job["training"].update(max_steps=6, checkpoint_steps=3)
    path = job_file.with_name("ranks-validating.yaml")
    path.write_text(yaml.safe_dump({**job, "name": "long"}), encoding="utf-8")
    results, wanted = job_file.parent / f"ranks-validating-{step}", job_file.parent / "ranks-validated"

    def train(into: Path) -> list[Any]:
        return start_ranks(2, "train", path, "--results", into, output=into.with_suffix(".txt"))

    ranks = train(results)
    with cleared(ranks):
        wait_until(lambda: steps_logged(results) == step, ranks[0])  # a validation of hundreds comes next
        os.kill(ranks[1].pid, signal.SIGUSR1)
        assert [ended(process) for process in ranks] == [0, 0], results.with_suffix(".txt").read_text()
    assert (state(results)["status"], state(results)["reason"]) == ("stopped", "SIGUSR1")
    assert losses(results)[-1][:2] == (step, "supervised_tokens")
    for into in (results, wanted):
        group = train(into)
        with cleared(group):
            assert [ended(process) for process in group] == [0, 0]
    assert adapter_bytes(results) == adapter_bytes(wanted)
    assert losses(results) == losses(wanted)


# -- the request itself ----------------------------------------------------------------------------


def test_first_interrupt_is_a_request_and_the_second_interrupts(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with listening(tmp_path / "STOP", None) as request:
        signal.raise_signal(signal.SIGINT)
        assert REASONS[request.code()] == "Ctrl-C"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_a_session_a_safe_point_does_nothing_and_inside_it_obeys(tmp_path: Path) -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    safe_point()
    try:
        with listening(tmp_path / "STOP", None):
            safe_point()
            (tmp_path / "STOP").touch()
            with pytest.raises(Stopped, match="a STOP file"):
                safe_point()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert not (tmp_path / "STOP").exists()


def test_only_a_stop_file_made_since_the_start_is_obeyed_and_others_see_it_too(tmp_path: Path) -> None:
    file = tmp_path / "STOP"
    file.touch()
    with listening(file, None, alone=lambda: False) as request:
        assert request.found_before
        assert request.code() == 0
        os.utime(file, (1, 1))  # asked once more
        assert REASONS[request.code()] == "a STOP file"
        request.obey(request.code())
    assert file.exists()


def test_the_margin_moves_the_stop_before_the_deadline(tmp_path: Path) -> None:
    request = StopRequest(tmp_path / "STOP", time.time() + 1000, alone=lambda: True)
    assert request.code() == 0
    request.margin = 1001
    assert REASONS[request.code()] == "the deadline"


NOON = datetime(2026, 11, 23, 12, 0).astimezone()


@pytest.mark.parametrize(
    ("text", "later"),
    [
        ("90s", timedelta(seconds=90)),
        ("3h20m", timedelta(hours=3, minutes=20)),
        ("1d2h", timedelta(hours=26)),
        ("0.5h", timedelta(minutes=30)),
        ("13:30", timedelta(minutes=90)),
        ("11:00", timedelta(hours=23)),
        ("2026-11-23T18:00", timedelta(hours=6)),
    ],
)
def test_a_deadline_is_a_duration_a_time_of_day_or_a_date(text: str, later: timedelta) -> None:
    assert parse_deadline(text, NOON) == (NOON + later).timestamp()


@pytest.mark.parametrize("text", ["", "soon", "90", "25:00", "3h20", "2026-13-01", "2026-11-23T11:59"])
def test_what_is_no_deadline_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--deadline"):
        parse_deadline(text, NOON)


def test_a_wrong_deadline_is_bad_input_to_the_program(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(small_job()), encoding="utf-8")
    done = run_program("train", path, "--results", tmp_path / "results", "--deadline", "soon")
    assert done.returncode == 2
    assert "--deadline soon" in done.stderr


def test_stop_file_of_a_batch_job_stops_its_own_processes_and_learns_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "job-7"
    monkeypatch.setenv("MATHREASON_STOP_FILE", str(own))
    with listening(tmp_path / "STOP", None):
        safe_point()
    own.touch()
    with pytest.raises(Stopped, match="the job's own stop file") as stop, listening(tmp_path / "STOP", None):
        safe_point()
    assert own.exists()  # the batch script's, and other processes of the job look at it too
    leave_word(stop.value)
    assert (tmp_path / "job-7.obeyed").read_text() == "the job's own stop file\n"
    monkeypatch.delenv("MATHREASON_STOP_FILE")
    with listening(tmp_path / "STOP", None):
        safe_point()


@pytest.mark.slow
def test_a_line_that_a_full_disk_tore_is_dropped_by_the_next_start(job_file: Path, undisturbed: Path) -> None:
    results = job_file.parent / "torn"
    process = start("train", job_file, "--results", results, output=results.with_suffix(".txt"))
    with cleared([process]):
        wait_until(lambda: steps_logged(results) >= 3, process)
        os.kill(process.pid, signal.SIGTERM)
        assert ended(process) == 0
    run = run_in(results)
    assert run is not None
    with run.log.open("a", encoding="utf-8") as file:
        file.write('{"step": 51, "lo')
    finish("train", job_file, results)
    assert losses(results) == losses(undisturbed)
