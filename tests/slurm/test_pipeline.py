"""`mathreason submit --pipeline`: the whole chain and what is left of it when training fails."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from slurm_cluster import Cluster, Facts, until
from support import Job, small_job

from mathreason.results import RunDir, read_appended, read_json


def submitted(cluster: Cluster, place: Path, job: Job) -> tuple[RunDir, dict[str, str]]:
    """Submit the whole pipeline of `job`; its run directory, and the id of each stage."""
    (place / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    cluster.output("mathreason", "submit", "job.yaml", "--pipeline", "--time", "00:20:00", cwd=place)
    [run] = [path for path in (place / "results").iterdir() if (path / "run.json").is_file()]
    document: dict[str, Any] = read_json(run / "slurm" / "submission.json")
    return RunDir(run), {entry["stage"]: entry["id"] for entry in document["jobs"]}


def time_of(facts: Facts, name: str) -> datetime:
    return datetime.fromisoformat(facts[name])


def nothing_is_queued(cluster: Cluster) -> None:
    until(lambda: not cluster.queue(), "an empty queue", 60)


def test_pipeline_goes_from_job_to_report(cluster: Cluster, place: Path) -> None:
    job = small_job()
    job["evaluation"]["max_new_tokens"] = 48
    run, ids = submitted(cluster, place, job)
    assert read_json(run.path / "slurm" / "submission.json")["cluster"] == "tests"
    assert cluster.ended(ids["report"])["JobState"] == "COMPLETED"
    train, base = cluster.ended(ids["train"]), cluster.ended(ids["base"])
    tuned = cluster.tasks(ids["tuned"])
    assert [task["JobState"] for task in (train, base, *tuned)] == ["COMPLETED"] * 6
    assert sorted(task["ArrayTaskId"] for task in tuned) == ["1", "2", "3", "4"]
    assert time_of(base, "StartTime") < time_of(train, "EndTime")  # beside the training
    assert all(time_of(task, "StartTime") >= time_of(train, "EndTime") for task in tuned)
    for variant in ("base", "tuned"):
        items = [row["id"] for row in read_appended(run.samples("generator", variant))]
        assert len(items) == len(set(items)) == 12
    assert run.comparison.is_file()
    assert run.report.is_file()
    assert read_json(run.run)["status"] == "done"
    nothing_is_queued(cluster)


@pytest.mark.parametrize("ending", ["fails", "stopped"])
def test_training_without_an_adapter_leaves_no_job_behind(cluster: Cluster, place: Path, ending: str) -> None:
    job = small_job()
    job["training"].update(max_steps=2000)
    if ending == "fails":
        job["training"]["learning_rate"] = 1e30  # diverges at once
    # A base evaluation that goes on for longer than anyone would wait.
    job["evaluation"].update(batch_size=1, max_new_tokens=200)
    job["evaluation"]["benchmarks"] = [{"name": "generator", "count": 2000, "seed": 5}]
    run, ids = submitted(cluster, place, job)
    until(lambda: bool(read_appended(run.log)) if run.log.exists() else ending == "fails", "a first step")
    if ending == "stopped":
        cluster.output("mathreason", "stop", run.path, cwd=place)
    assert cluster.ended(ids["train"])["JobState"] == "FAILED"
    nothing_is_queued(cluster)
    states = {stage: {task["JobState"] for task in cluster.tasks(ids[stage])} for stage in ids}
    assert states["tuned"] == states["report"] == {"CANCELLED"}
    assert states["base"] <= {"CANCELLED", "FAILED"}  # it may have seen the STOP file as well
    assert read_json(run.run)["status"] == ("failed" if ending == "fails" else "stopped")
