"""Grading a run again: what changes, what stays, what a kill in between leaves, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mathreason.analysis.compare import compare_run
from mathreason.cli.main import main
from mathreason.errors import InputError
from mathreason.evaluation.rescoring import rescore_run
from mathreason.results import RunDir, process_space, read_appended, read_json, write_json, write_jsonl

GRADING = {"extracted", "strategy", "correct", "lm_eval_strict", "lm_eval_flexible", "timed_out"}


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> RunDir:
    """A copy of the finished run that a test may change."""
    shutil.copytree(finished_run, tmp_path / "run")
    return RunDir(tmp_path / "run")


def files(run: RunDir) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(run.path.rglob("*")) if path.is_file()}


def as_if_graded_otherwise(run: RunDir, variant: str) -> list[dict[str, Any]]:
    """Give the first three responses their answers, in words an older grader could not read."""
    path = run.samples("generator", variant)
    rows = read_appended(path)
    for row in rows[:3]:
        row |= {"response": f"#### {row['answer']}", "extracted": None, "strategy": "none", "correct": False}
    for row in rows[:1]:
        del row["lm_eval_strict"], row["timed_out"]
    write_jsonl(path, rows)
    summary = read_json(run.evaluation("generator", variant))
    summary["accuracy"]["correct"] = sum(row["correct"] for row in rows)
    write_json(run.evaluation("generator", variant), summary)
    return rows


def test_a_run_graded_by_this_version_stays_as_it_is(run: RunDir) -> None:
    before = files(run)
    results = rescore_run(run)
    assert [(one.benchmark, one.variant, one.n, one.changed) for one in results] == [
        ("generator", "base", 12, 0),
        ("generator", "tuned", 12, 0),
    ]
    assert files(run) == before


def test_verdicts_accuracy_and_comparison_are_renewed_and_all_else_stays(run: RunDir) -> None:
    rows = as_if_graded_otherwise(run, "tuned")
    old = read_json(run.evaluation("generator", "tuned"))
    base, tuned = rescore_run(run)
    right = sum(row["correct"] for row in rows)
    assert (base.changed, tuned.changed, tuned.before, tuned.after) == (0, 3, right, right + 3)
    after = read_appended(run.samples("generator", "tuned"))
    assert [row["correct"] for row in after[:3]] == [True, True, True]
    assert [set(row) >= GRADING for row in after] == [True] * 12
    for one, other in zip(rows, after, strict=True):
        assert {k: v for k, v in one.items() if k not in GRADING} == {
            k: v for k, v in other.items() if k not in GRADING
        }
    new = read_json(run.evaluation("generator", "tuned"))
    assert new["accuracy"]["correct"] == right + 3
    recounted = {"accuracy", "counts", "lm_eval", "rescored"}
    assert {k: v for k, v in old.items() if k not in recounted} == {
        k: v for k, v in new.items() if k not in recounted
    }
    compared = read_json(run.comparison)["benchmarks"]["generator"]["tuned"]
    assert compared["correct"] == right + 3
    before = files(run)
    assert [one.changed for one in rescore_run(run)] == [0, 0]
    assert files(run) == before


def test_a_kill_between_samples_and_summary_is_refused_by_compare_and_mended(run: RunDir) -> None:
    as_if_graded_otherwise(run, "tuned")
    old_summary = run.evaluation("generator", "tuned").read_bytes()
    rescore_run(run)
    whole = files(run)
    run.evaluation("generator", "tuned").write_bytes(old_summary)  # the samples are new, the summary is not
    with pytest.raises(InputError, match="its samples say"):
        compare_run(run)
    assert [one.changed for one in rescore_run(run)] == [0, 0]
    path = str(run.evaluation("generator", "tuned"))
    mended, expected = json.loads(files(run)[path]), json.loads(whole[path])
    assert mended["accuracy"] == expected["accuracy"]
    assert compare_run(run)["benchmarks"]["generator"]["tuned"]["correct"] == mended["accuracy"]["correct"]


def test_responses_of_other_settings_in_the_file_are_left_alone(run: RunDir) -> None:
    path = run.samples("generator", "base")
    rows = read_appended(path)
    stranger = {**rows[0], "key": "0" * 16, "correct": "never looked at"}
    write_jsonl(path, [stranger, *rows])
    assert rescore_run(run)[0].n == 12
    assert read_appended(path)[0] == stranger


def test_the_command_says_what_changed(run: RunDir) -> None:
    as_if_graded_otherwise(run, "base")
    result = CliRunner().invoke(main, ["grade", str(run.path)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "generator, base: 3 of 12 verdicts changed" in result.output
    assert "generator, tuned: 0 of 12 verdicts changed" in result.output
    as_json = CliRunner().invoke(main, ["grade", str(run.path), "--json"], catch_exceptions=False)
    assert [one["changed"] for one in json.loads(as_json.output)["evaluations"]] == [0, 0]


def test_a_run_without_an_evaluation_is_refused(run: RunDir) -> None:
    shutil.rmtree(run.path / "evaluations")
    with pytest.raises(InputError, match="no finished evaluation"):
        rescore_run(run)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"response": None}, r":1: 'response' should be text"), ({"answer": ""}, r":1: the reference answer")],
)
def test_a_malformed_row_is_named_and_nothing_changed(
    run: RunDir, change: dict[str, Any], message: str
) -> None:
    rows = read_appended(run.samples("generator", "base"))
    write_jsonl(run.samples("generator", "base"), [rows[0] | change, *rows[1:]])
    before = files(run)
    with pytest.raises(InputError, match=message):
        rescore_run(run)
    assert files(run) == before


def test_samples_that_are_gone_are_refused(run: RunDir) -> None:
    run.samples("generator", "base").unlink()
    with pytest.raises(InputError, match=r"samples\.jsonl does not exist"):
        rescore_run(run)


def test_a_run_that_is_being_worked_on_is_refused(run: RunDir) -> None:
    import os

    from mathreason.session import _born

    state = read_json(run.run)
    process = {"host": process_space(), "pid": os.getppid(), "born": _born(os.getppid())}
    write_json(run.run, {**state, "status": "running", "process": process})
    with pytest.raises(InputError, match="is working on"):
        rescore_run(run)
