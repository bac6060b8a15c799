"""A session: one command working on one run, with its job, its folder and its status.

    with open_session("jobs/quickstart.yaml", overrides, results, data_dir) as session:
        with session.stage("train"):
            ...

A target is a job file (whose run directory is found by name and hash) or a run directory. While a
session is open, run.json says `running` and which process; a second process on the same host is refused, and
one on another host takes the run over (`mathreason.ownership`).
A process that was killed leaves `running` behind, and the next one sees that it is gone and goes on.
One that is asked to stop (`mathreason.training.stopping`) does so at its next safe point, and run.json says
`stopped` and why. Of processes that train together only rank 0 keeps status and log.
Processes that share an evaluation (shards) each keep a status and a log of their own in `shards/`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mathreason.config import JobConfig
from mathreason.errors import InputError, MathreasonError
from mathreason.jobfile import dump_job, load_job, run_id
from mathreason.ownership import owning, require_ours
from mathreason.progress import Reporter
from mathreason.results import (
    RunDir,
    Shard,
    content_hash,
    make_directory,
    now,
    process_space,
    provenance_of,
    read_json,
    write_json,
    write_text,
)
from mathreason.training import ranks
from mathreason.training.stopping import STOP_FILE, Stopped, listening, safe_point

RUN_FILE = "run.json"


@dataclass(frozen=True)
class Target:
    """What a command was pointed at, resolved."""

    job: JobConfig
    run: RunDir
    data_dir: Path | None


@dataclass
class Session:
    """An open run: its target, where to report, and the run.json being kept."""

    job: JobConfig
    run: RunDir
    data_dir: Path | None
    reporter: Reporter
    state_path: Path
    state: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Note when `name` began and how long it took, in run.json and on screen; begins at a safe point."""
        safe_point()
        self.state["stage"] = name
        self._save()
        started = time.monotonic()
        yield
        seconds = time.monotonic() - started
        self.state["stages"][name] = {"finished_at": now(), "seconds": round(seconds, 2)}
        self.reporter.note(f"{name}: {seconds:.1f} s")
        self._save()

    def _save(self) -> None:
        if ranks.rank() == 0:
            require_ours()
            write_json(self.state_path, self.state)


def resolve(target: str, overrides: list[str], results: Path | None, data_dir: Path | None) -> Target:
    """The job and run directory behind `target`, a job file or a run directory (or its id in `results`)."""
    folder = _run_folder(target, results)
    if folder is None:
        job = load_job(Path(target), overrides)
        if job.sweep is not None:
            raise InputError(f"{target} has a sweep: of several runs; use `mathreason sweep {target}`")
        root = results or Path(os.environ.get("MATHREASON_RESULTS") or job.output.results)
        return Target(job, RunDir(root / run_id(job)), data_dir)
    run = RunDir(folder).require()
    job = load_job(run.job, overrides)
    trained = run.train.is_file()
    if _training_identity(job, trained) != _training_identity(load_job(run.job), trained):
        raise InputError(
            f"--set changes what {run.path} was trained with, so it would be another run. "
            "On a run directory only evaluation.* can be set; for the rest give a job file."
        )
    return Target(job, run, data_dir)


def _run_folder(target: str, results: Path | None) -> Path | None:
    path = Path(target)
    if path.is_dir():
        return path
    inside = results_root(results) / target
    if not path.exists() and (inside / RUN_FILE).is_file():
        return inside
    return None


def results_root(results: Path | None) -> Path:
    """The results folder: the option, else MATHREASON_RESULTS, else `results`."""
    return results or Path(os.environ.get("MATHREASON_RESULTS") or "results")


def _training_identity(job: JobConfig, trained: bool) -> dict[str, Any]:
    free = ("audited_against", "selected_with") if trained else ("audited_against",)
    return {key: value for key, value in job.identity().items() if key not in free}


@contextmanager
def open_session(
    target: Target, shard: Shard | None = None, deadline: float | None = None
) -> Iterator[Session]:
    """Work on a run: creates its folder, keeps its status, and notes how it ended.

    `deadline`, in seconds since the epoch, is when it must have ended. Raises InputError when the folder
    cannot be written or another process on this host is working on it (on the same shard of it), and
    `Stopped` when it was asked to stop and everything is kept.
    """
    run = target.run
    make_directory(run.path)
    state_path, log = (run.shard_state(shard), run.shard_log(shard)) if shard else (run.run, run.log_text)
    make_directory(state_path.parent)
    previous = read_json(state_path) if state_path.is_file() else {}
    speaks = ranks.rank() == 0
    if speaks:
        _refuse_second(previous, run)
        write_text(run.job, dump_job(target.job))
    stop_file = run.path / STOP_FILE
    with (
        Reporter(log if speaks else None, quiet=not speaks) as reporter,
        provenance_of(job_provenance(target.job)),
        listening(stop_file, deadline, alone=lambda: shard is None and not _shards_at_work(run)) as request,
    ):
        if shard:
            _note_pending(target)
        started = _started(target.job, previous)
        session = Session(target.job, run, target.data_dir, reporter, state_path, started)
        session._save()
        reporter.say(f"run {run.id} in {run.path}")
        if speaks and request.found_before:
            reporter.warn(f"{stop_file} was there from before; the run goes on")
            request.clear()
        # Of processes that train together the status knows the first.
        claim = owning(state_path, session.state["process"]) if speaks else nullcontext()
        with claim, _status_kept(session):
            yield session


def _shards_at_work(run: RunDir) -> bool:
    """Whether others share an evaluation of the run, who are to see a STOP file as well."""
    return any(status_of(read_json(path)) == "running" for path in run.shard_states())


def set_up(target: Target) -> None:
    """Make the folder of a run that is to be worked on later, with its job and the status `pending`."""
    make_directory(target.run.path)
    with provenance_of(job_provenance(target.job)):
        write_text(target.run.job, dump_job(target.job))  # evaluation may differ from an earlier call's
        _note_pending(target)


def _note_pending(target: Target) -> None:
    if not target.run.run.is_file():
        begun = {"process": None, "slurm_job": None, "slurm_cluster": None, "starts": 0}
        state = {**_started(target.job, {}), "status": "pending", **begun}
        write_json(target.run.run, state)


@contextmanager
def _status_kept(session: Session) -> Iterator[None]:
    """Note in run.json how the session ended."""
    ended = "failed"
    try:
        yield
        ended = "done"
    except (Stopped, KeyboardInterrupt) as stop:
        ended = "stopped"
        session.state["reason"] = str(stop) or "Ctrl-C"
        session.reporter.say(f"stopped by {session.state['reason']}; the same command goes on from there")
        raise
    except Exception as error:
        session.state["error"] = str(error) or type(error).__name__
        # Where the disk is full this fails as well; the error under way is the one to be seen.
        with suppress(OSError):
            session.reporter.note(f"failed: {error}")
        raise
    finally:
        session.state.update(status=ended, process=None, finished_at=now())
        with suppress(MathreasonError) if ended == "failed" else nullcontext():
            session._save()


def job_provenance(job: JobConfig) -> dict[str, Any]:
    """What every result of a job says of it: its hash and its seeds."""
    seeds = {"data": job.data.seed, "training": job.training.seed, "evaluation": job.evaluation.seed}
    return {"job_hash": content_hash(job.identity()), "seeds": seeds}


def _started(job: JobConfig, previous: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": job.name,
        "status": "running",
        "stage": None,
        "model": job.model.name,
        **job_provenance(job),
        "started_at": previous.get("started_at") or now(),
        "finished_at": None,
        "starts": int(previous.get("starts", 0)) + 1,
        "process": {
            "host": process_space(),
            "pid": os.getpid(),
            "born": _born(os.getpid()),
        },
        "slurm_job": _slurm_job(),
        "slurm_cluster": os.environ.get("SLURM_CLUSTER_NAME"),
        "stages": previous.get("stages", {}),
    }


def _slurm_job() -> str | None:
    """The Slurm job that this process belongs to, as squeue names it: 4711, or 4711_3 of an array."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def _refuse_second(previous: dict[str, Any], run: RunDir) -> None:
    process = previous.get("process")
    if previous.get("status") != "running" or not process or process["host"] != process_space():
        return
    if (
        process["pid"] != os.getpid()
        and process["born"] is not None
        and _born(process["pid"]) == process["born"]
    ):
        raise InputError(f"process {process['pid']} is working on {run.path}; wait for it or stop it")


def _born(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot (proc(5), field 22), None where it is not running.

    Nor is one that has ended and that nobody has waited for, which in a container without an init stays so.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return None


def status_of(state: dict[str, Any]) -> str:
    """The status a reader should believe: `running` by a process of this host that is gone is `stopped`."""
    process = state.get("process")
    if state.get("status") == "running" and process and process["host"] == process_space():
        alive = process["born"] is None or _born(process["pid"]) == process["born"]
        return "running" if alive else "stopped"
    return str(state.get("status", "pending"))


def find_run(name: str, results: Path | None) -> RunDir:
    """The run directory `name`, a path or an id in the results folder."""
    folder = _run_folder(name, results)
    if folder is None:
        raise InputError(
            f"there is no run '{name}', as a folder or in {results_root(results)}; "
            "`mathreason results` lists the runs there are"
        )
    return RunDir(folder).require()
