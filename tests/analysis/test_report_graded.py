from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import run_program

from mathreason.analysis.report_graded import load_graded, write_errors_page
from mathreason.errors import InputError

ROW = {"question": "What is 2 + 2?", "response": "2 + 2 = 5\n#### 5", "answer": "4", "correct": False}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_graded_file_becomes_a_page(tmp_path: Path) -> None:
    rows = [
        ROW,
        {**ROW, "question": "And 1 + 1?", "response": "1 + 1 = 2\n#### 2", "answer": 2, "correct": True},
    ]
    page = write_errors_page(write(tmp_path / "graded.jsonl", *rows), tmp_path / "errors.html").read_text()
    assert "50.0 % right" in page
    assert '<span class="wrong">2 + 2 = 5</span><span class="note">gives 4</span>' in page
    assert "Arithmetic slip:\n1 of 1 items" in page
    assert "model: <b>wrong," in page


def test_hostile_lines_are_shown_as_text(tmp_path: Path) -> None:
    row = {**ROW, "id": "<img src=x>", "response": "</script><script>alert(1)</script>\x00 2 + 2 = 5"}
    row |= {"attributes": {"<b>": "<i>"}, "extracted": "<u>", "strategy": "hash"}
    page = write_errors_page(
        write(tmp_path / "<b>.jsonl", row, row | {"attributes": {"<b>": "x"}}), tmp_path / "e.html"
    )
    html = page.read_text()
    assert "<script>alert" not in html
    assert all(tag not in html for tag in ("<img", "<i>", "<u>", "\x00"))
    assert "⟨U+0000⟩" in html


def test_columns_have_synonyms_and_answers_are_read_again(tmp_path: Path) -> None:
    row = {"prompt": "2 + 2?", "response": "So it is \\boxed{5}.", "ground_truth": "4", "correct": False}
    [sample] = load_graded(write(tmp_path / "g.jsonl", row))
    assert (sample.question, sample.answer, sample.extracted) == ("2 + 2?", "4", "5")
    assert (sample.id, sample.group) == ("line 1", "2 + 2?")


def test_responses_to_one_question_are_no_independent_observations(tmp_path: Path) -> None:
    rows = [{**ROW, "question": f"Q{index // 8}", "correct": index < 40} for index in range(80)]
    page = write_errors_page(write(tmp_path / "g.jsonl", *rows), tmp_path / "e.html").read_text()
    assert "which allows for their 10 groups" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"correct": None}, "the key 'correct' is missing"),
        ({"response": None}, "the key 'response' is missing"),
        ({"correct": 1}, "'correct' should be bool"),
        ({"response": ["a"]}, "'response' should be str"),
        ({"attributes": "Algebra"}, "'attributes' should be dict"),
    ],
)
def test_a_line_that_is_no_graded_response_is_named(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "g.jsonl", ROW, ROW | change)
    with pytest.raises(InputError, match=message) as caught:
        load_graded(path)
    assert str(caught.value).startswith(f"{path}:2: ")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no responses"):
        load_graded(write(tmp_path / "g.jsonl"))


def test_the_page_of_real_responses(real_data: Path, tmp_path: Path) -> None:
    samples = load_graded(real_data / "numinamath_qwq_cot" / "train.jsonl")
    assert (len(samples), sum(sample.correct for sample in samples)) == (400, 375)
    page = write_errors_page(
        real_data / "numinamath_qwq_cot" / "train.jsonl", tmp_path / "e.html"
    ).read_text()
    assert "93.8 % right" in page
    assert "which allows for their 50 groups" in page
    assert "Format:\n1 of 8 items" in page


@pytest.mark.slow
def test_the_command_writes_the_page_and_says_what_it_needs(tmp_path: Path) -> None:
    path = write(tmp_path / "graded.jsonl", ROW)
    done = run_program("report", path, "--output", tmp_path / "errors.html")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "errors.html").read_text().startswith("<!doctype html>")
    refused = run_program("report", path)
    assert refused.returncode == 2
    assert "needs --output" in refused.stderr
