"""An evaluation that is killed again and again, or split over processes, ends as an undisturbed one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support import command, run_program, run_script

from mathreason.results import VARIANTS, RunDir, read_appended, read_json

PROCESSES = 8


def test_twenty_kills_leave_no_trace(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "whole")
    done = run_script(Path(__file__).with_name("killed_evaluation.py"), tmp_path, "11", timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["20 kills, complete: False", "equal"]


def test_eight_processes_on_shards_give_the_single_result(finished_run: Path, tmp_path: Path) -> None:
    settings = ("--set", "evaluation.benchmarks.0.count=43")
    single, shared = RunDir(tmp_path / "single"), RunDir(tmp_path / "shared")
    for run in (single, shared):
        shutil.copytree(finished_run, run.path)
    alone = run_program("evaluate", single.path, *settings)
    assert alone.returncode == 0, alone.stderr
    started = [
        subprocess.Popen(
            command("evaluate", shared.path, *settings, "--shard", f"{number}/{PROCESSES}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for number in range(1, PROCESSES + 1)
    ]
    said = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0] * PROCESSES, said
    for variant in VARIANTS:
        samples = [run.samples("generator", variant) for run in (single, shared)]
        assert len(read_appended(samples[0])) == 43
        assert samples[1].read_bytes() == samples[0].read_bytes()
        assert shared.shards(samples[1]) == []
        results = [read_json(run.evaluation("generator", variant)) for run in (single, shared)]
        for result in results:
            for measured in ("timing", "provenance"):
                del result[measured]
        assert results[0] == results[1]
    assert read_json(shared.comparison)["benchmarks"]["generator"]["n"] == 43


def test_one_variant_with_other_items_is_evaluated_and_not_compared(
    finished_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    done = run_program("evaluate", tmp_path / "run", "--variant", "base", "--set", "evaluation.limit=3")
    assert done.returncode == 0, done.stderr
    assert "evaluated, but not compared" in done.stderr


@pytest.mark.parametrize("shard", ["0/2", "3/2", "2", "a/b", "1/0"])
def test_what_is_no_shard_is_refused(tmp_path: Path, shard: str) -> None:
    done = run_program("evaluate", tmp_path, "--shard", shard)
    assert done.returncode == 2
    assert "write I/N with I from 1 to N" in done.stderr
