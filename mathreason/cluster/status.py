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
from typing import Any, NamedTuple

from mathreason.cluster import slurm
from mathreason.cluster.submit import SUBMISSION
from mathreason.errors import InputError, MathreasonError
from mathreason.jobfile import load_job
from mathreason.listing import OTHER_SHAPE, runs_in
from mathreason.results import RunDir, read_json
from mathreason.session import status_of

TAIL_BYTES = 16384
"""Of log.jsonl, which may be long: its last lines are enough."""
FORGOTTEN, UNKNOWN = "FORGOTTEN", "UNKNOWN"
"""States of a job that Slurm no longer knows (some minutes after its end), and where it cannot be asked."""
ACTIVE = ("running", "waiting", "pending", "stopped", "failed", "unreadable")


@dataclass(frozen=True)
class JobView:
    """A Slurm job of a run; `state` is Slurm's, or FORGOTTEN or UNKNOWN."""

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
    """Every run and sweep in `root` that is not done, the last started first.

    Raises InputError without such a folder.
    """
    if not root.is_dir():
        raise InputError(f"there is no results folder {root}; give one with --results DIR")
    runs = [*runs_in(root), *_sweeps_in(root)]
    queue = _Queue(runs)
    found = [view_of(run, queue) for run in runs]
    active = [view for view in found if view.status in ACTIVE or _alive(view.jobs)]
    return sorted(active, key=lambda view: (view.started_at, view.run), reverse=True)


def view(run: RunDir) -> View:
    """One run, done or not."""
    return view_of(run, _Queue([run]))


def _sweeps_in(root: Path) -> list[RunDir]:
    """Folders of submitted sweeps: no runs themselves, they have Slurm's jobs alone."""
    found = [path.parent.parent for path in root.glob(f"*/slurm/{SUBMISSION}")]
    return [RunDir(path) for path in found if not (path / "job.yaml").is_file()]


class _Submitted(NamedTuple):
    """A job that was given to Slurm: of which stage, its number, and on which cluster if that is known."""

    stage: str
    number: str
    cluster: str | None


class _Queue:
    """Slurm's view of all jobs that runs were submitted as, asked for once; empty without Slurm.

    Clusters that share a file system number their jobs each for itself: of another's nothing is known here.
    """

    def __init__(self, runs: Sequence[RunDir]) -> None:
        self._of_run = {run.path: _jobs_of(run) for run in runs}
        jobs = [job for jobs in self._of_run.values() for job in jobs]
        self.cluster = slurm.cluster() if any(job.cluster for job in jobs) else None
        ids = sorted({job.number for job in jobs if not self._is_elsewhere(job)})
        self.note = ""
        self.entries: dict[str, list[slurm.Entry]] = {}
        try:
            for entry in slurm.queue(ids):
                self.entries.setdefault(entry.job, []).append(entry)
        except MathreasonError as error:
            self.note = str(error)

    def jobs(self, run: RunDir) -> list[JobView]:
        found = []
        for job in self._of_run[run.path]:
            stage, number, cluster = job
            if self._is_elsewhere(job):
                found.append(JobView(stage, number, UNKNOWN, f"on cluster {cluster}"))
                continue
            array, _, task = number.partition("_")
            mine = [each for each in self.entries.get(array, []) if not task or each.task == number]
            if not mine:
                found.append(JobView(stage, number, UNKNOWN if self.note else FORGOTTEN, self.note))
            found += [JobView(stage, entry.task, entry.state, entry.reason) for entry in mine]
        return found

    def _is_elsewhere(self, job: _Submitted) -> bool:
        return slurm.is_another(job.cluster, self.cluster)


def view_of(run: RunDir, queue: _Queue) -> View:
    """One run with its jobs in `queue`."""
    jobs = queue.jobs(run)
    try:
        return _view(run, jobs)
    except InputError as error:
        return View(run.id, "unreadable", note=str(error), jobs=jobs)
    except OTHER_SHAPE as error:
        return View(run.id, "unreadable", note=f"its JSON is not mathreason's: {error!r}", jobs=jobs)


def _view(run: RunDir, jobs: list[JobView]) -> View:
    state = read_json(run.run) if run.run.is_file() else {}
    shards = {path.stem: read_json(path) for path in run.shard_states()}
    status, note = _status(run, state, jobs, shards)
    if status == "done" and not jobs:
        return View(run.id, status)
    return View(
        run.id,
        status,
        str(state.get("stage") or ""),
        started_at=str(state.get("started_at", "")),
        note=note,
        jobs=jobs,
        shards={name: status_of(shard) for name, shard in shards.items()},
        **_progress(run, status),
    )


def _status(
    run: RunDir, state: dict[str, Any], jobs: list[JobView], shards: dict[str, dict[str, Any]]
) -> tuple[str, str]:
    """(status, note): the run's own word and that of its shards, corrected by what Slurm knows better."""
    said, alive = status_of(state), _alive(jobs)
    over = bool(jobs) and not alive and all(job.state != UNKNOWN for job in jobs)
    if said == "failed" and not any(job.stage == "train" for job in alive):  # which would try again
        return said, str(state.get("error") or "")
    if said == "running":  # on another host, maybe, whose processes nobody here can see
        if over:
            return _ended(run, said, jobs)
        own = state.get("slurm_job")
        if not any(job.task == own and job.state == "PENDING" for job in jobs):
            return said, ""
        # Its node was lost, and Slurm has requeued it.
    if any(status_of(shard) == "running" for shard in shards.values()):
        if over:
            return _ended(run, "running", jobs)
        if not alive or any(job.state != "PENDING" for job in alive):
            return "running", ""
    if any(job.state == "RUNNING" for job in alive):
        if run.job.is_file():
            return ("pending" if said == "failed" else said), ""
        return "running", ""  # a sweep
    if alive:
        waits = [job for job in alive if job.state == "PENDING" and job.reason not in ("None", "")]
        return "waiting", ", ".join(f"{job.stage}: {job.reason}" for job in waits)
    if failed := [name for name, shard in shards.items() if status_of(shard) == "failed"]:
        return "failed", f"shard {failed[0]}: {shards[failed[0]].get('error', '')}"
    if over and _is_unfinished(run, said, jobs):
        return _ended(run, said, jobs)
    return said, str(state.get("reason") or "") if said == "stopped" else ""


def _is_unfinished(run: RunDir, said: str, jobs: list[JobView]) -> bool:
    """Whether jobs that are all over have left undone what they were submitted for."""
    if said == "done":
        return any(job.stage == "report" for job in jobs) and not _is_reported(run)
    return said == "pending" or any(job.state in slurm.BAD for job in jobs)


def _is_reported(run: RunDir) -> bool:
    """Whether both models are evaluated and reported on; a comparison there is of the base alone as well."""
    try:
        benchmarks = load_job(run.job).evaluation.benchmarks
    except InputError:
        return run.report.is_file()
    results = [run.evaluation(each.name, side) for each in benchmarks for side in ("base", "tuned")]
    return all(path.is_file() for path in [*results, run.report])


def _ended(run: RunDir, said: str, jobs: list[JobView]) -> tuple[str, str]:
    """Why nothing is at work, as far as Slurm says it."""
    if bad := [job for job in jobs if job.state in slurm.BAD]:
        stages = ", ".join(f"{job.stage}: {job.state} ({job.reason})" for job in bad)
        return "failed", f"{stages}; see {run.path / 'slurm'}"
    if said == "running" or any(job.state == "CANCELLED" for job in jobs):
        return "stopped", ", ".join(f"{job.stage}: {job.state.lower()}" for job in jobs)
    if not run.job.is_file():  # a sweep, whose runs say the rest
        return "done", ""
    return "failed", f"its jobs are gone, and they have not done it all; see {run.path / 'slurm'}"


def _alive(jobs: list[JobView]) -> list[JobView]:
    return [job for job in jobs if job.state not in slurm.OVER and job.state not in (FORGOTTEN, UNKNOWN)]


def _jobs_of(run: RunDir) -> list[_Submitted]:
    """The jobs that the run was submitted as, and that which works or worked on it.

    That one is another where a batch script was given to sbatch by hand.
    """
    found: list[_Submitted] = []
    with suppress(InputError, *OTHER_SHAPE):
        if (run.path / "slurm" / SUBMISSION).is_file():
            document = read_json(run.path / "slurm" / SUBMISSION)
            cluster = document.get("cluster")
            found = [_Submitted(str(job["stage"]), str(job["id"]), cluster) for job in document["jobs"]]
    known = {job.number for job in found}
    for path in (run.run, *run.shard_states()):
        with suppress(InputError, *OTHER_SHAPE):
            state = read_json(path)
            number = str(state.get("slurm_job") or "")
            if state.get("status") != "done" and number and not {number, number.partition("_")[0]} & known:
                found.append(_Submitted("job", number, state.get("slurm_cluster")))
                known.add(number)
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
