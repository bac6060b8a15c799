"""Changes to the evaluations of a finished run, for tests of what reads them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from mathreason.results import RunDir

VARIANTS = ("base", "tuned")


def change_summary(
    run: RunDir, variant: str, change: Callable[[dict[str, Any]], object], benchmark: str = "gsm8k"
) -> None:
    path = run.evaluation(benchmark, variant)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def change_samples(
    run: RunDir, variant: str, change: Callable[[list[dict[str, Any]]], object], benchmark: str = "gsm8k"
) -> None:
    path = run.samples(benchmark, variant)
    rows = rows_of(run, variant, benchmark)
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows_of(run: RunDir, variant: str, benchmark: str = "gsm8k") -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.samples(benchmark, variant).read_text().splitlines()]


def recount(run: RunDir, variant: str, benchmark: str = "gsm8k") -> None:
    """Make the summary agree with its samples again."""
    rows = rows_of(run, variant, benchmark)
    counts = {"correct": sum(row["correct"] for row in rows), "n": len(rows)}
    change_summary(run, variant, lambda each: each["accuracy"].update(counts), benchmark)


def put_in_groups(run: RunDir, size: int, benchmark: str = "gsm8k") -> None:
    """Let every `size` neighbouring items share a group."""
    for variant in VARIANTS:
        change_samples(
            run,
            variant,
            lambda rows: [row.update(group=f"text {row['index'] // size}") for row in rows],
            benchmark,
        )


def answer_again(run: RunDir, times: int, benchmark: str = "gsm8k") -> None:
    """Give each item `times` responses: its own first, then made-up right and wrong ones."""
    for variant in VARIANTS:
        rows = rows_of(run, variant, benchmark)
        rng = random.Random(f"{variant}/{times}")
        more = [
            row | {"sample": number} | (_another(row, rng.choice(rows), rng) if number else {})
            for row in rows
            for number in range(times)
        ]
        path = run.samples(benchmark, variant)
        path.write_text("".join(json.dumps(row) + "\n" for row in more))
        change_summary(run, variant, lambda each: each["settings"].update(samples=times), benchmark)
        recount(run, variant, benchmark)


def _another(row: dict[str, Any], other: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    correct = other["correct"]
    return {
        "correct": correct,
        "extracted": row["answer"] if correct else rng.choice(["7", "8", None]),
        "response": f"again {rng.random()}",
        "truncated": False,
    }
