"""What went wrong, and what changed: items by outcome, by length of the solution, and by kind of error.

    by_outcome(base, tuned)["fixed"]     the items that only the tuned model gets right
    by_steps(base, tuned)                accuracy of both on 2-step, 3-step, ... problems
    categories(samples)                  {"truncated": 3, "no answer": 9, "arithmetic slip": 40, ...}

A response that is wrong falls in the first category that holds: it was cut off, it gives no answer, one of
its written calculations is wrong ("arithmetic slip"), or none is found to be ("wrong set-up").
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from statistics import mean, median, quantiles
from typing import Any, Literal

from mathreason.analysis.calculations import first_wrong
from mathreason.analysis.samples import Sample
from mathreason.analysis.statistics import wilson

Category = Literal["truncated", "no answer", "arithmetic slip", "wrong set-up"]

CATEGORIES: tuple[Category, ...] = ("truncated", "no answer", "arithmetic slip", "wrong set-up")
OUTCOMES = ("both", "fixed", "broken", "neither")
LAST_STEPS_BIN = 8


def outcome(base: Sample, tuned: Sample) -> str:
    """One of OUTCOMES for the same item answered by both models."""
    if base.correct:
        return "both" if tuned.correct else "broken"
    return "fixed" if tuned.correct else "neither"


def by_outcome(base: Sequence[Sample], tuned: Sequence[Sample]) -> dict[str, list[str]]:
    """Item ids under each of OUTCOMES, in the benchmark's order; both sequences hold the same items."""
    ids: dict[str, list[str]] = {name: [] for name in OUTCOMES}
    for before, after in zip(base, tuned, strict=True):
        ids[outcome(before, after)].append(after.id)
    return ids


def by_steps(base: Sequence[Sample], tuned: Sequence[Sample]) -> list[dict[str, Any]]:
    """Accuracy with its Wilson interval for each number of gold solution steps; 8 and more share a bin.

    Each row is {"steps": "3", "n": 41, "base": accuracy, "tuned": accuracy}; a model that was not evaluated
    is given as an empty sequence and comes back as None. Items whose steps are unknown are left out.
    """
    bins: dict[int, tuple[list[Sample], list[Sample]]] = defaultdict(lambda: ([], []))
    for position, samples in enumerate((base, tuned)):
        for sample in samples:
            if sample.steps is not None:
                bins[min(sample.steps, LAST_STEPS_BIN)][position].append(sample)
    return [
        {
            "steps": f"{steps}+" if steps == LAST_STEPS_BIN else str(steps),
            "n": len(bins[steps][0] or bins[steps][1]),
            "base": _accuracy(bins[steps][0]),
            "tuned": _accuracy(bins[steps][1]),
        }
        for steps in sorted(bins)
    ]


def _accuracy(samples: Sequence[Sample]) -> dict[str, Any] | None:
    if not samples:
        return None
    return asdict(wilson(sum(sample.correct for sample in samples), len(samples)))


def category(sample: Sample) -> Category | None:
    """Why the response is wrong, None when it is right."""
    if sample.correct:
        return None
    if sample.truncated:
        return "truncated"
    if sample.extracted is None:
        return "no answer"
    return "wrong set-up" if first_wrong(sample.response) is None else "arithmetic slip"


def categories(samples: Sequence[Sample]) -> dict[str, int]:
    """How many responses fall in each of CATEGORIES."""
    counted = Counter(category(sample) for sample in samples)
    return {name: counted[name] for name in CATEGORIES}


def describe(samples: Sequence[Sample]) -> dict[str, Any]:
    """Counts over one model's responses: categories, truncation, extraction and length in tokens.

    `fallback_extracted` counts answers that were read from the last number, for want of a marked answer.
    """
    lengths = [sample.response_tokens for sample in samples]
    strategies = Counter(sample.strategy for sample in samples)
    return {
        "categories": categories(samples),
        "truncated": sum(sample.truncated for sample in samples),
        "no_answer": sum(sample.extracted is None for sample in samples),
        "fallback_extracted": strategies["last_number"],
        "strategies": dict(strategies.most_common()),
        "response_tokens": {
            "mean": round(mean(lengths), 1),
            "median": median(lengths),
            "p95": _percentile_95(lengths),
            "max": max(lengths),
        },
    }


def _percentile_95(values: Sequence[int]) -> float:
    if len(values) == 1:
        return float(values[0])
    return round(quantiles(values, n=20, method="inclusive")[-1], 1)
