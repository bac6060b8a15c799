"""DeepSpeed's operators: which are taken, and what a killed compilation leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from deepspeed import git_version_info
from deepspeed.accelerator import get_accelerator

from mathreason.progress import Reporter
from mathreason.training import operators
from mathreason.training.operators import FOREIGN_SECONDS, accept_built, alone_in

COMPILING = """
import sys, time
from pathlib import Path
from mathreason.progress import Reporter
from mathreason.training.operators import alone_in
root = Path(sys.argv[1])
with alone_in(root, Reporter(quiet=True)):
    (root / "py311_cpu" / "cpu_adam" / "lock").touch()
    print("compiling", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """The lock file that torch makes while it compiles cpu_adam, not there yet."""
    lock = tmp_path / "py311_cpu" / "cpu_adam" / "lock"
    lock.parent.mkdir(parents=True)
    return lock


def test_lock_of_a_killed_compilation_is_removed_at_once(tmp_path: Path, left: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", COMPILING, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "compiling\n"
        process.kill()
    assert left.exists()
    reporter, started = Reporter(quiet=True), time.monotonic()
    with alone_in(tmp_path, reporter):
        assert not left.exists()
    assert time.monotonic() - started < FOREIGN_SECONDS / 10
    assert "was left by a process that was killed" in reporter.warnings[0]
    left.touch()  # a new one is not of that process
    os.utime(left, (time.time(), time.time() - FOREIGN_SECONDS + 2))
    with alone_in(tmp_path, reporter):
        assert time.monotonic() - started > 1


def test_old_lock_of_another_program_is_removed(tmp_path: Path, left: Path) -> None:
    left.touch()
    old = time.time() - FOREIGN_SECONDS - 1
    os.utime(left, (old, old))
    reporter = Reporter(quiet=True)
    with alone_in(tmp_path, reporter):
        assert not left.exists()
    assert len(reporter.warnings) == 1


def test_another_program_that_compiles_is_waited_for(
    tmp_path: Path, left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left.touch()
    monkeypatch.setattr(operators.time, "sleep", lambda _: left.unlink())  # it is done
    reporter = Reporter(quiet=True)
    with alone_in(tmp_path, reporter):
        pass
    assert reporter.warnings == []


@pytest.mark.parametrize(("built", "taken"), [("cpu_adam", True), ("fused_adam", False)])
def test_operators_for_the_processor_serve_every_accelerator(
    built: str, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_version_info, "installed_ops", {"async_io": 1, built: 1, "gds": False})
    monkeypatch.setattr(git_version_info, "accelerator_name", "another")
    accept_built()
    assert git_version_info.accelerator_name == (get_accelerator()._name if taken else "another")
