"""Carrying out a sweep: each run in a process of its own, one after the other, whatever befalls one.

    run_one(sweep, 3, root, data_dir)            # run number 3, in this process (one task of a Slurm array)
    outcome = run_rest(sweep, root, command)     # every run that is not finished, `command(number)` each
    outcome.failed                               # [(SweepRun, "exit code 1"), ...]

A process of its own gives a run its own peak memory and keeps the others safe when it is killed for memory.
It ends with the process that started it, so that the same call after a kill finds no run at work.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from mathreason.jobfile import dump_job
from mathreason.pipeline import run_all
from mathreason.progress import Reporter
from mathreason.results import VARIANTS, read_json
from mathreason.session import Target, open_session, status_of
from mathreason.sweep import Sweep, SweepRun

START_SECONDS = 30.0
"""A run is not started with less time than this before a deadline."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass
class Outcome:
    """What became of the runs that were started; `stopped` names one that was asked to stop."""

    failed: list[tuple[SweepRun, str]] = field(default_factory=list)
    stopped: SweepRun | None = None


# -- the state of a run ----------------------------------------------------------------------------


def state_of(run: SweepRun, root: Path) -> str:
    """One of pending, running, stopped, failed, and done: every stage of this very job is complete."""
    folder = run.folder(root)
    if not folder.run.is_file():
        return "pending"
    status = status_of(read_json(folder.run))
    return "pending" if status == "done" and not _is_whole(run, root) else status


def _is_whole(run: SweepRun, root: Path) -> bool:
    """Whether the run was last worked on for this very job, with evaluations, and has a report."""
    folder = run.folder(root)
    results = [
        folder.evaluation(benchmark.name, variant)
        for benchmark in run.job.evaluation.benchmarks
        for variant in VARIANTS
    ]
    whole = all(path.is_file() for path in (folder.job, folder.train, folder.report, *results))
    return whole and folder.job.read_text(encoding="utf-8") == dump_job(run.job)


# -- one run ---------------------------------------------------------------------------------------


def run_one(
    sweep: Sweep, number: int, root: Path, data_dir: Path | None, deadline: float | None = None
) -> None:
    """The whole path of run `number`, from 1; raises what `open_session` and `run_all` raise."""
    run = sweep.runs[number - 1]
    siblings = [(each.job, each.folder(root)) for each in sweep.runs]
    with open_session(Target(run.job, run.folder(root), data_dir), deadline=deadline) as session:
        run_all(session, siblings)


# -- all of them -----------------------------------------------------------------------------------


def run_rest(
    sweep: Sweep,
    root: Path,
    command: Callable[[int], list[str]],
    reporter: Reporter,
    deadline: float | None = None,
) -> Outcome:
    """Start `command(number)` for every run that is not done; a failure is said and the others go on.

    SIGTERM and SIGUSR1 are handed to the run at work, and no further one is started after them or Ctrl-C, nor
    shortly before `deadline` (seconds since the epoch), which `command` must heed itself.
    """
    outcome = Outcome()
    with _Children() as children:
        for run in sweep.runs:
            if state_of(run, root) == "done":
                reporter.say(f"run {run.number} of {len(sweep.runs)}, {run.title}: already done")
                continue
            if deadline is not None and time.time() + START_SECONDS > deadline:
                outcome.stopped = run
                break
            reporter.say(f"run {run.number} of {len(sweep.runs)}, {run.title}: {run.id}")
            code = children.run(command(run.number))
            # A run that was killed from outside looks stopped too, but ends with its signal's code.
            if children.stopping or (code == 0 and state_of(run, root) == "stopped"):
                outcome.stopped = run
                break
            if code:
                outcome.failed.append((run, _reason(run, root, code)))
                reporter.warn(f"run {run.number}, {run.title}, failed: {outcome.failed[-1][1]}")
    return outcome


def _reason(run: SweepRun, root: Path, code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    path = run.folder(root).run
    state = read_json(path) if path.is_file() else {}
    # A run that another process works on was refused before it could write down why.
    return state["error"] if state.get("status") == "failed" and "error" in state else f"exit code {code}"


class _Children:
    """Runs commands one at a time; signals that ask this process to stop reach the one at work."""

    def __init__(self) -> None:
        self.stopping = False
        self._at_work: subprocess.Popen[bytes] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Children:
        handlers = {signal.SIGTERM: self._hand_on, signal.SIGUSR1: self._hand_on, signal.SIGINT: self._note}
        self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(self, command: list[str]) -> int:
        """Exit code of `command`, negative for the signal that killed it."""
        if self.stopping:
            return 0
        self._at_work = subprocess.Popen(command, preexec_fn=_end_with_parent)  # noqa: PLW1509
        if self.stopping:  # asked while it was being started
            self._at_work.terminate()
        return self._at_work.wait()

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.stopping = True
        if self._at_work is not None and self._at_work.poll() is None:
            self._at_work.send_signal(number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-C: the terminal has sent it to the child as well; a second one ends this process."""
        if self.stopping:
            signal.default_int_handler(number, frame)
        self.stopping = True


def _end_with_parent() -> None:
    """In the child: have the kernel kill it when its parent ends, however the parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
