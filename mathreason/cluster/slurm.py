"""Slurm's own programs, called: what they print becomes values, what they refuse an InputError.

identifier = sbatch(["--time=1:00:00", "script.sh", "argument"])     # "4711"
for entry in queue(["4711"]): print(entry.state, entry.reason)
"""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from mathreason.errors import InputError, MathreasonError

OVER = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
}
"""States of a job that will not run again (squeue(1), JOB STATE CODES)."""
BAD = OVER - {"CANCELLED", "COMPLETED"}
"""Of these the states that say that something went wrong."""
GPU_GIB = {
    "p100": 16,
    "t4": 16,
    "v100": 32,
    "a10": 24,
    "a30": 24,
    "a40": 48,
    "a6000": 48,
    "a100": 80,
    "l4": 24,
    "l40": 48,
    "l40s": 48,
    "h100": 94,
    "h200": 141,
    "b200": 180,
}
"""The largest memory that NVIDIA's data sheets give for a GPU of that name."""
PATIENCE_SECONDS = 60.0
AT_ONCE = 2000
"""Jobs asked for in one call: the system limits an argument to 128 KiB (execve(2))."""


@dataclass(frozen=True)
class Entry:
    """A line of squeue: `task` is 4711, or 4711_3 or 4711_[1-4] of an array."""

    task: str
    job: str
    state: str
    reason: str

    @property
    def is_over(self) -> bool:
        return self.state in OVER


def require() -> None:
    """Raise InputError where there is no Slurm to submit to."""
    if shutil.which("sbatch") is None:
        raise InputError(_absent("sbatch"))


def _absent(program: str) -> str:
    return f"there is no {program} here; call this where Slurm's programs are, or add --dry-run"


def sbatch(arguments: Sequence[str]) -> str:
    """Submit a script; the job's number. InputError with Slurm's own words when it is refused."""
    done = _call(
        ["sbatch", "--parsable", *arguments],
        "it may have queued the job all the same; look at `squeue --me` before you submit again",
    )
    if done.returncode:
        said = " ".join(done.stderr.replace("sbatch: error:", "").split())
        raise InputError(f"Slurm refused the job: {said}")
    return done.stdout.strip().partition(";")[0]


def queue(jobs: Sequence[str] | None = None) -> list[Entry]:
    """What Slurm knows of `jobs` by number, of this user's without; those it has forgotten are left out."""
    if jobs is None:
        return _squeue(f"--user={getpass.getuser()}")
    parts = [jobs[at : at + AT_ONCE] for at in range(0, len(jobs), AT_ONCE)]
    return [entry for part in parts for entry in _squeue(f"--jobs={','.join(part)}")]


def _squeue(which: str) -> list[Entry]:
    done = _call(["squeue", "--noheader", "--states=all", "--format=%i|%F|%T|%r", which])
    if done.returncode:
        if "Invalid job id" in done.stderr:  # all of them forgotten
            return []
        raise MathreasonError(f"squeue failed: {' '.join(done.stderr.split())}")
    return [Entry(*line.split("|", 3)) for line in done.stdout.splitlines() if line]


def cluster() -> str | None:
    """Name of the cluster that these programs speak to; None where Slurm is not here or does not answer."""
    try:
        done = _call(["scontrol", "show", "config"])
    except MathreasonError:
        return None
    found = re.search(r"^ClusterName\s*=\s*(\S+)", done.stdout, re.MULTILINE)
    return found[1] if found else None


def is_another(cluster: str | None, here: str | None) -> bool:
    """Whether jobs of `cluster` are not those that can be asked about here; both names must be known."""
    return bool(cluster and here and cluster != here)


def largest_gpu(partitions: str | None) -> int | None:
    """GiB of the largest GPU of these partitions (with commas between), of the default one's without a name.

    By the types of the nodes' GRES, which sites name (a100) or Slurm finds out (nvidia_a100-sxm4-40gb). None
    where one of them says no size.
    """
    try:
        done = _call(["sinfo", "--noheader", "--format=%P %G"])
    except MathreasonError:
        return None
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.strip()]
    default = [name.rstrip("*") for name, _ in lines if name.endswith("*")]
    wanted = partitions.split(",") if partitions else default
    found = [gres for name, gres in lines if name.rstrip("*") in wanted]
    sizes = [_gib(kind) for gres in found for kind in re.findall(r"\bgpu:([^,()]+)", gres)]
    return max(sizes) if sizes and all(sizes) else None


def _gib(kind: str) -> int:
    """GiB of a GPU of this type, such as `a100:8` of a node that has eight; 0 where it does not say."""
    words = re.split(r"[^a-z0-9]+", kind.lower())
    stated = [int(word.removesuffix("gb")) for word in words if re.fullmatch(r"\d+gb", word)]
    return stated[0] if stated else max(GPU_GIB.get(word, 0) for word in words)


def hosts() -> set[str]:
    """Names of the cluster's nodes; none where Slurm is not here or does not answer."""
    try:
        done = _call(["sinfo", "--noheader", "--Node", "--format=%N"])
    except MathreasonError:
        return set()
    return set(done.stdout.split()) if done.returncode == 0 else set()


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs by number."""
    done = _call(["scancel", *jobs])
    if done.returncode:
        raise MathreasonError(f"scancel failed: {' '.join(done.stderr.split())}")


def _call(command: list[str], unanswered: str = "") -> subprocess.CompletedProcess[str]:
    """`unanswered`: what to say beside when the command does not end."""
    try:
        return subprocess.run(command, text=True, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
    except FileNotFoundError as error:
        raise InputError(_absent(command[0])) from error
    except subprocess.TimeoutExpired as error:
        said = f"{command[0]} did not answer within {PATIENCE_SECONDS:.0f} s"
        raise MathreasonError(f"{said}; {unanswered}" if unanswered else said) from error
