"""`mathreason status` and `doctor` beside a real Slurm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from processes import state, steps_logged
from slurm_cluster import Cluster, until
from support import small_job


def status(cluster: Cluster, place: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in cluster.output("mathreason", "status", "--json", cwd=place).splitlines()
    ]


def test_status_says_what_waits_and_why_what_runs_and_what_was_cancelled(
    cluster: Cluster, place: Path
) -> None:
    job = small_job()
    job["training"].update(max_steps=100_000, checkpoint_steps=100_000)
    (place / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    submitted = cluster.output("mathreason", "submit", "job.yaml", "--sbatch", "hold", cwd=place)
    number = submitted.split()[2]
    [held] = status(cluster, place)
    assert (held["status"], held["note"]) == ("waiting", "train: JobHeldUser")
    assert [(entry["task"], entry["state"]) for entry in held["jobs"]] == [(number, "PENDING")]
    twice = cluster.run("mathreason", "submit", "job.yaml", cwd=place)
    assert twice.returncode == 2
    assert f"is submitted already: jobs {number} wait or run" in twice.stderr

    cluster.output("scontrol", "release", number)
    until(lambda: steps_logged(place / "results") >= 3, "step 3")
    [running] = status(cluster, place)
    assert (running["status"], running["steps"], running["jobs"][0]["state"]) == (
        "running",
        100_000,
        "RUNNING",
    )
    assert running["step"] >= 3

    cluster.output("scancel", number)
    cluster.ended(number)
    [stopped] = status(cluster, place)
    assert (stopped["status"], stopped["jobs"][0]["state"]) == ("stopped", "CANCELLED")


def test_status_knows_a_script_given_to_sbatch_by_hand(cluster: Cluster, place: Path) -> None:
    job = small_job()
    job["training"].update(max_steps=100_000, checkpoint_steps=100_000)
    (place / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    number = cluster.submit("slurm/train_mistral.sh", "job.yaml", cwd=place)
    until(lambda: steps_logged(place / "results") >= 3, "step 3")
    [running] = status(cluster, place)
    assert (running["status"], running["jobs"][0]["task"], running["jobs"][0]["state"]) == (
        "running",
        number,
        "RUNNING",
    )
    assert state(place / "results")["slurm_cluster"] == "tests"
    cluster.preempt(number)
    until(lambda: cluster.facts(number)["JobState"] == "PENDING", "the requeue")
    [waiting] = status(cluster, place)
    assert (waiting["status"], waiting["note"]) == ("waiting", "job: BeginTime")
    cluster.output("scancel", number)
    cluster.ended(number)
    [stopped] = status(cluster, place)
    assert (stopped["status"], stopped["jobs"][0]["state"]) == ("stopped", "CANCELLED")


def test_sweep_that_waits_and_job_that_never_began_are_seen(cluster: Cluster, place: Path) -> None:
    job = small_job()
    (place / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    job["sweep"] = {"grid": {"lora.r": [2, 4]}}
    (place / "sweep.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    for name in ("sweep.yaml", "job.yaml"):
        cluster.output("mathreason", "submit", name, "--sbatch", "hold", cwd=place)
    found = {view["jobs"][0]["stage"]: view for view in status(cluster, place)}
    assert (found["sweep"]["status"], found["sweep"]["note"]) == ("waiting", "sweep: JobHeldUser")
    assert "-sweep-" in found["sweep"]["run"]

    numbers = {stage: view["jobs"][0]["task"].partition("_")[0] for stage, view in found.items()}
    cluster.output("scancel", numbers["sweep"])
    helper = place / "results" / found["train"]["run"] / "slurm" / "common.sh"
    helper.write_text("exit 3\n")
    cluster.output("scontrol", "release", numbers["train"])
    cluster.ended(numbers["train"])
    found = {view["jobs"][0]["stage"]: view for view in status(cluster, place)}
    assert found["sweep"]["status"] == "stopped"
    assert (found["train"]["status"], found["train"]["jobs"][0]["state"]) == ("failed", "FAILED")
    assert "train: FAILED (NonZeroExitCode)" in found["train"]["note"]


def test_doctor_finds_the_controller(cluster: Cluster, place: Path) -> None:
    lines = cluster.output("mathreason", "doctor", "--json", cwd=place).splitlines()
    [found] = [check for check in map(json.loads, lines) if check["part"] == "Slurm"]
    assert (found["state"], found["found"].endswith(", 1 nodes")) == ("ok", True)
