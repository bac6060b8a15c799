"""Listing is a scan; a run that cannot be read is listed as that and hides no other."""

from __future__ import annotations

import json
import resource
import subprocess
from pathlib import Path

import pytest
from support import command, run_program

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


@pytest.mark.parametrize("asked", ["results", "status"])
def test_json_of_another_shape_hides_no_other_run(asked: str, tmp_path: Path) -> None:
    write_json(tmp_path / "good" / "run.json", {"status": "failed"})
    for name, state in {"host": {"process": {"pid": 1}}, "word": {"process": "me"}}.items():
        write_json(tmp_path / name / "run.json", {"status": "running", **state})
    for name, benchmarks in {"list": [], "bare": {"gsm8k": {"base": 0.5}}, "none": None}.items():
        write_json(tmp_path / name / "run.json", {"status": "stopped"})
        write_json(tmp_path / name / "scores.json", {"benchmarks": benchmarks})
    done = run_program(asked, "--results", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    states = {run.get("id") or run["run"]: run["status"] for run in found}
    other = "unreadable" if asked == "results" else "stopped"
    shapes = {"host": "unreadable", "word": "unreadable", "list": other, "bare": other, "none": other}
    assert states == {"good": "failed", **shapes}


def seconds_of(*arguments: str | Path) -> tuple[float, str]:
    """Seconds of processor time that `mathreason …` takes, start of Python and all, and what it prints.

    Not of the clock, as other tests share the processor.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command(*arguments), capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["table", "json"])
def test_ten_thousand_runs_are_listed_in_two_seconds(
    options: tuple[str, ...], finished_run: Path, tmp_path: Path
) -> None:
    files = {name: (finished_run / name).read_bytes() for name in ("comparison.json", "scores.json")}
    state = json.loads((finished_run / "run.json").read_bytes())
    for number in range(10_000):
        folder = tmp_path / f"small-{number:08x}"
        folder.mkdir()
        state["started_at"] = f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}+00:00"
        (folder / "run.json").write_text(json.dumps(state, indent=2), encoding="utf-8")
        for name, content in files.items():
            (folder / name).write_bytes(content)
    times, said = zip(
        *(seconds_of("results", "--results", tmp_path, *options) for _ in range(3)), strict=True
    )
    lines = [line for line in said[0].splitlines() if "small-" in line]
    assert len(lines) == 10_000
    assert "small-0000270f" in lines[0]  # the last that began
    assert min(times) < 2.0
