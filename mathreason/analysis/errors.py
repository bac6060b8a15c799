"""What went wrong, and what changed: items by outcome, by length of the solution, and by kind of error.

    by_outcome(base, tuned)["fixed"]     the items that only the tuned model gets right
    by_steps(base, tuned)                accuracy of both on 2-step, 3-step, ... problems
    categories(samples)                  {"run-on": 0, "truncated": 3, ..., "arithmetic slip": 40, ...}

A wrong response falls in the first category that holds:

- run-on: its first marked answer was right, but it went on (to another question, or repeating itself)
  and another answer took its place. Of any other response that ran on, only the part before is judged.
- truncated: it was cut off at the token limit before it gave an answer of its own.
- format: no calculation is wrong and the last arrives at the reference answer, but no answer or another one
  was read; or its answer is the reference's clock time in another form.
- no answer: none was found.
- arithmetic slip: a written calculation is wrong (see `calculations`).
- wrong set-up: no written calculation was found to be wrong. `set_up` tells more where it can.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache, lru_cache
from statistics import mean, median, quantiles
from typing import TYPE_CHECKING, Any, Literal

from mathreason.analysis.calculations import MAX_CHARACTERS, calculations, first_wrong
from mathreason.analysis.clustered import cluster_items, clustered_accuracy
from mathreason.analysis.expressions import read
from mathreason.analysis.numbers_in_text import COMMON, first_places
from mathreason.analysis.samples import Sample
from mathreason.analysis.tokens import tokenise
from mathreason.errors import InputError

if TYPE_CHECKING:
    from mathreason.evaluation.grading import Grader

Category = Literal["run-on", "truncated", "format", "no answer", "arithmetic slip", "wrong set-up"]
SetUp = Literal[
    "no calculation", "number not in the question", "fewer calculations", "other operations", "other"
]

CATEGORIES: tuple[Category, ...] = (
    "run-on", "truncated", "format", "no answer", "arithmetic slip", "wrong set-up",
)  # fmt: skip
SET_UPS: tuple[SetUp, ...] = (
    "no calculation", "number not in the question", "fewer calculations", "other operations", "other",
)  # fmt: skip
MAX_CLOCK = 100
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?!\d)[ ]?([ap])?")

OUTCOMES = ("both", "fixed", "broken", "neither")
LAST_STEPS_BIN = 8
REPEATS = 3
MIN_LINE = 5
"""Letters and digits of a line whose repetition counts: a formula's brackets stand on lines of their own."""

_MARKED = re.compile(
    r"####[ \t]*\S|\\boxed[ ]?\{(?!\\phantom|[ ]?\})|(?:answer|Answer)(?: is|:)[ \t]*\S|^A:[ \t]*\S",
    re.MULTILINE,
)
_NEW_QUESTION = re.compile(
    r"^[#* \t]{0,8}(?:Question|Problem|Exercise|Example|Instruction|Human|User|Q)\b[ \t]*\d{0,4}[*]{0,2}[:.]",
    re.MULTILINE,
)


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
            "base": accuracy(bins[steps][0]),
            "tuned": accuracy(bins[steps][1]),
        }
        for steps in sorted(bins)
    ]


def accuracy(samples: Sequence[Sample]) -> dict[str, Any] | None:
    """Accuracy with Wilson's interval, widened where samples share a group; None without samples."""
    if not samples:
        return None
    clusters = cluster_items([sample.group for sample in samples])
    return asdict(clustered_accuracy([int(sample.correct) for sample in samples], 1, clusters))


# -- categories ------------------------------------------------------------------------------------


def category(sample: Sample) -> Category | None:
    """Why the response is wrong, None when it is right."""
    return (
        None
        if sample.correct
        else _category(sample.response, sample.answer, sample.extracted, sample.truncated)
    )


# The comparison, the tables and the report ask for the same responses.
@lru_cache(maxsize=8192)
def _category(response: str, answer: str, extracted: str | None, truncated: bool) -> Category:
    end = runs_on_from(response)
    if end is not None and _answers(response[:end], answer):
        return "run-on"
    if truncated and end is None:
        return "truncated"
    judged = response[:end]
    if _arrives_at(judged, answer) or (extracted is not None and _same_time(extracted, answer)):
        return "format"
    if extracted is None:
        return "no answer"
    return "wrong set-up" if first_wrong(judged) is None else "arithmetic slip"


def runs_on_from(response: str) -> int | None:
    """Where a response that has given a marked answer goes on to something else; None when it stops.

    It goes on when a new question is headed as one ("Question:", "Problem 2:", "Human:"), or when it
    gives three marked answers on lines of their own or writes one line three times.
    """
    text = response[:MAX_CHARACTERS]
    first = _MARKED.search(text)
    if first is None:
        return None
    headed = _NEW_QUESTION.search(text, first.end())
    line_end = text.find("\n", first.end())
    if line_end < 0:
        return None
    rest = [line.strip() for line in text[line_end:].split("\n")]
    marked = sum(_MARKED.search(line) is not None for line in rest)
    lines = Counter(line for line in rest if sum(map(str.isalnum, line)) >= MIN_LINE)
    repeated = max(lines.values(), default=0)
    if marked >= REPEATS - 1 or repeated >= REPEATS:
        return line_end if headed is None else min(line_end, headed.start())
    return None if headed is None else headed.start()


def _answers(head: str, answer: str) -> bool:
    """Whether the response up to here gives the answer; expressions are compared as text."""
    try:
        return _grader().grade(head, answer).correct
    except InputError:  # a reference that cannot be graded against: the item is wrong in any case
        return False


@cache
def _grader() -> Grader:
    from mathreason.evaluation.grading import Grader

    return Grader(symbolic=False)


def _arrives_at(response: str, answer: str) -> bool:
    """Whether no calculation is wrong and the last result is the reference answer."""
    found = calculations(response)
    values = read(tokenise(answer)).values
    return bool(found) and all(each.right for each in found) and found[-1].value in values


def _same_time(extracted: str, answer: str) -> bool:
    """Whether both are one clock time, written in ways that the grader holds apart."""
    times = [_CLOCK.findall(text[:MAX_CLOCK]) for text in (extracted, answer)]
    return len(times[0]) == 1 and times[0] == times[1]


def set_up(sample: Sample) -> SetUp | None:
    """What is known of a wrong set-up; None for other responses.

    The first that holds: no calculation is written; a calculation uses a number that stands neither in
    the question nor before it in the response; fewer calculations than the reference solution has; not
    the same operations as the reference solution. The last two need the reference solution.
    """
    if category(sample) != "wrong set-up":
        return None
    response = sample.response[: runs_on_from(sample.response)]
    found = calculations(response)
    if not found:
        return "no calculation"
    if _brings_a_number(sample.question, response):
        return "number not in the question"
    reference = calculations(sample.solution)
    if len(found) < len(reference):
        return "fewer calculations"
    operations = [
        Counter(operator for each in side for operator in each.operators) for side in (found, reference)
    ]
    return "other operations" if reference and operations[0] != operations[1] else "other"


def _brings_a_number(question: str, response: str) -> bool:
    known = COMMON | first_places(question).keys()
    places = first_places(response)
    return any(
        operand not in known and places.get(operand, found.start) >= found.start
        for found in calculations(response)
        for operand in found.operands
    )


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
