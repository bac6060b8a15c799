"""A real Slurm for the tests.

    with one_node() as cluster:                  # claims a production node: 64 CPUs, 8 GPUs of type a100
        job = cluster.submit("slurm/train_mistral.sh", "job.yaml", cwd=place)
        assert cluster.ended(job)["JobState"] == "COMPLETED"

Engines are started by the scripts in `engines/` and need root, Debian's slurm-wlm and munge and, for several
nodes, iproute2 and iptables. A cluster has its own folder and ports; that of several nodes also the machine's
only set of networks, which a lock guards. Where an engine is missing the tests are skipped, in CI they fail.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import ROOT

ENGINES = ROOT / "tests" / "engines"
LOCK = Path("/tmp/mathreason-tests-slurm.lock")
PATIENCE_SECONDS = 240.0
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY")
NODE = {"FAKE_CPUS": "64", "FAKE_MEM": "512000", "GPU_TYPE": "a100", "GPUS": "8"}

Facts = dict[str, str]
"""What `scontrol show job` says of a job, such as JobState, Restarts, ExitCode."""


def until(moment: Callable[[], bool], what: str, patience: float = PATIENCE_SECONDS) -> None:
    """Return as soon as `moment` holds; fails, naming `what` was waited for, when it never does."""
    deadline = time.monotonic() + patience
    while not moment():
        assert time.monotonic() < deadline, f"waited {patience:.0f} s for {what}"
        time.sleep(0.1)


@dataclass(frozen=True)
class Cluster:
    """A Slurm that is up. `environment` is that of a user who is logged in to it."""

    folder: Path
    environment: dict[str, str]

    def run(
        self, *command: str | Path, cwd: Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """A command as the user would type it in `cwd`, with `variables` exported before."""
        return subprocess.run(
            [*map(str, command)],
            capture_output=True,
            text=True,
            cwd=cwd,
            env={**self.environment, **variables},
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def output(self, *command: str | Path, cwd: Path | None = None, **variables: str) -> str:
        """Standard output of a command that succeeds."""
        done = self.run(*command, cwd=cwd, **variables)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, *arguments: str | Path, cwd: Path, **variables: str) -> str:
        """`sbatch ARGUMENTS` in `cwd`; the id of the job."""
        return self.output("sbatch", "--parsable", *arguments, cwd=cwd, **variables).strip()

    def tasks(self, job: str) -> list[Facts]:
        """Facts of a job, of each task when it is an array."""
        lines = self.output("scontrol", "show", "job", "--oneliner", job).splitlines()
        return [dict(reversed(re.findall(r"(\S+?)=(\S*)", line))) for line in lines if line.strip()]

    def facts(self, job: str) -> Facts:
        [facts] = self.tasks(job)
        return facts

    def restarts(self, job: str) -> int:
        return int(self.facts(job)["Restarts"])

    def ended(self, job: str, patience: float = PATIENCE_SECONDS) -> Facts:
        """Facts of a job when it has ended."""
        until(lambda: self.facts(job)["JobState"] in ENDED, f"the end of job {job}", patience)
        return self.facts(job)

    def preempt(self, job: str) -> None:
        """What Slurm does some time before it takes the job's node: USR1 to the batch shell alone."""
        self.output("scancel", "--batch", "--signal=USR1", job)

    def queue(self) -> list[str]:
        """What waits or runs: id, name, state and reason of each job."""
        return self.output("squeue", "--noheader", "--array", "--format=%i %j %T %r").splitlines()

    def kill_node(self, number: int) -> None:
        """The node loses its power: SIGKILL to all that it runs."""
        os.kill(int((self.folder / "run" / f"node{number}.pid").read_text()), signal.SIGKILL)


@contextmanager
def one_node() -> Iterator[Cluster]:
    """One node with the resources of `NODE`."""
    with _cluster("slurm-one-up.sh", needs=("slurmctld", "munged"), variables=NODE) as cluster:
        yield cluster


@contextmanager
def several_nodes(count: int) -> Iterator[Cluster]:
    """`count` nodes, called node1 and so on, each with one GPU, its own network and its own processes."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        needs = ("slurmctld", "munged", "ip", "iptables")
        with _cluster("slurm-nodes-up.sh", str(count), needs=needs) as cluster:
            yield cluster


@contextmanager
def _cluster(
    script: str, *arguments: str, needs: tuple[str, ...], variables: dict[str, str] | None = None
) -> Iterator[Cluster]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    if missing := [name for name in needs if shutil.which(name, path=path) is None]:
        missing_engine(f"{', '.join(missing)} (apt-get install slurm-wlm munge iproute2 iptables)")
    if os.geteuid() != 0:
        missing_engine("root, to start Slurm's daemons")
    with ExitStack() as stack:
        # Short, for a socket's path has 108 characters at most; and readable by other users.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))
        folder.chmod(0o755)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SLURM_")},
            "PATH": path,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "SLURM_CONF": str(folder / "slurm.conf"),
        }
        cluster = Cluster(folder, environment)
        stack.callback(cluster.run, ENGINES / "slurm-down.sh", folder)
        cluster.output(ENGINES / script, folder, str(_free_port()), *arguments, **(variables or {}))
        stack.callback(_clear, cluster)
        yield cluster


def _clear(cluster: Cluster) -> None:
    """End what still runs, so that no process outlives the cluster."""
    jobs = cluster.run("squeue", "--noheader", "--format=%A").stdout.split()
    if not jobs:
        return
    cluster.run("scancel", "--full", "--signal=KILL", *jobs)
    cluster.run("scancel", *jobs)
    until(lambda: not cluster.run("squeue", "--noheader").stdout.strip(), "the cluster to be empty", 30)


def missing_engine(what: str) -> None:
    """Skip the test at hand; in CI, where everything must be there, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"missing: {what}")
    pytest.skip(f"missing: {what}")


def _free_port() -> int:
    """The first of two free ports, one after the other."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("", port + 1))
            except OSError:
                continue
            return port
