"""Grading a JSON Lines file of responses, without a model.

    summary = grade_file(Path("responses.jsonl"), Path("graded.jsonl"))
    summary.correct, summary.total, summary.to_dict()

Each line is an object with `response` (text) and `answer` (text or number), and comes out with the fields
of `grading.Grade` added. A file with a line that cannot be read, be it only invalid UTF-8, is refused with
the line's number: a response that was changed in order to read it would be graded as another one.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mathreason.errors import InputError, MathreasonError
from mathreason.evaluation.extraction import STRATEGIES, Strategy
from mathreason.evaluation.grading import Grade, Grader
from mathreason.results import fsync_directory, read_jsonl


@dataclass(frozen=True, slots=True)
class GradeSummary:
    """Counts over a graded file.

    `fallback` counts answers taken from the last number of a response, `timed_out` comparisons that ran out
    of time. `strict_differs` and `flexible_differs` count responses that lm-evaluation-harness' task gsm8k
    judges otherwise.
    """

    total: int
    correct: int
    no_answer: int
    fallback: int
    timed_out: int
    lm_eval_strict: int
    lm_eval_flexible: int
    strict_differs: int
    flexible_differs: int
    by_strategy: dict[Strategy, int]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def grade_file(source: Path, output: Path) -> GradeSummary:
    """Write the lines of `source` to `output` with the fields of `Grade` added.

    Lines keep their order and their other keys. Memory does not grow with the file. `output` appears by
    rename once every line is graded. Raises InputError with file and line for a line that cannot be graded,
    for an empty file, and when `output` is `source` itself.
    """
    if output.resolve() == source.resolve() or (
        output.exists() and source.exists() and output.samefile(source)
    ):
        raise InputError(f"{output} is also the input; choose another file for the graded lines")
    counts: Counter[str] = Counter()
    temporary = output.with_name(f".{output.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file, Grader() as grader:
            for graded, line in _graded_lines(source, grader):
                counts.update(_counted(graded))
                file.write(line)
            if not counts:
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
    return _summary(counts)


def _counted(graded: Grade) -> Iterator[str]:
    yield "total"
    yield graded.strategy
    yield from (
        name
        for name in ("correct", "timed_out", "lm_eval_strict", "lm_eval_flexible")
        if getattr(graded, name)
    )
    if graded.correct != graded.lm_eval_strict:
        yield "strict_differs"
    if graded.correct != graded.lm_eval_flexible:
        yield "flexible_differs"


def _summary(counts: Counter[str]) -> GradeSummary:
    return GradeSummary(
        total=counts["total"],
        correct=counts["correct"],
        no_answer=counts["none"],
        fallback=counts["last_number"],
        timed_out=counts["timed_out"],
        lm_eval_strict=counts["lm_eval_strict"],
        lm_eval_flexible=counts["lm_eval_flexible"],
        strict_differs=counts["strict_differs"],
        flexible_differs=counts["flexible_differs"],
        by_strategy={strategy: counts[strategy] for strategy in STRATEGIES},
    )


def _graded_lines(source: Path, grader: Grader) -> Iterator[tuple[Grade, bytes]]:
    for number, row in read_jsonl(source):
        where = f"{source}:{number}"
        response, answer = _response(row, where), _answer_text(row, where)
        try:
            graded = grader.grade(response, answer)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        yield graded, _json_line(row | graded.to_dict(), where)


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
