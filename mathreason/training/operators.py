"""DeepSpeed's operators in C++: those it was installed with are used, the others compiled by one process.

    prepare(launch.current(), reporter)          # before DeepSpeed itself asks for them

DeepSpeed compiles at its first start and then waits for a lock file that a killed process leaves behind for
ever (torch.utils.file_baton). Here the kernel holds the lock, so that it goes with the process.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mathreason.progress import Reporter
from mathreason.training.launch import Launch

OPERATORS = ("cpu_adam", "async_io", "pin_memory")
"""The optimizer on CPUs, asynchronous files, and the memory that these read into."""
FOREIGN_SECONDS = 900.0
"""Age at which a lock of another program is taken for left behind; a compilation takes minutes."""
_LOCK = "mathreason.lock"


def choose_accelerator(on_cpu: bool) -> None:
    """Tell DeepSpeed what computes: it decides when it is imported, and without GPUs warns about that."""
    if on_cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def is_built(operator: str) -> bool:
    """Whether DeepSpeed was installed with an operator that it otherwise compiles."""
    from deepspeed.git_version_info import installed_ops

    return bool(installed_ops.get(operator))


def accept_built() -> None:
    """Let DeepSpeed load the operators it was installed with, whatever machine that was done on.

    It wants the accelerator of that machine (op_builder/builder.py, `load`), and images are built on machines
    without GPUs. These three are made for the processor and are the same beside either.
    """
    from deepspeed import git_version_info
    from deepspeed.accelerator import get_accelerator

    installed = {name for name, here in git_version_info.installed_ops.items() if here}
    if installed and installed <= set(OPERATORS):
        git_version_info.accelerator_name = get_accelerator()._name


def prepare(here: Launch, reporter: Reporter) -> None:
    """Load what this launch needs, compiled now where DeepSpeed was installed without it."""
    if here.zero is None:
        return
    accept_built()
    from deepspeed.ops.op_builder import AsyncIOBuilder, CPUAdamBuilder

    needed = {"cpu_adam": CPUAdamBuilder} if here.optimizer != "none" else {}
    if "nvme" in (here.optimizer, here.parameters):
        needed["async_io"] = AsyncIOBuilder
    missing = {name: builder for name, builder in needed.items() if not is_built(name)}
    if missing:
        reporter.say(f"DeepSpeed's {', '.join(missing)}: compiled at the first start, which takes minutes")
        with alone_in(_build_root(), reporter):
            for builder in missing.values():
                builder().load(verbose=False)


def _build_root() -> Path:
    from torch.utils.cpp_extension import get_default_build_root

    return Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())


@contextmanager
def alone_in(root: Path, reporter: Reporter) -> Iterator[None]:
    """Be the only process of this program that compiles in `root`, without locks that a killed one left."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / _LOCK).open("a+", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        ours = bool(lock.read())  # what stands in it is of a process that ended while it compiled
        for left in _locks(root):
            _remove_left(left, ours, reporter)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
        lock.truncate(0)


def _locks(root: Path) -> list[Path]:
    return sorted(path for name in OPERATORS for path in root.glob(f"**/{name}/lock"))


def _remove_left(lock: Path, ours: bool, reporter: Reporter) -> None:
    said = False
    while not ours and (age := _age(lock)) is not None and age < FOREIGN_SECONDS:
        if not said:
            reporter.say(f"another program compiles ({lock}); waiting at most {FOREIGN_SECONDS - age:.0f} s")
            said = True
        time.sleep(1.0)
    if lock.exists():
        lock.unlink(missing_ok=True)
        reporter.warn(f"{lock} was left by a process that was killed while it compiled; removed")


def _age(lock: Path) -> float | None:
    try:
        return time.time() - lock.stat().st_mtime
    except FileNotFoundError:
        return None
