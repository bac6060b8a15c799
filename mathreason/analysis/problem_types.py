"""Error analysis of one benchmark: kinds of error, what became of what, and accuracy by type of problem.

    found = analyse(base.first, tuned.first)          # either may be empty
    found["categories"]["tuned"]["arithmetic slip"]   31
    found["types"][0]    {"name": "operations in the reference solution", "rows": [{"label": "÷", ...}]}

The result is small and holds plain JSON values: counts, intervals and item ids, no responses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from mathreason.analysis.calculations import calculations, first_wrong
from mathreason.analysis.clustered import cluster_items
from mathreason.analysis.errors import (
    CATEGORIES,
    OUTCOMES,
    SET_UPS,
    accuracy,
    by_outcome,
    categories,
    category,
    runs_on_from,
    set_up,
)
from mathreason.analysis.expressions import read
from mathreason.analysis.numbers_in_text import largest_number
from mathreason.analysis.samples import Sample
from mathreason.analysis.steps import Step, first_difference, step_at, steps
from mathreason.analysis.tokens import tokenise

SMALL_BIN = 20
"""Items, or groups of them, below which a row says nothing: its interval spans over 40 points around half."""

MAX_ROWS = 12
MAX_EXAMPLES = 5
RIGHT = "right"

_OPERATIONS = {"+": "+", "-": "−", "*": "×", "/": "÷", "%": "%", "^": "power"}
_SIZES = ("below 10", "10 to 99", "100 to 999", "1 000 to 9 999", "10 000 and more")
_LENGTHS = (25, 50, 100, 200, 400)

Labels = Callable[[Sample], Sequence[str]]


def analyse(base: Sequence[Sample], tuned: Sequence[Sample]) -> dict[str, Any]:
    """What `base` and `tuned` got wrong; a model that was not evaluated is given as an empty sequence.

    Of several responses to an item the first counts. Both sequences, where given, hold the same items.
    Keys: `n`; by side `categories`, `set_up`, `run_on`, `arithmetic`; `transitions`; `types`; `examples`.
    """
    base, tuned = ([sample for sample in side if sample.sample == 0] for side in (base, tuned))
    sides = {"base": base, "tuned": tuned}
    return {
        "n": max(len(base), len(tuned)),
        "categories": {name: categories(side) if side else None for name, side in sides.items()},
        "set_up": {name: _set_ups(side) if side else None for name, side in sides.items()},
        "run_on": {name: _run_on(side) if side else None for name, side in sides.items()},
        "arithmetic": {name: _arithmetic(side) if side else None for name, side in sides.items()},
        "transitions": _transitions(base, tuned) if base and tuned else [],
        "types": _types(base, tuned),
        "examples": _examples(base, tuned),
    }


def _set_ups(samples: Sequence[Sample]) -> dict[str, int]:
    counted = Counter(set_up(sample) for sample in samples)
    return {name: counted[name] for name in SET_UPS}


def _run_on(samples: Sequence[Sample]) -> dict[str, int]:
    """How many responses, right ones too, went on after their answer, and how many are wrong by it."""
    return {
        "n": sum(runs_on_from(sample.response) is not None for sample in samples),
        "wrong_by_it": sum(category(sample) == "run-on" for sample in samples),
    }


def _arithmetic(samples: Sequence[Sample]) -> dict[str, int]:
    """All calculations written, the wrong ones among them, and the responses that have a wrong one."""
    found = [calculations(sample.response) for sample in samples]
    return {
        "calculations": sum(len(each) for each in found),
        "wrong": sum(not calculation.right for each in found for calculation in each),
        "responses_with_wrong": sum(any(not calculation.right for calculation in each) for each in found),
    }


def _transitions(base: Sequence[Sample], tuned: Sequence[Sample]) -> list[dict[str, Any]]:
    """How many items went from which category to which; "right" is one of them. Empty pairs are out."""
    order = (RIGHT, *CATEGORIES)
    pairs = zip(base, tuned, strict=True)
    counted = Counter((category(before) or RIGHT, category(after) or RIGHT) for before, after in pairs)
    return [
        {"base": before, "tuned": after, "n": counted[before, after]}
        for before in order
        for after in order
        if counted[before, after]
    ]


# -- types of problems -----------------------------------------------------------------------------


def _types(base: Sequence[Sample], tuned: Sequence[Sample]) -> list[dict[str, Any]]:
    """One table a way of sorting; a table of a single row sorts nothing and is left out."""
    known = [*base, *tuned]
    keys = sorted({key for sample in known for key in sample.attributes})
    ways: list[tuple[str, Labels, Sequence[str]]] = [
        (
            "operations in the reference solution",
            _operations,
            (*_OPERATIONS.values(), "fractions", "none written"),
        ),
        *((key, _attribute(key), _values(known, key)) for key in keys),
        ("largest number in the question", _question_size, (*_SIZES, "none in digits")),
        ("reference answer", _answer_size, (*_SIZES, "negative", "not whole", "not a number")),
        ("length of the response in words", _length, _length_labels()),
    ]
    tables = [{"name": name, "rows": _rows(base, tuned, labels, order)} for name, labels, order in ways]
    return [table for table in tables if len(table["rows"]) > 1]


def _rows(
    base: Sequence[Sample], tuned: Sequence[Sample], labels: Labels, order: Sequence[str]
) -> list[dict[str, Any]]:
    sorted_samples = []
    for side in (base, tuned):
        bins: dict[str, list[Sample]] = {}
        for sample in side:
            for label in labels(sample):
                bins.setdefault(label, []).append(sample)
        sorted_samples.append(bins)
    rows = []
    for label in order:
        before, after = (bins.get(label, []) for bins in sorted_samples)
        if before or after:
            n = max(len(before), len(after))
            row = {"label": label, "n": n, "base": accuracy(before), "tuned": accuracy(after)}
            rows.append({**row, "small": _independent(before or after) < SMALL_BIN})
    return rows


def _independent(samples: Sequence[Sample]) -> int:
    """Samples of one group tell little more than one of them."""
    return cluster_items([sample.group for sample in samples]).count


def _operations(sample: Sample) -> list[str]:
    """An item counts under each operation of its solution; none where the solution is not known."""
    if not sample.solution:
        return []
    found = calculations(sample.solution)
    labels = {_OPERATIONS[operator] for each in found for operator in each.operators}
    if any(operand.denominator != 1 for each in found for operand in each.operands):
        labels.add("fractions")
    return sorted(labels) or ["none written"]


def _attribute(key: str) -> Labels:
    return lambda sample: [sample.attributes[key]] if key in sample.attributes else []


def _values(samples: Sequence[Sample], key: str) -> list[str]:
    """The most frequent values of an attribute, in alphabetical order."""
    counted = Counter(sample.attributes[key] for sample in samples if key in sample.attributes)
    return sorted(value for value, _ in counted.most_common(MAX_ROWS))


def _question_size(sample: Sample) -> list[str]:
    largest = largest_number(sample.question)
    return ["none in digits" if largest is None else _size(largest)]


def _answer_size(sample: Sample) -> list[str]:
    values = read(tokenise(sample.answer)).values
    if not values:
        return ["not a number"]
    if values[0].denominator != 1:
        return ["not whole"]
    return ["negative" if values[0] < 0 else _size(values[0])]


def _size(number: Fraction) -> str:
    return _SIZES[max(0, min(len(str(int(number))) - 1, len(_SIZES) - 1))]


def _length_labels() -> list[str]:
    starts = [1, *(limit + 1 for limit in _LENGTHS[:-1])]
    return [f"{start} to {limit}" for start, limit in zip(starts, _LENGTHS, strict=True)] + [
        f"more than {_LENGTHS[-1]}"
    ]


def _length(sample: Sample) -> list[str]:
    position = sum(len(sample.response.split()) > limit for limit in _LENGTHS)
    return [_length_labels()[position]]


# -- examples --------------------------------------------------------------------------------------


def _examples(base: Sequence[Sample], tuned: Sequence[Sample]) -> dict[str, list[dict[str, Any]]]:
    """A few items fixed and broken with the steps that differ; of one model alone, wrong ones."""
    if base and tuned:
        ids = by_outcome(base, tuned)
        wanted = {name: set(ids[name][:MAX_EXAMPLES]) for name in OUTCOMES if name in ("fixed", "broken")}
        return {
            name: [
                _compared(before, after)
                for before, after in zip(base, tuned, strict=True)
                if after.id in chosen
            ]
            for name, chosen in wanted.items()
        }
    alone = [*base, *tuned]
    side = "base" if base else "tuned"
    found: dict[str, list[Sample]] = {}
    for name in CATEGORIES:
        # One response to each question: a file may hold many to the same.
        first = {
            sample.question or sample.id: sample for sample in reversed(alone) if category(sample) == name
        }
        found[name] = list(reversed(first.values()))[:MAX_EXAMPLES]
    return {
        name: [{"id": sample.id, side: _marked(sample, None)} for sample in chosen]
        for name, chosen in found.items()
        if chosen
    }


def _compared(before: Sample, after: Sample) -> dict[str, Any]:
    first, second = first_difference(before.response, after.response)
    return {"id": after.id, "base": _marked(before, first), "tuned": _marked(after, second)}


def _marked(sample: Sample, differs: Step | None) -> dict[str, Any]:
    """Where a response differs from the other model's, and its first wrong calculation, with their steps."""
    wrong = None if sample.correct else first_wrong(sample.response)
    step = step_at(steps(sample.response), wrong.start) if wrong else None
    return {
        "category": category(sample),
        "set_up": set_up(sample),
        "differs": None
        if differs is None
        else {"step": differs.number, "start": differs.start, "end": differs.end},
        "wrong": None
        if wrong is None
        else {
            "step": step.number if step else None,
            "start": wrong.start,
            "end": wrong.end,
            "stated": wrong.stated[:200],
            "true": wrong.true,
        },
    }
