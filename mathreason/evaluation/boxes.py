"""The answer in the boxes of a response: the last one, or all of a final list.

boxed_answer("a = \\\\boxed{9}. So the total is \\\\boxed{18}.")   -> "18"
boxed_answer("x = \\\\boxed{2} or x = \\\\boxed{-3}")              -> "2,-3"
boxed_answer("It is \\\\boxed{7} or \\\\boxed{8}.")                -> HEDGE
"""

from __future__ import annotations

import re
from collections import deque

from mathreason.evaluation.claims import sentence_value
from mathreason.evaluation.normalisation import normalise_answer
from mathreason.evaluation.numbers import MAX_LENGTH, read_number
from mathreason.evaluation.passages import MAX_MARKERS
from mathreason.evaluation.values import HEDGE, Found

MAX_DEPTH = 50
"""Nested braces inside one `\\boxed{}`."""

_BOX = re.compile(r"(?:\\f?box(?:ed)?|(?<![A-Za-z\\])boxed(?=\{))(?![A-Za-z])\s?(?:(\{)|(\d))")
_BRACE = re.compile(r"\\[{}]|[{}]")
_PLACEHOLDER = re.compile(
    r"(?:your |the )?(?:final )?answer|\.\.\.|\?|.*\\phantom.*", re.IGNORECASE | re.DOTALL
)
_BETWEEN = re.compile(
    r"(?:[\s$,;()\[\]\\]|\\text\{)*(?P<word>and|or|i\.e\.|that is|equivalently|,|=|\\approx)"
    r"[\s$,;()\[\]\\}]*(?:equivalently,?\s)?(?P<variable>[A-Za-z]\s?=)?[\s$\\]*"
)
_MAX_BETWEEN = 40


def boxed_answer(text: str) -> Found:
    """What the last box holds, joined with the boxes that are listed before it.

    Boxes that agree are one answer; two that differ with "or" between them are a hedge, unless each
    solves for a variable.
    """
    boxes = _boxes(text)
    if not boxes:
        return None
    answers, words = [boxes[-1][2]], []
    for (_, end, answer), (start, _, _) in zip(reversed(boxes[:-1]), reversed(boxes[1:]), strict=True):
        between = _BETWEEN.fullmatch(text, end, start) if start - end <= _MAX_BETWEEN else None
        if between is None:
            break
        answers.insert(0, answer)
        words.append("," if between["variable"] else between["word"])
    if len({_value_key(answer) for answer in answers}) == 1 or set(words) & {"=", "\\approx"}:
        return answers[-1]
    return normalise_answer(", ".join(answers)) if set(words) <= {",", "and"} else HEDGE


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """Start, end and answer of the last boxes; those without a content, or a placeholder, are passed over."""
    found: list[tuple[int, int, str]] = []
    if "box" not in text:
        return found
    for match in deque(_BOX.finditer(text), maxlen=MAX_MARKERS):
        end = match.end() if match[2] else _closing(text, match.end())
        content = match[2] or (text[match.end() : end - 1] if end else "")
        if end and not _PLACEHOLDER.fullmatch(content) and (answer := _content_value(content)):
            found.append((match.start(), end, answer))
    return found


def _closing(text: str, start: int) -> int | None:
    """The position after the brace that closes a box opened before `start`; None beyond the limits."""
    depth = 1
    for brace in _BRACE.finditer(text, start, start + MAX_LENGTH):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return brace.end()
        if depth > MAX_DEPTH:
            return None
    return None


_SENTENCE = re.compile(r"\\text\s?\{[^{}]*[a-z]{3}[^{}]*\}[^\d]{0,30}\d[\d.,]*+[^\d]*")


def _content_value(content: str) -> str:
    """The normalised content; of words with one number after them, such as "Janet makes 18", the number."""
    value = sentence_value(content) if _SENTENCE.fullmatch(content) else None
    return value if isinstance(value, str) else normalise_answer(content)


def _value_key(answer: str) -> object:
    number = read_number(answer)
    return number.value if number else answer
