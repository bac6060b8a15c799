"""Submitting: the chain of jobs for one run or sweep, its scripts, and what is refused beforehand.

    jobs = jobs_of(steps, "mistral-7b", resources, place, folder)
    for line in described(jobs): print(line)                      # what would be submitted
    submission = submit(jobs, folder)                             # writes scripts, calls sbatch

The scripts lie in `folder` (RUN/slurm/) together with a copy of the helper they read, so that what is queued
does not change with the checkout. `submission.json` there says what was submitted.
"""

from __future__ import annotations

import shlex
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mathreason.cluster import slurm
from mathreason.cluster.scripts import Place, Resources, Step, script
from mathreason.errors import InputError, MathreasonError
from mathreason.results import make_directory, now, read_json, write_json, write_text

SUBMISSION = "submission.json"
HELPER = "common.sh"
_IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")
_OWN = ("/tmp", "/var/tmp")  # noqa: S108  to be refused, not used


@dataclass(frozen=True)
class Job:
    """A step with its script and where that will lie."""

    step: Step
    path: Path
    text: str


def helper_file() -> Path:
    """slurm/common.sh of the checkout, or the copy in the installed package."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "slurm" / HELPER
    return inside if inside.is_file() else package.parent / "slurm" / HELPER


def jobs_of(steps: Sequence[Step], name: str, resources: Resources, place: Place, folder: Path) -> list[Job]:
    """The jobs of `steps`, in the order in which they are submitted. Writes nothing."""
    followed = {other for step in steps for other in step.after}
    return [
        Job(
            step,
            folder / f"{step.name}.sh",
            script(step, name, resources, place, waits_for=step.name in followed),
        )
        for step in steps
    ]


def command_of(job: Job, ids: Mapping[str, str]) -> list[str]:
    """The arguments of sbatch, once the numbers of the steps before are known."""
    dependencies = [f"afterok:{ids[name]}" for name in job.step.after]
    others = []
    if job.step.unless is not None:
        dependencies.append(f"afternotok:{ids[job.step.unless]}")
        others = [ids["base"]]
    log = "%x-%A_%a.log" if job.step.array else "%x-%j.log"
    # In a file name for Slurm a percent sign begins a pattern.
    folder = str(job.path.parent).replace("%", "%%")
    return [
        f"--output={folder}/{log}",
        *([f"--dependency={','.join(dependencies)}"] if dependencies else []),
        str(job.path),
        *others,
    ]


def described(jobs: Sequence[Job]) -> Iterator[str]:
    """Scripts and command lines as they would be submitted; a number not known yet is a step's name."""
    ids = {job.step.name: f"<{job.step.name}>" for job in jobs}
    for job in jobs:
        yield f"# {job.path}"
        yield job.text.rstrip("\n")
        yield f"# sbatch {shlex.join(command_of(job, ids))}\n"


def submit(jobs: Sequence[Job], folder: Path) -> dict[str, Any]:
    """Write the scripts and submit them; the content of submission.json.

    Raises InputError where jobs of an earlier submission are still queued, or Slurm refuses one. Then, and
    after Ctrl-C, those submitted before are cancelled: the rest of the chain would never follow them.
    """
    refuse_second(folder)
    make_directory(folder)
    shutil.copyfile(helper_file(), folder / HELPER)
    for job in jobs:
        write_text(job.path, job.text)
    ids: dict[str, str] = {}
    cluster = slurm.cluster()
    submitted: list[dict[str, Any]] = []
    try:
        for job in jobs:
            arguments = command_of(job, ids)
            ids[job.step.name] = slurm.sbatch(arguments)
            submitted.append(_entry(job, ids))
            # After each one: should this process be killed, what is queued is known.
            document = {"submitted_at": now(), "cluster": cluster, "jobs": submitted}
            write_json(folder / SUBMISSION, document)
    except (MathreasonError, KeyboardInterrupt):
        if ids:
            slurm.cancel(list(ids.values()))
        raise
    return document


def _entry(job: Job, ids: Mapping[str, str]) -> dict[str, Any]:
    step = job.step
    before = [*step.after, *([step.unless] if step.unless else [])]
    return {
        "stage": step.name,
        "id": ids[step.name],
        "script": job.path.name,
        "depends_on": [ids[name] for name in before],
        "array": f"1-{step.array}" if step.array else None,
    }


def refuse_second(folder: Path) -> None:
    """Raise InputError while jobs of the last submission wait or run, unless another cluster has them."""
    path = folder / SUBMISSION
    if not path.is_file() or submitted_elsewhere(folder):
        return
    ids = [str(job["id"]) for job in read_json(path)["jobs"]]
    alive = sorted({entry.job for entry in slurm.queue(ids) if not entry.is_over})
    if alive:
        raise InputError(
            f"{folder.parent} is submitted already: jobs {', '.join(alive)} wait or run; "
            f"`mathreason status` shows them, `scancel {' '.join(alive)}` ends them"
        )


def submitted_elsewhere(folder: Path) -> str | None:
    """The other cluster that has the jobs of the last submission, of which nothing is known here."""
    path = folder / SUBMISSION
    cluster = read_json(path).get("cluster") if path.is_file() else None
    return cluster if slurm.is_another(cluster, slurm.cluster()) else None


def refuse_unshared(results: Path) -> None:
    """Raise InputError for a results folder of this host's own, where Slurm has other hosts.

    That is /tmp, /var/tmp and file systems in memory; whether another one is shared shows nowhere.
    """
    place, kind = results.resolve(), file_system_of(results)
    own = kind in _IN_MEMORY or any(Path(folder) in place.parents for folder in _OWN)
    if own and (others := slurm.hosts() - {socket.gethostname().partition(".")[0]}):
        some = ", ".join(sorted(others)[:3])
        raise InputError(
            f"the results folder {results} is this host's own ({kind}); {some} would not see it; "
            "choose a shared one with --results DIR or MATHREASON_RESULTS"
        )


def file_system_of(path: Path) -> str:
    """Type of the file system of `path`, which may not exist yet, by /proc/self/mounts; else 'unknown'."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown"
    place = path.resolve()
    best, kind = "", "unknown"
    for line in lines:
        _, mount, this, *_ = line.split(" ")
        mount = mount.replace("\\040", " ")
        if (place == Path(mount) or Path(mount) in place.parents) and len(mount) >= len(best):
            best, kind = mount, this
    return kind
