"""How long hostile responses take to grade, and how much memory that needs.

    python benchmarks/hostile.py

Every text of tests/evaluation/hostile.jsonl, plain, after `####` and in a box, against a number and against
an expression; seconds of wall-clock time for one response, and of this process's processor time. The start
of the symbolic process counts.
"""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path

import click

from mathreason.evaluation.grading import Grader

CASES = Path(__file__).resolve().parent.parent / "tests" / "evaluation" / "hostile.jsonl"
FRAMES = ("{}", "#### {}", "So the answer is $\\boxed{{{}}}$.")
REFERENCES = {"a number": "314159", "an expression": "2x+\\sqrt{3}"}


def main() -> None:
    cases = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
    with Grader() as grader:
        for name, reference in REFERENCES.items():
            seconds = []
            for case in cases:
                text = "".join(part * times for part, times in case["parts"])
                for frame in FRAMES:
                    response = frame.format(text)
                    started, busy = time.perf_counter(), time.process_time()
                    graded = grader.grade(response, reference)
                    took = time.perf_counter() - started, time.process_time() - busy
                    seconds.append((*took, case["kind"], text[:40], graded.timed_out))
            seconds.sort(key=lambda entry: -entry[0])
            click.echo(
                f"\nreference is {name}: {len(seconds)} responses, {sum(s for s, *_ in seconds):.1f} s in all"
            )
            for took, own, kind, shown, timed_out in seconds[:12]:
                click.echo(f"  {took:7.3f} s, {own:.3f} s own  {kind:30} {shown!r}{' timed out' * timed_out}")
    ours, children = (
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    click.echo(f"\nmemory at most: {ours:.0f} MiB, and {children:.0f} MiB in the symbolic process")


if __name__ == "__main__":
    main()
