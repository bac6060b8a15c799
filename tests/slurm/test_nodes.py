"""Training over several nodes, by torchrun with gloo, and the loss of one of them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from processes import losses, run_in, state, steps_logged
from slurm_cluster import Cluster, several_nodes, until
from support import small_job

from mathreason.results import read_json


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with several_nodes(3) as cluster:
        yield cluster


def write_job(place: Path, steps: int) -> None:
    """Without dropout, whose random numbers differ between processes."""
    job = small_job()
    job["training"].update(max_steps=steps, gradient_accumulation=2, checkpoint_steps=5, logging_steps=1)
    job["lora"]["dropout"] = 0.0
    (place / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")


def test_two_nodes_follow_the_loss_curve_of_one_process(nodes: Cluster, place: Path) -> None:
    write_job(place, steps=8)
    alone = nodes.submit("slurm/train_mistral.sh", "job.yaml", "--results", "alone", cwd=place)
    job = nodes.submit("--nodes=2", "slurm/train_mistral.sh", "job.yaml", cwd=place)
    assert nodes.ended(job)["JobState"] == "COMPLETED"
    assert nodes.ended(alone)["JobState"] == "COMPLETED"
    together, single = losses(place / "results"), losses(place / "alone")
    assert len(single) > 8
    assert [line[:2] for line in together] == [line[:2] for line in single]
    assert [line[2] for line in together] == pytest.approx([line[2] for line in single], rel=1e-3)
    run = run_in(place / "results")
    assert run is not None
    assert read_json(run.train)["processes"] == 2


def test_training_preempted_and_robbed_of_a_node_goes_on_on_the_rest(nodes: Cluster, place: Path) -> None:
    write_job(place, steps=60)
    job = nodes.submit("--nodes=2", "slurm/train_mistral.sh", "job.yaml", cwd=place)
    results = place / "results"
    until(lambda: steps_logged(results) >= 3, "step 3")
    nodes.preempt(job)
    until(lambda: nodes.restarts(job) == 1, "the restart")
    wanted = steps_logged(results) + 12  # so that a checkpoint was saved since
    until(lambda: steps_logged(results) >= wanted, f"step {wanted}")
    assert nodes.facts(job)["NodeList"] == "node[1-2]"
    nodes.kill_node(2)
    facts = nodes.ended(job)
    assert (facts["JobState"], facts["ExitCode"], facts["Restarts"]) == ("COMPLETED", "0:0", "2")
    assert facts["NodeList"] == "node[1,3]"
    assert state(results)["status"] == "done"
    log = (place / f"train-mistral-{job}.log").read_text(encoding="utf-8")
    saved, last = map(int, re.findall(r"training embedded: 60 steps, from (\d+)", log))
    assert 3 <= saved < last


def test_results_in_a_folder_of_this_host_are_refused_before_submitting(nodes: Cluster) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        place = Path(folder)
        write_job(place, steps=4)
        done = nodes.run("mathreason", "submit", "job.yaml", cwd=place)
        assert done.returncode == 2
        assert "is this host's own" in done.stderr
        assert "node1, node2, node3 would not see it" in done.stderr
        assert not (place / "results").exists()
    assert nodes.queue() == []
