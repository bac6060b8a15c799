"""Hostile responses: nothing is run, written or left behind, memory stays small, and none is correct."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

CASES = Path(__file__).with_name("hostile.jsonl")

PROGRAM = """
import json, os, resource, sys
from pathlib import Path
from mathreason.evaluation.grading import Grader

reference, frames = sys.argv[2], sys.argv[3:]
wrong, timed_out, count = [], 0, 0
with Grader() as grader:
    for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        text = "".join(part * times for part, times in case["parts"])
        for frame in frames:
            graded = grader.grade(frame.format(text), reference)
            count += 1
            timed_out += graded.timed_out
            if graded.correct:
                wrong.append([case["kind"], text[:60], frame])
    process = grader._symbolic._process
    pid = process.pid if process else None
# Not RUSAGE_SELF: its peak begins with that of the process that started this one.
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
memory = [int(status["VmHWM"].split()[0]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]
alive = [line for file in Path("/proc/self/task").glob("*/children") for line in file.read_text().split()]
print(json.dumps({"wrong": wrong, "count": count, "timed_out": timed_out, "pid": pid, "alive": alive,
                  "mebibytes": sum(memory) / 1024}))
"""


BOXED = "So the answer is $\\boxed{{{}}}$."


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reference", "frames", "uses_process"),
    [
        ("314159", ["{}", "#### {}", "The answer is {}", BOXED], False),
        ("2x+\\sqrt{3}", [BOXED], True),
    ],
)
def test_hostile_responses_do_no_harm_and_are_wrong(
    tmp_path: Path, reference: str, frames: list[str], uses_process: bool
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(CASES), reference, *frames],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["count"] == len(frames) * len(CASES.read_text(encoding="utf-8").splitlines())
    assert found["wrong"] == []
    assert (found["pid"] is not None) is uses_process
    assert found["alive"] == []
    assert found["mebibytes"] < 1024
    assert found["timed_out"] <= 20
    assert list(tmp_path.iterdir()) == []


def test_the_cases_are_of_many_kinds() -> None:
    kinds = [json.loads(line)["kind"] for line in CASES.read_text(encoding="utf-8").splitlines()]
    assert len(kinds) > 200
    assert len(set(kinds)) >= 10
