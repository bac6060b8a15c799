"""`mathreason grade`: files and runs, what is printed, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mathreason.cli.main import main

ROWS = [
    {"response": "so 3\n#### 3", "answer": "3"},
    {"response": "nothing", "answer": 4, "id": "x"},
    {"response": "\\boxed{11+x}", "answer": "x+11"},
]


@pytest.fixture
def responses(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["grade", *map(str, arguments)], catch_exceptions=False)


def test_a_summary_is_printed_and_the_lines_written(responses: Path, tmp_path: Path) -> None:
    result = invoke(responses, "--output", tmp_path / "out.jsonl")
    assert result.exit_code == 0
    said = {" ".join(line.split()) for line in result.output.splitlines()}
    assert said >= {
        "2 of 3 correct (66.7%)",
        "no answer 1 33.3%",
        "correct by lm-eval's gsm8k, strict 1 33.3%",
        "judged otherwise by lm-eval, flexible 1 33.3%",
        "answer found by boxed 1 33.3%",
    }
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["correct"] for line in lines] == [True, False, True]


def test_the_summary_as_json(responses: Path, tmp_path: Path) -> None:
    result = invoke(responses, "--output", tmp_path / "out.jsonl", "--json")
    summary = json.loads(result.output)
    assert (summary["total"], summary["correct"], summary["timed_out"]) == (3, 2, 0)
    assert summary["by_strategy"]["hash"] == 1


def test_a_file_needs_an_output_and_is_not_touched(responses: Path) -> None:
    before = responses.read_bytes()
    result = invoke(responses)
    assert result.exit_code == 2
    assert "--output" in result.output
    assert responses.read_bytes() == before


def test_a_target_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    for arguments in ([], ["--output", tmp_path / "out.jsonl"]):
        result = invoke(tmp_path / "nowhere", *arguments)
        assert result.exit_code == 2
        assert "nowhere" in result.output
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    result = invoke(tmp_path)
    assert result.exit_code == 2
    assert "not a run directory" in result.output
