"""A hard memory limit for a process and its children: the kernel kills what goes over it.

    with MemoryLimit.of(6 << 30) as limit:
        subprocess.run(command, preexec_fn=limit.join)
    limit.peak, limit.anonymous_peak           # bytes

A control group of its own, of version 1 or 2, which needs the right to make one (root on most machines, a
delegated slice under systemd). File cache counts against the limit like everything else, but the kernel drops
it when memory is short, so `peak` reaches the limit wherever large files are read; `anonymous_peak` is what
could not have been dropped, looked at ten times a second.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
INTERVAL_SECONDS = 0.1


@dataclass(frozen=True)
class Names:
    """What the files of a version are called."""

    limit: str
    peak: str
    anonymous: str
    kills: tuple[str, str]


V1 = Names(
    "memory.limit_in_bytes", "memory.max_usage_in_bytes", "total_rss", ("memory.oom_control", "oom_kill")
)
V2 = Names("memory.max", "memory.peak", "anon", ("memory.events", "oom_kill"))


class MemoryLimit:
    """A control group with a limit; `join` puts the calling process into it."""

    def __init__(self, folder: Path, names: Names, size: int) -> None:
        self.size = size
        self.kind = f"cgroup {'v2' if names is V2 else 'v1'} {names.limit}"
        self.peak = 0
        self.anonymous_peak = 0
        self.kills = 0
        self._folder = folder
        self._names = names
        self._over = threading.Event()

    @classmethod
    @contextmanager
    def of(cls, size: int) -> Iterator[MemoryLimit]:
        """A new group that holds `size` bytes; OSError where none can be made."""
        names, root = _version()
        folder = root / f"mathreason-{os.getpid()}-{size}"
        folder.mkdir()
        limit = cls(folder, names, size)
        try:
            (folder / names.limit).write_text(str(size))
            if names is V2:
                (folder / "memory.swap.max").write_text("0")
            watch = threading.Thread(target=limit._watch)
            watch.start()
            try:
                yield limit
            finally:
                limit._over.set()
                watch.join()
                limit.peak = int((folder / names.peak).read_text())
                limit.kills = limit._of(*names.kills)
        finally:
            limit._clear()
            folder.rmdir()

    def join(self) -> None:
        """For `preexec_fn`: the process that is about to start belongs to the group."""
        (self._folder / "cgroup.procs").write_text(str(os.getpid()))

    def _clear(self) -> None:
        """End what is left in the group; one with processes cannot be removed."""
        while left := (self._folder / "cgroup.procs").read_text().split():
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
            time.sleep(INTERVAL_SECONDS)

    def _of(self, file: str, key: str) -> int:
        lines = (line.split() for line in (self._folder / file).read_text().splitlines())
        return next((int(value) for name, value in lines if name == key), 0)

    def _watch(self) -> None:
        while not self._over.wait(INTERVAL_SECONDS):
            self.anonymous_peak = max(self.anonymous_peak, self._of("memory.stat", self._names.anonymous))


def _version() -> tuple[Names, Path]:
    if (CGROUP / "memory" / V1.limit).exists():
        return V1, CGROUP / "memory"
    own = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip().lstrip("/")
    return V2, (CGROUP / own).parent
