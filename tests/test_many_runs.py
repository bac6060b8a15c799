"""Hundreds of processes and one results folder: what said it is done is whole, the rest is what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from many_runs import ITEMS
from support import ROOT, run_program, run_script

from mathreason.listing import list_runs
from mathreason.results import RunDir, read_json, read_jsonl

PROCESSES, RUNS, KILLS = 64, 50, 200


@pytest.mark.slow
def test_runs_of_many_processes_are_whole_or_listed_as_what_they_are(tmp_path: Path) -> None:
    root = tmp_path / "results"
    root.mkdir()
    made = run_script(
        ROOT / "tests" / "many_runs.py", root, str(PROCESSES), str(RUNS), str(KILLS), timeout=900
    )
    assert made.returncode == 0, made.stderr
    said = json.loads(made.stdout)
    assert said["failed"] == []
    assert said["killed"] == KILLS

    listed = {run.id: run for run in list_runs(root)}
    folders = {path.name for path in root.iterdir() if not path.name.startswith(".")}
    assert len(folders) == PROCESSES * RUNS
    # A process killed before the first word of a run has left a folder with nothing in it, or the job alone.
    silent = {name for name, run in listed.items() if run.status == "pending"}
    assert all(not (root / name / "run.json").exists() for name in silent)
    done = {name for name, run in listed.items() if run.status == "done"}
    assert set(said["done"]) <= done
    assert {run.status for name, run in listed.items() if name not in done | silent} <= {"stopped"}
    assert len(folders) - len(done) <= KILLS
    for name in done:
        whole(RunDir(root / name))
    for name, run in listed.items():
        assert run.note == "", name
    shown = run_program("results", "--results", root, "--json")
    assert [json.loads(line)["id"] for line in shown.stdout.splitlines()] == [r.id for r in list_runs(root)]


def whole(run: RunDir) -> None:
    """Every result of a run is there and readable."""
    assert read_json(run.train)["steps"] == 3
    for variant in ("base", "tuned"):
        assert read_json(run.evaluation("generator", variant))["n"] == ITEMS
        assert sum(1 for _ in read_jsonl(run.samples("generator", variant))) == ITEMS
    assert read_json(run.comparison)["benchmarks"]["generator"]["n"] == ITEMS
    left = [path.name for path in run.path.rglob("*.tmp")]
    assert left == []
