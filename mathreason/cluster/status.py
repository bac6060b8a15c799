"""What runs, waits, stopped or failed, and how far it is: from run directories and Slurm's queue.

    for view in views(Path("results")): print(view.run, view.status, view.step, view.eta_seconds)

A run directory says what its processes last wrote; Slurm says which of their jobs wait, run, or are gone. A
run that says `running` on another host is believed unless Slurm knows that none of its jobs is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mathreason.cluster import slurm
from mathreason.cluster.submit import SUBMISSION
from mathreason.errors import InputError, MathreasonError
from mathreason.jobfile import load_job
from mathreason.listing import runs_in
from mathreason.results import RunDir, read_json
from mathreason.session import status_of

TAIL_BYTES = 16384
"""Of log.jsonl, which may be long: its last lines are enough."""
ACTIVE = ("running", "waiting", "pending", "stopped", "failed", "unreadable")


@dataclass(frozen=True)
class JobView:
    """A Slurm job of a run; `state` is Slurm's, or `forgotten` when Slurm no longer knows it."""

    stage: str
    task: str
    state: str
    reason: str


@dataclass(frozen=True)
class View:
    """How far a run is. `tokens_per_second` counts supervised tokens of all processes, between log lines."""

    run: str
    status: str
    stage: str = ""
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None
    started_at: str = ""
    note: str = ""
    jobs: list[JobView] = field(default_factory=list)
    shards: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def views(root: Path) -> list[View]:
    """Every run in `root` that is not done, the last started first. InputError without such a folder."""
    if not root.is_dir():
        raise InputError(f"there is no results folder {root}; give one with --results DIR")
    runs = runs_in(root)
    queue = _Queue(runs)
    found = [view_of(run, queue) for run in runs]
    active = [view for view in found if view.status in ACTIVE or _alive(view)]
    return sorted(active, key=lambda view: (view.started_at, view.run), reverse=True)


def view(run: RunDir) -> View:
    """One run, done or not."""
    return view_of(run, _Queue([run]))


class _Queue:
    """Slurm's view of all jobs that runs were submitted as, asked for once; empty without Slurm."""

    def __init__(self, runs: Sequence[RunDir]) -> None:
        self._of_run = {run.path: _submitted(run) for run in runs}
        ids = sorted({str(job["id"]) for jobs in self._of_run.values() for job in jobs})
        self.note = ""
        self.entries: list[slurm.Entry] = []
        try:
            self.entries = slurm.queue(ids)
        except MathreasonError as error:
            self.note = str(error)

    def jobs(self, run: RunDir) -> list[JobView]:
        found = []
        for job in self._of_run[run.path]:
            mine = [entry for entry in self.entries if entry.job == str(job["id"])]
            if not mine and not self.note:
                found.append(JobView(job["stage"], str(job["id"]), "FORGOTTEN", ""))
            found += [JobView(job["stage"], entry.task, entry.state, entry.reason) for entry in mine]
        return found


def view_of(run: RunDir, queue: _Queue) -> View:
    """One run with its jobs in `queue`."""
    jobs = queue.jobs(run)
    try:
        state = read_json(run.run)
    except InputError as error:
        return View(run.id, "unreadable", note=str(error), jobs=jobs)
    status = _status(state, jobs, queue.note)
    note = str(state.get("error") or state.get("reason") or "") if status in ("failed", "stopped") else ""
    reasons = [job for job in jobs if job.state == "PENDING" and job.reason not in ("None", "")]
    if status in ("waiting", "pending") and reasons:
        note = ", ".join(f"{job.stage}: {job.reason}" for job in reasons)
    if status == "done" and not jobs:
        return View(run.id, status)
    return View(
        run.id,
        status,
        str(state.get("stage") or ""),
        started_at=str(state.get("started_at", "")),
        note=note,
        jobs=jobs,
        shards=_shards(run),
        **_progress(run, status),
    )


def _status(state: dict[str, Any], jobs: list[JobView], unknown: str) -> str:
    """The run's own word, corrected by what Slurm knows better."""
    said = status_of(state)
    alive = {job.state for job in jobs if job.state not in slurm.OVER and job.state != "FORGOTTEN"}
    if said in ("pending", "stopped") and "RUNNING" not in alive and alive:
        return "waiting"
    if said == "running" and jobs and not alive and not unknown:
        return "stopped"  # on another host, whose processes nobody here can see
    return said


def _alive(view: View) -> bool:
    return any(job.state not in slurm.OVER and job.state != "FORGOTTEN" for job in view.jobs)


def _submitted(run: RunDir) -> list[dict[str, Any]]:
    if not (run.path / "slurm" / SUBMISSION).is_file():
        return []
    try:
        jobs: list[dict[str, Any]] = read_json(run.path / "slurm" / SUBMISSION)["jobs"]
    except InputError:
        return []
    return jobs


def _shards(run: RunDir) -> dict[str, str]:
    found = {}
    for path in run.shard_states():
        try:
            found[path.stem] = status_of(read_json(path))
        except InputError as error:
            found[path.stem] = f"unreadable: {error}"
    return found


# -- how far ---------------------------------------------------------------------------------------


def _progress(run: RunDir, status: str) -> dict[str, Any]:
    lines = [line for line in _last_lines(run.log) if "loss" in line]
    if not lines or run.train.is_file():
        return {}
    last = lines[-1]
    steps = _steps(run, last)
    progress: dict[str, Any] = {"step": last["step"], "steps": steps, "loss": last["loss"]}
    if status == "running" and len(lines) > 1:
        before = lines[-2]
        seconds = _seconds(before["time"], last["time"])
        done = last["step"] - before["step"]
        if seconds > 0 and done > 0:
            progress["tokens_per_second"] = last.get("supervised_tokens", 0) / seconds
            if steps is not None:
                progress["eta_seconds"] = (steps - last["step"]) * seconds / done
    return progress


def _steps(run: RunDir, line: dict[str, Any]) -> int | None:
    """All optimizer steps of the training: as the job says, or by how much of the epochs is through."""
    try:
        training = load_job(run.job).training
    except InputError:
        return None
    if training.max_steps is not None:
        return training.max_steps
    return round(line["step"] / line["epoch"] * training.epochs) if line.get("epoch") else None


def _seconds(before: str, after: str) -> float:
    return (datetime.fromisoformat(after) - datetime.fromisoformat(before)).total_seconds()


def _last_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The complete lines at the end of a log; none where there is no log."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            raw = file.read()
    except FileNotFoundError:
        return
    complete = raw[: raw.rfind(b"\n") + 1]
    for line in complete.splitlines()[0 if size <= TAIL_BYTES else 1 :]:
        with suppress(ValueError):  # of a disk that was full; what goes on with the run removes it
            yield json.loads(line)
