"""Whether a response gives the reference answer, and grading a file of them.

    grade("She makes 9*2=18.\\n#### $18.00", "18")  -> Grade(extracted="18.00", strategy="hash", correct=True)
    grade("#### 16.5", "16")                        -> Grade(extracted="16.5", strategy="hash", correct=False)

Numbers are compared as exact fractions: no rounding, no relative tolerance, no factor of 100. Two
readings are open, because people write them:

- A percent sign, on one side only, may be a unit: "50%" answers 50 and 0.5; "0.5%" does not answer "50%".
- A decimal with two or more places answers a reference that no decimal can write (1/3), if it is that
  reference rounded to its places: 0.33 answers 1/3, while 0.13 does not answer 1/8.

Anything else is compared as text after `normalisation.normalise_text`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

from mathreason.errors import InputError, MathreasonError
from mathreason.evaluation.extraction import STRATEGIES, Strategy, extract
from mathreason.evaluation.normalisation import normalise_answer
from mathreason.evaluation.numbers import Number, read_number
from mathreason.results import fsync_directory, read_jsonl

MAX_REFERENCE = 500
"""Characters of a reference answer; a longer one is a solution, not an answer."""


@dataclass(frozen=True, slots=True)
class Grade:
    """`extracted` is None where the response commits to no answer; that is never correct."""

    extracted: str | None
    strategy: Strategy
    correct: bool


@dataclass(frozen=True, slots=True)
class GradeSummary:
    """Counts over a graded file. `fallback` counts answers taken from the last number of a response."""

    total: int
    correct: int
    no_answer: int
    fallback: int
    by_strategy: dict[Strategy, int]


def grade(response: str, answer: str) -> Grade:
    """Grade `response` against the reference `answer`.

    Of a whole GSM8K solution as the reference, what follows its `####` counts. Raises InputError when
    the reference is empty or longer than `MAX_REFERENCE` characters.
    """
    reference = _reference(answer)
    extraction = extract(response)
    correct = extraction.answer is not None and _same(_candidate(extraction.answer), reference)
    return Grade(extraction.answer, extraction.strategy, correct)


# -- comparison ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Answer:
    text: str
    number: Number | None


@lru_cache(maxsize=4096)
def _reference(answer: str) -> _Answer:
    text = " ".join(answer.rpartition("####")[2].split())
    if len(text) > MAX_REFERENCE or not (normalised := normalise_answer(text)):
        shown = answer if len(answer) <= 60 else answer[:60] + "..."
        raise InputError(
            f"the reference answer {shown!r} cannot be graded against; give a number or a short expression"
        )
    return _candidate(normalised)


def _candidate(normalised: str) -> _Answer:
    return _Answer(_comparable(normalised), read_number(normalised))


def _comparable(text: str) -> str:
    """`text` without `y =` in front, and in lower case if it is words (case tells variables apart)."""
    text = re.sub(r"^(?:[A-Za-z]|[a-z]\([a-z]\))=(?!=)", "", text)
    return text.lower() if re.fullmatch(r"[A-Za-z ]{2,}|\d{1,2}:\d\d\s?[ap]m", text, re.IGNORECASE) else text


def _same(candidate: _Answer, reference: _Answer) -> bool:
    if candidate.number is None or reference.number is None:
        return candidate.number is reference.number and candidate.text == reference.text
    ours, theirs = candidate.number, reference.number
    if ours.clock and theirs.clock and ours.text[-1] == theirs.text[-1] == "m":
        return ours.text == theirs.text
    if ours.percent == theirs.percent:
        return _equal(ours, 1, theirs.value)
    if ours.percent:
        return _equal(ours, 1, theirs.value) or _equal(ours, 100, theirs.value)
    return _equal(ours, 1, theirs.value) or _equal(ours, 1, theirs.value * 100)


def _equal(number: Number, scale: int, value: Fraction) -> bool:
    """Whether `number` times `scale` is `value`, or is `value` rounded where no decimal can write it."""
    ours = number.value * scale
    if ours == value:
        return True
    if number.decimals is None or number.decimals < 2 or _terminates(value):
        return False
    places = number.decimals + (2 if number.percent and scale == 1 else 0)
    return ours == round(value, places)


def _terminates(value: Fraction) -> bool:
    """Whether a finite decimal writes `value`: its denominator has no prime factors but 2 and 5."""
    rest = value.denominator
    while (common := math.gcd(rest, 10)) > 1:
        rest //= common
    return rest == 1


# -- files -----------------------------------------------------------------------------------------


def grade_file(source: Path, output: Path) -> GradeSummary:
    """Write the lines of `source` to `output` with `extracted`, `strategy` and `correct` added.

    Each line of `source` is a JSON object with `response` (text) and `answer` (text or number). Lines
    keep their order and their other keys. Memory does not grow with the file. `output` appears by rename
    once every line is graded. Raises InputError with file and line for a line that cannot be graded, for
    an empty file, and when `output` is `source` itself.
    """
    if output.resolve() == source.resolve() or (
        output.exists() and source.exists() and output.samefile(source)
    ):
        raise InputError(f"{output} is also the input; choose another file for the graded lines")
    tally: Counter[Strategy] = Counter()
    correct = 0
    temporary = output.with_name(f".{output.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            for graded, line in _graded_lines(source):
                tally[graded.strategy] += 1
                correct += graded.correct
                file.write(line)
            if not tally:
                raise InputError(f"{source} holds no lines to grade")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(output)
        fsync_directory(output.parent)
    except OSError as error:
        raise MathreasonError(f"cannot write {output}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return GradeSummary(
        total=tally.total(),
        correct=correct,
        no_answer=tally["none"],
        fallback=tally["last_number"],
        by_strategy={strategy: tally[strategy] for strategy in STRATEGIES},
    )


def _graded_lines(source: Path) -> Iterator[tuple[Grade, bytes]]:
    for number, row in read_jsonl(source):
        where = f"{source}:{number}"
        try:
            graded = grade(_response(row, where), _answer_text(row, where))
        except InputError as error:
            raise error if str(error).startswith(where) else InputError(f"{where}: {error}") from error
        row |= {"extracted": graded.extracted, "strategy": graded.strategy, "correct": graded.correct}
        yield graded, _json_line(row, where)


def _response(row: dict[str, Any], where: str) -> str:
    if "response" not in row:
        raise InputError(f"{where}: the key 'response' is missing; each line needs 'response' and 'answer'")
    if not isinstance(row["response"], str):
        raise InputError(f"{where}: 'response' must be text, found {type(row['response']).__name__}")
    return row["response"]


def _answer_text(row: dict[str, Any], where: str) -> str:
    """`answer` as text; a JSON number becomes its shortest decimal."""
    if "answer" not in row:
        raise InputError(f"{where}: the key 'answer' is missing; each line needs 'response' and 'answer'")
    answer = row["answer"]
    if isinstance(answer, str):
        return answer
    if isinstance(answer, bool) or not isinstance(answer, int | float) or not math.isfinite(answer):
        raise InputError(f"{where}: 'answer' must be text or a finite number, found {answer!r}")
    return repr(answer)


def _json_line(row: dict[str, Any], where: str) -> bytes:
    try:
        return (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8 form; JSON can still escape it
        return (json.dumps(row, allow_nan=False) + "\n").encode("ascii")
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: cannot be written as JSON again: {error}") from error
