"""A graded file is complete or absent, and keeps what its lines held."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mathreason.errors import InputError
from mathreason.evaluation.grading_file import GradeSummary, grade_file

CASES = [
    json.loads(line)
    for line in Path(__file__).with_name("cases.jsonl").read_text(encoding="utf-8").splitlines()
]


def write_lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_file_keeps_its_lines_their_order_and_their_keys(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "a", "response": "#### 18", "answer": "18", "note": "é"},
        {"id": "b", "response": "18 eggs", "answer": 18},
        {"id": "c", "response": "The answer is 7 or 8", "answer": 7.0, "correct": True},
        {"id": "d", "response": "\\boxed{2.5}", "answer": 2.5},
    ]
    source, output = write_lines(tmp_path / "in.jsonl", *rows), tmp_path / "new" / "out.jsonl"
    summary = grade_file(source, output)
    graded = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    verdicts = [
        ("18", "hash", True, True, True),
        ("18", "last_number", True, False, True),
        (None, "none", False, False, False),
        ("2.5", "boxed", True, False, True),
    ]
    names = ("extracted", "strategy", "correct", "lm_eval_strict", "lm_eval_flexible")
    assert graded == [
        row | dict(zip(names, verdict, strict=True)) | {"timed_out": False}
        for row, verdict in zip(rows, verdicts, strict=True)
    ]
    assert summary == GradeSummary(
        total=4,
        correct=3,
        no_answer=1,
        fallback=1,
        timed_out=0,
        lm_eval_strict=1,
        lm_eval_flexible=3,
        strict_differs=2,
        flexible_differs=0,
        by_strategy=dict.fromkeys(summary.by_strategy, 0)
        | {"hash": 1, "boxed": 1, "last_number": 1, "none": 1},
    )
    assert os.listdir(output.parent) == ["out.jsonl"]  # noqa: PTH208


def test_grading_its_own_output_again_changes_nothing(tmp_path: Path) -> None:
    rows = [{key: case[key] for key in ("response", "answer")} for case in CASES]
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    summary = grade_file(write_lines(tmp_path / "in.jsonl", *rows), first)
    assert summary.total == len(CASES)
    assert summary.correct == sum(case["correct"] for case in CASES)
    assert grade_file(first, second) == summary
    assert first.read_bytes() == second.read_bytes()


GOOD = b'{"response": "#### 18", "answer": "18"}\n'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{not json\n", "not valid JSON"),
        (b"[1]\n", "expected a JSON object"),
        (b'{"answer": "18"}\n', "'response' is missing"),
        (b'{"response": "18"}\n', "'answer' is missing"),
        (b'{"response": 18, "answer": "18"}\n', "'response' must be text"),
        (b'{"response": "18", "answer": null}\n', "'answer' must be text or a finite number"),
        (b'{"response": "18", "answer": true}\n', "'answer' must be text or a finite number"),
        (b'{"response": "18", "answer": NaN}\n', "'answer' must be text or a finite number"),
        (b'{"response": "18", "answer": ""}\n', "reference answer ''"),
        (b'{"response": "18", "answer": "18", "loss": NaN}\n', "cannot be written as JSON"),
        (b'{"response": "\xff", "answer": "18"}\n', "not valid UTF-8"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_written(tmp_path: Path, line: bytes, message: str) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(GOOD + line + GOOD)
    output.write_text("from an earlier run")
    with pytest.raises(InputError, match=rf"in\.jsonl:2: .*{message}"):
        grade_file(source, output)
    assert output.read_text() == "from an earlier run"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(content)
    with pytest.raises(InputError, match="no lines to grade"):
        grade_file(source, output)
    assert not output.exists()


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        grade_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_the_input_is_never_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(GOOD)
    (tmp_path / "symbolic.jsonl").symlink_to(source)
    (tmp_path / "hard.jsonl").hardlink_to(source)
    for name in ("in.jsonl", "symbolic.jsonl", "hard.jsonl"):
        with pytest.raises(InputError, match="also the input"):
            grade_file(source, tmp_path / name)
    assert source.read_bytes() == GOOD


def test_lone_surrogates_survive_in_a_graded_file(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", {"response": "#### 5\ud800", "answer": "5"})
    assert grade_file(source, tmp_path / "out.jsonl").correct == 1
    graded = json.loads((tmp_path / "out.jsonl").read_bytes().decode("utf-8"))
    assert graded["response"] == "#### 5\ud800"
    assert graded["extracted"] == "5"


def test_a_reader_of_an_earlier_result_keeps_all_of_it(tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(GOOD)
    output.write_text("from an earlier run")
    with output.open() as reader:
        grade_file(source, output)
        assert reader.read() == "from an earlier run"
    assert json.loads(output.read_bytes())["correct"] is True


def test_formulas_and_time_outs_are_counted(tmp_path: Path) -> None:
    rows = [
        {"response": "\\boxed{11+x}", "answer": "x+11"},
        {"response": "\\boxed{(x^{9999}+1)^{9999}}", "answer": "x+\\sin(x)"},
    ]
    summary = grade_file(write_lines(tmp_path / "in.jsonl", *rows), tmp_path / "out.jsonl")
    assert (summary.correct, summary.timed_out) == (1, 1)
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["timed_out"] for line in lines] == [False, True]
