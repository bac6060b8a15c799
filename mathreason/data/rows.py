"""From a source's own columns to `Problem`, or to the reason why a row is not used.

A known source has one function here, named after it; `jsonl` and `hub` rows go through a column
mapping. A row that lacks a column is bad input (`MissingColumn`); a row that is well-formed but has no
usable answer is a `Rejection`, counted under its reason in data.json.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from mathreason.config import Columns
from mathreason.data.problem import Problem
from mathreason.data.programs import UnsupportedProgram, format_number, work_out
from mathreason.errors import InputError

Row = dict[str, Any]

_CALCULATOR = re.compile(r"<<[^<>\n]*>>")
_HASH_ANSWER = re.compile(r"####[ \t]*(\S[^\n]*)\s*\Z")
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])[ \t]*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped brace is text and closes nothing
_BARE_BOX = re.compile(r"[^\s$]+")

# A float target carries 15 to 17 significant digits; programs and targets agree to that or not at all.
TARGET_TOLERANCE = Fraction(1, 10**9)


class MissingColumn(InputError):
    """A row has no such column."""


@dataclass(frozen=True)
class Rejection:
    """A well-formed row that is not used, and why: the key it is counted under."""

    reason: str
    question: str


Parsed = Problem | Rejection


def parse_row(source: str, row: Row, identifier: str, columns: Columns | None = None) -> Parsed:
    """The problem in `row`; MissingColumn (a sentence without the place) when a column is absent."""
    if columns is not None:
        return _mapped(source, row, identifier, columns)
    return _PARSERS[source](source, row, identifier)


def column(row: Row, name: str) -> Any:
    """`row[name]`, or MissingColumn that says which columns there are."""
    if name not in row:
        raise MissingColumn(f"no column '{name}'; the row has {', '.join(map(repr, row)) or 'none'}")
    return row[name]


def text_column(row: Row, name: str) -> str:
    """A column that holds text; null counts as empty."""
    value = column(row, name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise MissingColumn(f"column '{name}' should hold text, found {type(value).__name__}")
    return value.strip()


def number_text(value: Any) -> str | None:
    """An answer column as text: 18.0 becomes '18'; None when it is empty or not a finite number."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        try:
            return format_number(Fraction(str(value)))
        except ValueError:  # nan, inf
            return None
    if isinstance(value, str):
        return value.strip() or None
    return None


def split_hash_answer(text: str) -> tuple[str, str] | None:
    """GSM8K's `answer` column as (reasoning, final answer); None when it has no `####` line at its end.

    The calculator notes `<<48/2=24>>` are removed: they repeat the sentence's own calculation.
    """
    found = _HASH_ANSWER.search(text)
    if found is None:
        return None
    return _CALCULATOR.sub("", text[: found.start()]).strip(), found.group(1).strip().replace(",", "")


def last_boxed(text: str) -> str | None:
    r"""Content of the last `\boxed{…}` or `\fbox{…}` with its braces balanced, or None.

    A box without braces holds what stands up to the next space or `$`: `\boxed 2` is 2.
    """
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    start = boxes[-1].end()
    if not text.startswith("{", start):
        bare = _BARE_BOX.match(text, start)
        return bare.group().rstrip(".,;:") or None if bare else None
    depth = 0
    for brace in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return text[start + 1 : brace.start()].strip() or None
    return None


def _gsm8k(source: str, row: Row, identifier: str) -> Parsed:
    question, text = text_column(row, "question"), text_column(row, "answer")
    if not question or not text:
        return Rejection("empty", question)
    parts = split_hash_answer(text)
    if parts is None or not parts[0]:
        return Rejection("no_answer", question)
    return Problem(question, parts[0], parts[1], source, identifier)


def _gsm_hard(source: str, row: Row, identifier: str) -> Parsed:
    question, code = text_column(row, "input"), text_column(row, "code")
    target = number_text(column(row, "target"))
    if not question or not code:
        return Rejection("empty", question)
    if target is None:
        return Rejection("no_answer", question)
    try:
        worked = work_out(code)
    except UnsupportedProgram:
        return Rejection("program_unsupported", question)
    wanted = Fraction(str(row["target"]))
    if abs(worked.value - wanted) > TARGET_TOLERANCE * max(Fraction(1), abs(wanted)):
        return Rejection("program_mismatch", question)
    return Problem(question, "\n".join(worked.steps), format_number(worked.value), source, identifier)


def _numinamath(source: str, row: Row, identifier: str) -> Parsed:
    question, response = text_column(row, "prompt"), text_column(row, "response")
    if not question or not response:
        return Rejection("empty", question)
    if column(row, "correct") is not True:
        return Rejection("incorrect", question)
    answer = number_text(column(row, "ground_truth"))
    if answer is None:
        return Rejection("no_answer", question)
    return Problem(question, response, answer, source, identifier)


def _generator(source: str, row: Row, identifier: str) -> Parsed:
    return Problem(row["question"], row["solution"], row["answer"], source, identifier)


def _mapped(source: str, row: Row, identifier: str, columns: Columns) -> Parsed:
    question = text_column(row, columns.question)
    solution = text_column(row, columns.solution) if columns.solution else ""
    if not question:
        return Rejection("empty", question)
    if columns.answer:
        answer = number_text(column(row, columns.answer))
        parts = split_hash_answer(solution)
        solution = parts[0] if parts else solution
    else:
        parts = split_hash_answer(solution)
        solution, answer = parts if parts else (solution, last_boxed(solution))
    if answer is None:
        return Rejection("no_answer", question)
    attributes = {name: said for name in columns.attributes if (said := _label(row, name)) is not None}
    group = _label(row, columns.group) if columns.group else None
    return Problem(question, solution, answer, source, identifier, attributes, group)


def _label(row: Row, name: str) -> str | None:
    """A column that sorts problems (a level, a group) as text; None when it is null."""
    value = column(row, name)
    if value is None:
        return None
    if not isinstance(value, str | int | float):
        raise MissingColumn(f"column '{name}' should hold text or a number, found {type(value).__name__}")
    return str(value)


_PARSERS: dict[str, Callable[[str, Row, str], Parsed]] = {
    "gsm8k": _gsm8k,
    "gsm8k_platinum": _gsm8k,
    "gsm_hard": _gsm_hard,
    "numinamath_qwq_cot": _numinamath,
    "generator": _generator,
}
