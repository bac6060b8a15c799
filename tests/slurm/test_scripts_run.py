"""The batch scripts as they are, on a node with the resources that they ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from processes import run_in, state
from slurm_cluster import Cluster, until
from support import Job, small_job

from mathreason.results import read_appended, read_json


def write(job: Job, path: Path) -> Path:
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return path


@pytest.mark.parametrize(("script", "memory"), [("train_mistral.sh", "64G"), ("train_tinyllama.sh", "32G")])
def test_training_script_trains_the_job_it_is_given(
    cluster: Cluster, place: Path, script: str, memory: str
) -> None:
    write(small_job(), place / "job.yaml")
    job = cluster.submit(f"slurm/{script}", "job.yaml", "--set", "training.max_steps=3", cwd=place)
    facts = cluster.ended(job)
    assert (facts["JobState"], facts["ExitCode"]) == ("COMPLETED", "0:0")
    assert (facts["NumCPUs"], facts["MinMemoryNode"], facts["TresPerNode"]) == ("8", memory, "gres:gpu:1")
    run = run_in(place / "results")
    assert run is not None
    assert read_json(run.train)["steps"] == 3
    assert (run.adapter / "adapter_model.safetensors").is_file()
    name = script.removesuffix(".sh").replace("_", "-")
    assert "adapter: " in (place / f"{name}-{job}.log").read_text(encoding="utf-8")


def test_names_for_a_shell_arrive_as_text_and_nothing_stays_on_the_node(
    cluster: Cluster, place: Path
) -> None:
    odd = """a "b' $(touch pwned) `touch pwned`; touch pwned &"""
    folder, data, disk = place / odd, place / f"data {odd}", place / f"disk {odd}"
    for path in (folder, data, disk):
        path.mkdir()
    (folder / "slurm").symlink_to(place / "slurm")
    (data / "embedded").mkdir()  # as in the job
    (data / "embedded" / "large.txt").write_text("text " * 1000, encoding="utf-8")
    write(small_job(), folder / f"{odd}.yaml")
    arguments = (f"{odd}.yaml", "--results", f"to {odd}", "--set", "training.max_steps=1")
    variables = {"MATHREASON_DATA_DIR": str(data), "MATHREASON_LOCAL_DISK": str(disk)}
    job = cluster.submit("slurm/train_mistral.sh", *arguments, cwd=folder, **variables)
    until(lambda: any(disk.glob("*/MATHREASON_DATA_DIR/embedded/large.txt")), "the copy of the data")
    assert cluster.ended(job)["JobState"] == "COMPLETED"
    assert state(folder / f"to {odd}")["status"] == "done"
    assert not list(place.rglob("pwned"))
    assert list(disk.iterdir()) == []
    assert list((folder / "results" / ".jobs").iterdir()) == []


def test_evaluation_in_shards_goes_on_after_one_was_preempted(cluster: Cluster, place: Path) -> None:
    values = small_job()
    values["evaluation"].update(batch_size=1, max_new_tokens=48)
    values["evaluation"]["benchmarks"] = [{"name": "generator", "count": 40, "seed": 5}]
    write(values, place / "job.yaml")
    script = ("--array=1-2", "slurm/evaluate.sh", "job.yaml", "--variant", "base")
    job = cluster.submit(*script, cwd=place)

    def answered() -> int:
        return sum(
            path.read_bytes().count(b"\n") for path in place.glob("results/*/evaluations/*/*shard-1-*")
        )

    until(lambda: answered() >= 3, "three answers")
    cluster.preempt(f"{job}_1")
    until(lambda: cluster.restarts(f"{job}_1") == 1, "the restart")
    assert cluster.ended(f"{job}_1")["JobState"] == "COMPLETED"
    assert cluster.ended(f"{job}_2")["JobState"] == "COMPLETED"
    run = run_in(place / "results")
    assert run is not None
    assert run.evaluation("generator", "base").is_file()
    answers = [row["id"] for row in read_appended(run.samples("generator", "base"))]
    assert len(answers) == len(set(answers)) == 40


def test_sweep_is_carried_out_by_an_array(cluster: Cluster, place: Path) -> None:
    values = small_job()
    values["training"]["max_steps"] = 2
    values["evaluation"]["benchmarks"] = [{"name": "generator", "count": 4, "seed": 5}]
    values["sweep"] = {"grid": {"lora.r": [2, 4]}}
    write(values, place / "job.yaml")
    job = cluster.submit("--array=1-2", "slurm/sweep.sh", "job.yaml", cwd=place)
    assert [cluster.ended(f"{job}_{task}")["JobState"] for task in (1, 2)] == ["COMPLETED"] * 2
    assert len(list(place.glob("results/*/sweep.json"))) == 1
