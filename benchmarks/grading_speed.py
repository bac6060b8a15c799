"""How many responses are graded in a second on one core, next to Math-Verify used plainly.

    OMP_NUM_THREADS=1 python benchmarks/grading_speed.py --data-dir data

GSM8K-type: the solutions of GSM8K's test set against their answers. MATH-type: the solutions of MATH's test
set against the content of their last box; every second answer is another problem's, hence wrong. Processor
time, children included, of one thread; Math-Verify parses answer and response, and compares.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path

import click

from mathreason.config import BenchmarkConfig
from mathreason.evaluation.benchmarks import load_items
from mathreason.evaluation.grading import Grader

Pairs = list[tuple[str, str]]


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--limit", default=1000, show_default=True, help="Responses of each type.")
def main(data_dir: Path, limit: int) -> None:
    """Print responses per second of both, and their ratio."""
    for name in ("gsm8k", "math"):
        pairs = responses(name, data_dir, limit)
        ours, theirs = measure(grade_all, pairs), measure(verify_all, pairs)
        click.echo(
            f"{name}: {len(pairs)} responses; mathreason {len(pairs) / ours[0]:.0f}/s ({ours[1]} correct), "
            f"Math-Verify {len(pairs) / theirs[0]:.0f}/s ({theirs[1]} correct), "
            f"ratio {theirs[0] / ours[0]:.1f}"
        )


def responses(name: str, data_dir: Path, limit: int) -> Pairs:
    """Solutions with an answer each: its own, or that of the next problem."""
    rows = [json.loads(line) for line in (data_dir / name / "test.jsonl").read_text("utf-8").splitlines()]
    texts = [row["answer" if name == "gsm8k" else "solution"] for row in rows][:limit]
    answers = [item.answer for item in load_items(BenchmarkConfig(name=name), data_dir)][: limit + 1]
    return [(text, answers[(i + i % 2) % len(answers)]) for i, text in enumerate(texts)]


def measure(work: Callable[[Pairs], int], pairs: Pairs) -> tuple[float, int]:
    """Processor seconds of this process and its children, and what `work` returned; warmed up before."""
    work(pairs[:20])
    before = _processor_seconds()
    correct = work(pairs)
    return _processor_seconds() - before, correct


def _processor_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def grade_all(pairs: Pairs) -> int:
    with Grader() as grader:  # its process counts once it has ended
        return sum(grader.grade(response, answer).correct for response, answer in pairs)


def verify_all(pairs: Pairs) -> int:
    from math_verify import parse, verify

    return sum(verify(parse(f"${answer}$"), parse(response)) for response, answer in pairs)


if __name__ == "__main__":
    main()
