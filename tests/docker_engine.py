"""A real Docker engine for tests, and the project's own image built in it.

    with engine() as docker:
        docker.build("mathreason:tests")
        done = docker.run("--rm", "mathreason:tests", "--help")

The daemon is one of its own, started by a script in `engines/`; no public image is pulled.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import ROOT

ENGINES = ROOT / "tests" / "engines"
LOCK = Path("/tmp/mathreason-tests-docker.lock")
CLIENT = "/usr/bin/docker"
NEEDED = (CLIENT, "dockerd", "debootstrap", "iptables")
BASE = "mathreason-tests:base"
IMAGE = "mathreason:tests"


@dataclass(frozen=True)
class Docker:
    """A running daemon."""

    folder: Path

    @property
    def host(self) -> str:
        """What DOCKER_HOST is for its clients."""
        return f"unix://{self.folder}/docker.sock"

    def call(self, *arguments: str | Path, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """`docker …`."""
        return subprocess.run(
            [CLIENT, *map(str, arguments)],
            env={**os.environ, "DOCKER_HOST": self.host},
            text=True,
            capture_output=True,
            timeout=timeout,
            check=False,
        )

    def said(self, *arguments: str | Path) -> str:
        """What `docker …` prints; it must succeed."""
        done = self.call(*arguments)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def build(self) -> None:
        """The project's Dockerfile by its own script, with nothing replaced but the two images."""
        base = [str(ENGINES / "docker-base.sh"), BASE]
        arguments = ["--progress=plain", "--network=host", f"--tag={IMAGE}"]
        images = [f"--build-arg={name}={BASE}" for name in ("BUILD_IMAGE", "BASE_IMAGE")]
        build = [str(ROOT / "docker" / "build.sh"), *arguments, *images]
        environment = {
            **os.environ,
            "DOCKER_HOST": self.host,
            "PATH": f"{Path(CLIENT).parent}:{os.environ['PATH']}",
        }
        for command in (base, build):
            done = subprocess.run(
                command, env=environment, text=True, capture_output=True, timeout=2400, check=False
            )
            assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]


@contextmanager
def engine() -> Iterator[Docker]:
    """A daemon that is gone afterwards, with all it held."""
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    if lacking or os.geteuid() != 0:
        message = f"a real Docker needs root and {', '.join(lacking) or 'nothing else'}"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    folder = Path(tempfile.mkdtemp(prefix="mr-docker-", dir="/var/lib"))
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            up = [ENGINES / "docker-up.sh", folder]
            done = subprocess.run(up, text=True, capture_output=True, timeout=120, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            folder.chmod(0o755)
            yield Docker(folder)
        finally:
            _end(folder)


def _end(folder: Path) -> None:
    pid = folder / "dockerd.pid"
    if pid.exists():
        number = int(pid.read_text())
        os.kill(number, signal.SIGTERM)
        deadline = time.monotonic() + 60
        with suppress(ProcessLookupError):
            while time.monotonic() < deadline and pid.exists():
                os.kill(number, 0)
                time.sleep(0.2)
    # The daemon leaves its own network namespace mounted, and the folder can't go before it.
    for mounted in (folder / "exec" / "netns").glob("*"):
        subprocess.run(["umount", "--lazy", mounted], capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)
