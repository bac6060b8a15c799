from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support import ROOT, Job

from mathreason.cli.main import main

WriteJob = Callable[[dict[str, Any]], Path]


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture
def path(job: Job, write_job: WriteJob) -> Path:
    return write_job({**job, "sweep": {"grid": {"lora.r": [4, 8]}, "seeds": [1, 2]}})


def test_dry_run_shows_the_runs_and_leaves_nothing(path: Path, tmp_path: Path) -> None:
    result = invoke("sweep", path, "--results", tmp_path / "results", "--dry-run")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines() if line.strip().endswith("pending")]
    assert [line[:4] for line in lines] == [
        ["1", "r=4", "1", "lora.r=4"],
        ["2", "r=4", "2", "lora.r=4"],
        ["3", "r=8", "1", "lora.r=8"],
        ["4", "r=8", "2", "lora.r=8"],
    ]
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("only", "said"),
    [
        ("0", "the runs of this sweep are 1 to 4"),
        ("5", "the runs of this sweep are 1 to 4"),
        ("2/12", "this sweep has 4 runs, not 12"),
        ("two", "write it as I or I/N"),
        ("2/", "write it as I or I/N"),
    ],
)
def test_run_that_is_not_there_is_refused(path: Path, only: str, said: str) -> None:
    result = invoke("sweep", path, "--only", only)
    assert result.exit_code == 2
    assert said in result.output


def test_job_without_a_sweep_and_sweep_as_a_run_are_refused(
    path: Path, job: Job, write_job: WriteJob
) -> None:
    single = write_job(job, "single.yaml")
    for arguments, said in (
        (("sweep", single), "has no sweep:"),
        (("run", path), "use `mathreason sweep"),
        (("compare", single), "has no sweep:"),
        (("compare", path, "--results", path.parent), "no run of small-sweep-"),
        (("sweep", path, "--data-dir", path.parent / "nowhere"), "no such folder"),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 2, arguments
        assert said in result.output
        assert "Traceback" not in result.output


def test_files_that_are_not_there_are_said_before_anything_runs(job: Job, write_job: WriteJob) -> None:
    path = write_job({**job, "sweep": {"grid": {"model.name": ["embedded", "./nowhere"]}}})
    for name in ("sweep", "validate"):
        result = invoke(name, path)
        assert result.exit_code == 2
        assert "the model folder ./nowhere does not exist" in result.output


def test_validate_checks_every_run_of_a_sweep(path: Path, job: Job, write_job: WriteJob) -> None:
    result = invoke("validate", path)
    assert result.exit_code == 0
    assert "4 runs" in result.output
    wrong = write_job({**job, "sweep": {"grid": {"lora.rr": [4]}}}, "wrong.yaml")
    result = invoke("validate", wrong)
    assert result.exit_code == 2
    assert "unknown key 'lora.rr'" in result.output


def test_every_shipped_ablation_is_valid() -> None:
    result = invoke("validate", *sorted((ROOT / "jobs" / "ablations").glob("*.yaml")))
    assert result.exit_code == 0, result.output
    assert result.output.count("ok  ") == 9
