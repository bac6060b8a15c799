"""Listing is a scan; a run that cannot be read is listed as that and hides no other."""

from __future__ import annotations

from pathlib import Path

from mathreason.listing import list_runs
from mathreason.results import write_json


def test_runs_are_listed_newest_first_with_what_is_known(tmp_path: Path) -> None:
    write_json(tmp_path / "old" / "run.json", {"status": "done", "started_at": "2026-01-01", "model": "m"})
    write_json(
        tmp_path / "new" / "run.json", {"status": "failed", "started_at": "2026-02-01", "error": "why"}
    )
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "run.json").write_text('{"status": ')
    (tmp_path / "no run").mkdir()
    (tmp_path / "file").write_text("")
    runs = list_runs(tmp_path)
    assert [(run.id, run.status) for run in runs] == [
        ("new", "failed"),
        ("old", "done"),
        ("torn", "unreadable"),
    ]
    assert runs[0].note == "why"


def test_scores_come_from_the_comparison(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "run.json", {"status": "done"})
    entry = {"n": 10, "base": {"value": 0.1}, "tuned": {"value": 0.6}, "difference": {"value": 0.5}}
    write_json(tmp_path / "a" / "comparison.json", {"benchmarks": {"gsm8k": entry}})
    [run] = list_runs(tmp_path)
    assert run.to_dict()["accuracy"] == {"gsm8k": {"base": 0.1, "tuned": 0.6}}
