"""Splits a response into steps, and finds the first one in which two responses to one item part ways.

    steps("Half of 48 is 24. She sold 48 + 24 = 73 in all.\\n#### 73")    three steps, with their places
    first_difference(base, tuned)     (Step(2, ...), Step(2, ...)): the steps before agree in their results

A step is a sentence or a line that holds a letter or a digit. Steps are compared by the results of the
calculations in them, in order: words and the way a result was reached may differ.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from mathreason.analysis.calculations import MAX_CHARACTERS, calculations

MAX_STEPS = 1000

_LINE = re.compile(r"[^\n]+")
# A sentence ends at a full stop before a space and a capital, a bracket or mathematics.
_SENTENCE_END = re.compile(r"(?<=[.!?])[ ]+(?=[A-Z$\\(*])")


@dataclass(frozen=True, slots=True)
class Step:
    """Step `number` (from 1) of a response; `response[start:end]` is its text."""

    number: int
    start: int
    end: int


def steps(response: str) -> list[Step]:
    """The steps of the first 100 000 characters of `response`, at most 1 000."""
    found: list[Step] = []
    for start, end in _spans(response[:MAX_CHARACTERS]):
        if len(found) == MAX_STEPS:
            break
        if any(character.isalnum() for character in response[start:end]):
            found.append(Step(len(found) + 1, start, end))
    return found


def _spans(text: str) -> Iterator[tuple[int, int]]:
    for line in _LINE.finditer(text):
        start = line.start()
        for gap in _SENTENCE_END.finditer(text, line.start(), line.end()):
            yield start, gap.start()
            start = gap.end()
        yield start, line.end()


def step_at(found: list[Step], position: int) -> Step | None:
    """The step that `position` of the response lies in, or the one before it."""
    index = bisect_right([step.start for step in found], position)
    return found[index - 1] if index else None


def first_difference(base: str, tuned: str) -> tuple[Step | None, Step | None]:
    """The first step of each response whose result the other does not have at that place.

    Where one response has no further calculation its last step is given, as when all results agree and
    only the answer differs. A response without any calculation has no such step.
    """
    found = [calculations(response) for response in (base, tuned)]
    results = [[calculation.value for calculation in each] for each in found]
    agreeing = 0
    for before, after in zip(*results, strict=False):
        if before != after:
            break
        agreeing += 1
    first, second = (
        _step_of(response, [calculation.start for calculation in each], agreeing)
        for response, each in zip((base, tuned), found, strict=True)
    )
    return first, second


def _step_of(response: str, starts: list[int], index: int) -> Step | None:
    if not starts:
        return None
    found = steps(response)
    return step_at(found, starts[index] if index < len(starts) else len(response))
