"""`mathreason train` and `run`: what they say and how they end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Job, run_program


@pytest.mark.parametrize("command", ["train", "run"])
def test_a_past_deadline_is_refused_before_anything_is_made(
    tmp_path: Path, write_job: Callable[[Job], Path], job: Job, command: str
) -> None:
    results = tmp_path / "results"
    done = run_program(command, write_job(job), "--results", results, "--deadline", "2001-01-01")
    assert done.returncode == 2
    assert "Error: --deadline 2001-01-01 is past" in done.stderr
    assert not results.exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "run"])
def test_a_run_that_stops_at_its_deadline_has_not_failed(
    tmp_path: Path, write_job: Callable[[Job], Path], job: Job, command: str
) -> None:
    path, results = write_job(job), tmp_path / "results"
    done = run_program(command, path, "--results", results, "--deadline", "0s")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "stopped by the deadline; the same command goes on from there" in done.stderr
    [run] = results.iterdir()
    state = json.loads((run / "run.json").read_text())
    assert (state["status"], state["reason"], state["process"]) == ("stopped", "the deadline", None)
    again = run_program(command, path, "--results", results)
    assert again.returncode == 0, again.stderr
    state = json.loads((run / "run.json").read_text())
    assert (state["status"], state["starts"]) == ("done", 2)
    assert "reason" not in state
