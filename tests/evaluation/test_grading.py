"""Grading is exact, agrees with hand-judged cases, and a graded file is complete or absent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathreason.errors import InputError
from mathreason.evaluation.grading import MAX_REFERENCE, grade, grade_file

CASES = [
    json.loads(line)
    for line in Path(__file__).with_name("cases.jsonl").read_text(encoding="utf-8").splitlines()
]


@pytest.mark.parametrize(
    "case", CASES, ids=[f"line {number}: {case['kind']}" for number, case in enumerate(CASES, start=1)]
)
def test_agrees_with_the_hand_judged_case(case: dict[str, Any]) -> None:
    graded = grade(case["response"], case["answer"])
    assert graded.correct is case["correct"], graded
    if "extracted" in case:
        assert graded.extracted == case["extracted"]


@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_a_number_is_correct_only_if_it_is_the_reference(ours: int, theirs: int) -> None:
    for response in (
        f"#### {ours:,}",
        f"The answer is {ours}.",
        f"\\boxed{{{ours}}}",
        f"Therefore, x = {ours}.",
    ):
        assert grade(response, str(ours)).correct
        assert grade(response, f"{theirs:,}").correct is (ours == theirs)


@given(st.integers(1, 10**6), st.integers(2, 10**3), st.integers(2, 6))
def test_a_rounded_decimal_answers_only_what_no_decimal_can_write(over: int, under: int, places: int) -> None:
    scaled = over * 10**places
    rounded = (2 * scaled + under) // (2 * under)
    written = f"{rounded // 10**places}.{rounded % 10**places:0{places}d}"
    terminates = 10**40 * over % under == 0
    exact = rounded * under == scaled
    assert grade(f"#### {written}", f"{over}/{under}").correct is (exact or not terminates)
    off = rounded + 1
    wrong = f"{off // 10**places}.{off % 10**places:0{places}d}"
    assert not grade(f"#### {wrong}", f"{over}/{under}").correct


@pytest.mark.parametrize(
    ("response", "answer", "correct"),
    [
        ("50%", "50", True),
        ("50%", "0.5", True),
        ("50", "50%", True),
        ("0.5", "50%", True),
        ("50%", "50%", True),
        ("0.5%", "50%", False),
        ("50%", "5000", False),
        ("50", "0.5", False),
        ("0.5", "50", False),
    ],
)
def test_a_percent_sign_is_a_unit_or_a_hundredth_but_never_both(
    response: str, answer: str, correct: bool
) -> None:
    assert grade(f"#### {response}", answer).correct is correct


def test_clock_times_differ_by_their_half_of_the_day() -> None:
    assert grade("#### 2:00 pm", "2:00 PM").correct
    assert not grade("#### 2:00 am", "2:00 PM").correct
    assert grade("#### 14:00", "14").correct


def test_case_matters_for_variables_and_not_for_words() -> None:
    assert grade("#### evelyn", "Evelyn").correct
    assert not grade("\\boxed{a}", "A").correct


def test_a_whole_reference_solution_counts_by_its_last_line() -> None:
    assert grade("#### 18", "She makes 9*2=18.\n#### 18").correct


@pytest.mark.parametrize("answer", ["", "  \n", "####", "$$", "\u200e", "9" * (MAX_REFERENCE + 1)])
def test_a_reference_that_cannot_be_graded_against_is_refused(answer: str) -> None:
    with pytest.raises(InputError, match="reference answer"):
        grade("#### 18", answer)


@given(st.text(), st.text())
def test_grading_any_text_gives_a_grade_or_refuses_the_reference(response: str, answer: str) -> None:
    try:
        graded = grade(response, answer)
    except InputError:
        return
    assert graded == grade(response, answer)
    assert not (graded.correct and graded.extracted is None)


HOSTILE = """
import sys
from mathreason.evaluation.grading import grade
from mathreason.evaluation.numbers import parse_number

million = 1_000_000
texts = [
    "9**9**9", "$999999999!$", "10^{10^{10}}", "1e999999999", "__import__('os').system('touch pwned')",
    "1" * million, "1 " * (million // 2), "1," * (million // 2), "#### " * (million // 5),
    "- " * (million // 2),
    "{" * 10_000 + "}" * 10_000, "\\\\boxed{" * 10_000 + "}" * 10_000, "\\\\frac{" * 10_000 + "}" * 10_000,
    "The answer is " * 20_000, "answer to " * 20_000, "5 or " * 200_000, "=" * million, "\\n" * million,
    "5\\x00" * 100_000, "\\ud800" * 100_000, "\\u202e" * 100_000, "\\u0301" * million, "five " * 100_000,
]
for text in texts:
    for response in (text, "#### " + text, "\\\\boxed{" + text + "}"):
        assert not grade(response, "314159").correct
    parse_number(text)
print(len(texts))
"""


def test_hostile_text_is_graded_within_a_hard_limit_and_never_run(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        timeout=5,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "23"
    assert list(tmp_path.iterdir()) == []


# -- files -----------------------------------------------------------------------------------------


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
    assert graded == [
        rows[0] | {"extracted": "18", "strategy": "hash", "correct": True},
        rows[1] | {"extracted": "18", "strategy": "last_number", "correct": True},
        rows[2] | {"extracted": None, "strategy": "none", "correct": False},
        rows[3] | {"extracted": "2.5", "strategy": "boxed", "correct": True},
    ]
    assert (summary.total, summary.correct, summary.no_answer, summary.fallback) == (4, 3, 1, 1)
    assert summary.by_strategy == {
        "hash": 1,
        "boxed": 1,
        "answer_is": 0,
        "therefore": 0,
        "last_number": 1,
        "none": 1,
    }
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
