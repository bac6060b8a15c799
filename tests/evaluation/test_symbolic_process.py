"""The limits of the symbolic process: time, memory, files, and its own end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import ROOT

from mathreason.evaluation import grading
from mathreason.evaluation.symbolic import SymbolicProcess

SLOW = "(x^{9999}+1)^{9999}"


@pytest.fixture(autouse=True)
def no_other_process() -> None:
    """End the process of `grading.grade`, which tests of other modules may have started."""
    grading._shared_grader().close()


def test_a_comparison_that_takes_too_long_is_given_up_and_the_next_one_works() -> None:
    with SymbolicProcess() as symbolic:
        symbolic.start()
        assert symbolic.equal(SLOW, "x+\\sin(x)", seconds=0.5) == "timeout"
        assert children() == []
        assert symbolic.equal("11+x", "x+11") == "equal"
        assert len(children()) == 1
    assert children() == []


ATTACK = """
import sys
sys.argv = ["", str({parent}), str(640 * 2**20), "3"]
sys.path.insert(0, {folder!r})
import symbolic_worker
place = __import__("os").getcwd()
symbolic_worker._confine(640 * 2**20)
try:
    {attack}
except BaseException as error:
    print(type(error).__name__)
else:
    print("done")
"""


def test_what_is_refused_starts_no_process() -> None:
    with SymbolicProcess() as symbolic:
        assert symbolic.equal("print(1)", "x") == "refused"
        assert symbolic.equal("x", "y") == "different"
        assert children() == []


@pytest.mark.parametrize(
    "attack",
    [
        "open(place + '/attack', 'w')",
        "open('attack', 'wb')",
        "__import__('os').open('attack', 0o101)",
        "__import__('os').system('true')",
        "__import__('os').fork()",
        "__import__('os').mkdir(place + '/attack')",
        "__import__('os').execv('/bin/true', ['true'])",
        "__import__('subprocess').run(['true'])",
        "__import__('socket').socket()",
        "bytearray(2 * 2**30)",
    ],
)
def test_the_confined_process_can_do_no_harm(tmp_path: Path, attack: str) -> None:
    folder = str(ROOT / "mathreason" / "evaluation")
    # The folder goes last: the modules in it must not stand in for the standard library's.
    script = ATTACK.format(parent=os.getpid(), folder=folder, attack=attack).replace("insert(0, ", "append(")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() in {"PermissionError", "MemoryError"}, done
    assert list(tmp_path.iterdir()) == []


def test_the_process_ends_with_a_parent_that_is_killed() -> None:
    script = (
        "from mathreason.evaluation.symbolic import SymbolicProcess\n"
        "symbolic = SymbolicProcess()\nsymbolic.start()\n"
        "print(symbolic._process.pid, flush=True)\n"
        f"symbolic.equal({SLOW!r}, 'x+\\\\sin(x)')\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_until_gone(worker)


def test_a_program_that_only_grades_leaves_no_process() -> None:
    script = (
        "from mathreason.evaluation import grading\n"
        "assert grading.grade('So \\\\boxed{11+x}.', 'x+11').correct\n"
        "print(grading._shared_grader()._symbolic._process.pid)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    wait_until_gone(int(done.stdout))


def test_an_interrupted_question_does_not_answer_the_next_one() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with SymbolicProcess() as symbolic:
        symbolic.start()
        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            symbolic.equal(SLOW, "x+\\sin(x)")
        signal.signal(signal.SIGALRM, before)
        assert children() == []
        assert symbolic.equal("11+x", "x+11") == "equal"
        assert symbolic.equal("11-x", "x+11") == "different"


def test_a_process_that_died_is_replaced() -> None:
    with SymbolicProcess() as symbolic:
        assert symbolic.equal("11+x", "x+11") == "equal"
        [worker] = children()
        os.kill(worker, signal.SIGKILL)
        wait_until_gone(worker)
        assert symbolic.equal("11+x", "x+11") == "equal"
    assert children() == []


def children() -> list[int]:
    """The symbolic processes of this one that are alive."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_text()
        except OSError:
            continue
        if fields[1] == str(os.getpid()) and fields[0] != "Z" and "symbolic_worker" in command:
            found.append(int(entry.name))
    return found


def wait_until_gone(pid: int) -> None:
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} is still there")
