"""Rows of each source become problems, or a counted reason why not."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from mathreason.config import Columns
from mathreason.data.problem import Problem
from mathreason.data.rows import MissingColumn, Rejection, last_boxed, number_text, parse_row


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_gsm8k_row_loses_calculator_notes_and_answer_line() -> None:
    row = {"question": "Q?", "answer": "Natalia sold 48/2 = <<48/2=24>>24 clips.\nThat is all.\n#### 1,024"}
    problem = parse_row("gsm8k", row, "gsm8k/train/0")
    assert problem == Problem(
        "Q?", "Natalia sold 48/2 = 24 clips.\nThat is all.", "1024", "gsm8k", "gsm8k/train/0"
    )
    assert isinstance(problem, Problem)
    assert problem.steps == 2


@pytest.mark.parametrize(
    ("source", "row", "reason"),
    [
        ("gsm8k", {"question": "Q?", "answer": "no marker 5"}, "no_answer"),
        ("gsm8k", {"question": "Q?", "answer": "#### 5\nand then more"}, "no_answer"),
        ("gsm8k", {"question": " ", "answer": "x\n#### 5"}, "empty"),
        (
            "numinamath_qwq_cot",
            {"prompt": "Q", "response": "r", "ground_truth": "1", "correct": False},
            "incorrect",
        ),
        (
            "numinamath_qwq_cot",
            {"prompt": "Q", "response": "r", "ground_truth": "1", "correct": None},
            "incorrect",
        ),
        (
            "numinamath_qwq_cot",
            {"prompt": "Q", "response": "", "ground_truth": "1", "correct": True},
            "empty",
        ),
        (
            "numinamath_qwq_cot",
            {"prompt": "Q", "response": "r", "ground_truth": "", "correct": True},
            "no_answer",
        ),
        ("gsm_hard", {"input": "Q", "code": "import os", "target": 1.0}, "program_unsupported"),
        (
            "gsm_hard",
            {"input": "Q", "code": "def solution():\n    return 2", "target": 1.0},
            "program_mismatch",
        ),
        ("gsm_hard", {"input": "Q", "code": "def solution():\n    return 2", "target": None}, "no_answer"),
    ],
)
def test_unusable_rows_are_rejected_with_a_reason(source: str, row: dict[str, object], reason: str) -> None:
    parsed = parse_row(source, row, "id")
    assert isinstance(parsed, Rejection)
    assert parsed.reason == reason


def test_row_without_its_column_is_bad_input_that_names_what_is_there() -> None:
    with pytest.raises(MissingColumn, match=r"no column 'answer'; the row has 'question', 'solution'"):
        parse_row("gsm8k", {"question": "Q", "solution": "S"}, "id")
    with pytest.raises(MissingColumn, match="should hold text, found int"):
        parse_row("gsm8k", {"question": 3, "answer": "x"}, "id")


def test_own_columns_are_mapped() -> None:
    row = {"q": "Q?", "work": "1 + 1 = 2", "result": 2.0}
    problem = parse_row("jsonl", row, "mine/0", Columns(question="q", solution="work", answer="result"))
    assert problem == Problem("Q?", "1 + 1 = 2", "2", "jsonl", "mine/0")
    boxed = {"question": "Q?", "solution": r"so \boxed{\frac{1}{2}}"}
    problem = parse_row("jsonl", boxed, "mine/0", Columns(solution="solution"))
    assert isinstance(problem, Problem)
    assert problem.answer == r"\frac{1}{2}"


def test_boxed_content_has_balanced_braces() -> None:
    assert last_boxed(r"\boxed{1} then \boxed{\frac{a}{b}}.") == r"\frac{a}{b}"
    assert last_boxed(r"\boxed{1") is None
    assert last_boxed("none") is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \fbox{7}.", "7"),
        (r"\boxed{1} and \fbox{2}", "2"),
        (r"so $x = \boxed 2$.", "2"),
        (r"so \boxed 12.", "12"),
        (r"so \boxed \frac{1}{2}$", r"\frac{1}{2}"),
        (r"\boxed {3}", "3"),
        (r"\boxed{\left\{ 1, 2 \right.}", r"\left\{ 1, 2 \right."),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{}", None),
        (r"\boxed", None),
        (r"\boxedanswer{4}", None),
    ],
)
def test_boxes_as_they_are_written(text: str, answer: str | None) -> None:
    assert last_boxed(text) == answer


def test_own_columns_give_attributes_and_a_group() -> None:
    row = {"question": "Q?", "answer": 2, "level": 3, "topic": "sums", "story": 17, "note": None}
    columns = Columns(answer="answer", attributes=["level", "topic", "note"], group="story")
    problem = parse_row("jsonl", row, "mine/0", columns)
    assert isinstance(problem, Problem)
    assert problem.attributes == {"level": "3", "topic": "sums"}
    assert problem.group == "17"
    with pytest.raises(MissingColumn, match="no column 'chapter'"):
        parse_row("jsonl", row, "mine/0", Columns(answer="answer", attributes=["chapter"]))
    with pytest.raises(MissingColumn, match="column 'level' should hold text or a number, found list"):
        parse_row("jsonl", {**row, "level": [3]}, "mine/0", columns)


def test_numbers_are_written_as_people_do() -> None:
    assert number_text(18.0) == "18"
    assert number_text(-9867630.0) == "-9867630"
    assert number_text(9.3e12) == "9300000000000"
    assert number_text(0.1) == "0.1"
    assert number_text(float("nan")) is None
    assert number_text(True) is None


def test_real_rows_are_nearly_all_usable(real_data: Path) -> None:
    expected = {
        "gsm8k": Counter(used=7473),
        "gsm_hard": Counter(used=1304, program_unsupported=15),
        "numinamath_qwq_cot": Counter(used=375, incorrect=25),
    }
    for source, counts in expected.items():
        parsed = [parse_row(source, row, "id") for row in read(real_data / source / "train.jsonl")]
        assert Counter(p.reason if isinstance(p, Rejection) else "used" for p in parsed) == counts
