"""The stages together: marks that must not get lost, 4-bit weights, evaluation without training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support import run_program

from mathreason.data.generator import generate
from mathreason.results import RunDir, read_json

WriteJob = Callable[[dict[str, Any]], Path]


def the_run(results: Path) -> RunDir:
    [path] = results.iterdir()
    return RunDir(path)


def test_contamination_that_was_allowed_marks_every_result(
    tmp_path: Path, job: dict[str, Any], write_job: WriteJob
) -> None:
    items = list(generate("test", count=12, seed=5))  # the benchmark of the job
    clean = list(generate("train", count=20, seed=1))
    rows = [
        {"question": p.question, "solution": f"{p.solution}\n#### {p.answer}"} for p in (*items[:3], *clean)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    columns = {"question": "question", "solution": "solution"}
    job["data"].update(
        mixture=[{"source": "jsonl", "path": str(path), "columns": columns}],
        on_contamination="allow",
        validation_fraction=0.0,
    )
    done = run_program("run", write_job(job), "--results", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    run = the_run(tmp_path / "results")
    assert read_json(run.data)["audit"]["kept_by_benchmark"] == {"generator": 3}
    assert read_json(run.evaluation("generator", "base"))["contamination"]["clean"]
    mark = read_json(run.evaluation("generator", "tuned"))["contamination"]
    assert (mark["clean"], mark["count"]) == (False, 3)
    assert any("CONTAMINATED" in warning for warning in read_json(run.comparison)["warnings"])
    assert "CONTAMINATED" in done.stdout
    assert "CONTAMINATED" in done.stderr
    assert "contaminated" in run.report.read_text().lower()
    assert read_json(run.train)["best"]["why"] == "last step; there is no validation split"


def test_four_bit_weights_with_gradient_checkpointing_go_through_every_stage(
    tmp_path: Path, job: dict[str, Any], write_job: WriteJob
) -> None:
    job["model"]["quantization"] = "nf4"
    job["training"].update(gradient_checkpointing=True, optimizer="paged_adamw_32bit")
    done = run_program("run", write_job(job), "--results", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    run = the_run(tmp_path / "results")
    train = read_json(run.train)
    assert train["model"]["quantization"] == "nf4"
    assert read_json(run.evaluation("generator", "tuned"))["model"]["quantization"] == "nf4"
    losses = [point["loss"] for point in train["validation"]]
    assert losses[-1] < losses[0]
    import torch

    if not torch.cuda.is_available():
        assert any("paged_adamw_32bit needs a GPU" in said for said in train["fallbacks"])
        assert "paged_adamw_32bit needs a GPU" in done.stderr


def test_base_can_be_evaluated_without_training(
    tmp_path: Path, job: dict[str, Any], write_job: WriteJob
) -> None:
    path = write_job(job)
    refused = run_program("evaluate", path, "--results", tmp_path / "results")
    assert refused.returncode == 2
    assert "has no trained adapter yet" in refused.stderr
    done = run_program("evaluate", path, "--results", tmp_path / "results", "--variant", "base")
    assert done.returncode == 0, done.stderr
    assert "not compared" in done.stdout
    run = the_run(tmp_path / "results")
    assert run.evaluation("generator", "base").is_file()
    assert run.report.is_file()
    before = run.samples("generator", "base").read_bytes()
    whole = run_program("run", path, "--results", tmp_path / "results")
    assert whole.returncode == 0, whole.stderr
    assert run.samples("generator", "base").read_bytes() == before
    assert run.evaluation("generator", "tuned").is_file()


def test_report_of_a_run_does_not_say_that_it_is_running(finished_run: Path) -> None:
    header = (finished_run / "report.html").read_text().partition("</header>")[0]
    assert finished_run.name in header
    assert "running" not in header
