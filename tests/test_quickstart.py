"""The shipped quickstart, whole: the tuned model is better by far, on held-out problems."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import ROOT, run_program

from mathreason.results import RunDir, read_json


@pytest.mark.slow
def test_quickstart_shows_a_large_and_sure_gain(tmp_path: Path) -> None:
    done = run_program("run", ROOT / "jobs" / "quickstart.yaml", "--results", tmp_path, timeout=1800)
    assert done.returncode == 0, done.stderr
    [path] = tmp_path.iterdir()
    run = RunDir(path)
    result = read_json(run.comparison)["benchmarks"]["generator"]
    assert result["n"] == 300
    assert result["mcnemar"]["p_value"] < 0.01
    assert result["difference"]["value"] >= 0.30
    assert result["verdict"] == "better"
    assert read_json(run.data)["audit"]["kept_contaminated"] == 0
    assert read_json(run.evaluation("generator", "tuned"))["contamination"]["clean"]
    assert "better" in done.stdout
    assert f"report: {run.report}" in done.stdout.replace("\n", "")
