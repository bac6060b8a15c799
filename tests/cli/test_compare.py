from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from evaluations import change_summary

from mathreason.cli.main import main
from mathreason.results import RunDir, read_json


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> RunDir:
    return RunDir(Path(shutil.copytree(finished_run, tmp_path / "run")))


def compare(*arguments: Path) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def test_one_run_is_compared_and_the_result_kept(run: RunDir) -> None:
    run.comparison.unlink()
    result = compare(run.path)
    assert result.exit_code == 0, result.output
    kept = read_json(run.comparison)["benchmarks"]["generator"]
    assert f"generator: {kept['verdict']}" in result.output
    assert "exact McNemar test on the same items" in result.output


def test_two_runs_are_compared_and_nothing_is_written(run: RunDir, finished_run: Path) -> None:
    before = run.comparison.read_bytes()
    result = compare(run.path, finished_run)
    assert result.exit_code == 0, result.output
    assert "generator: no evidence of a difference" in result.output
    assert run.comparison.read_bytes() == before


def test_another_token_limit_is_refused_with_both_numbers(run: RunDir, finished_run: Path) -> None:
    change_summary(run, "tuned", lambda each: each["settings"].update(max_new_tokens=17), "generator")
    result = compare(run.path, finished_run)
    assert result.exit_code == 2
    assert "max_new_tokens is 17 against 16" in result.output
    assert "Traceback" not in result.output
