"""A training that Slurm interrupts: saved, requeued, resumed, and in the end the same adapter."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from processes import adapter_bytes, run_in, state, steps_logged
from slurm_cluster import Cluster, until
from support import small_job

from mathreason.training.checkpoints import complete_checkpoints, step_of

SCRIPT = "slurm/train_mistral.sh"


def write_job(place: Path, steps: int) -> None:
    """A training of some five steps a second, with dropout, so that a random state lost would be seen."""
    job = small_job()
    job["training"].update(max_steps=steps, gradient_accumulation=2, checkpoint_steps=50)
    job["lora"]["dropout"] = 0.1
    (place / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")


def goes_on(results: Path, steps: int) -> None:
    """Wait until a training has logged that many steps more."""
    wanted = steps_logged(results) + steps
    until(lambda: steps_logged(results) >= wanted, f"step {wanted}")


def preempted(cluster: Cluster, job: str, restart: int) -> None:
    cluster.preempt(job)
    until(lambda: cluster.restarts(job) == restart, f"restart {restart}")


def saved_step(results: Path) -> int:
    run = run_in(results)
    assert run is not None
    complete, _ = complete_checkpoints(run.checkpoints)
    return max(map(step_of, complete))


def log_of(place: Path, job: str) -> str:
    return (place / f"train-mistral-{job}.log").read_text(encoding="utf-8")


def test_training_preempted_three_times_ends_with_the_adapter_of_an_undisturbed_one(
    cluster: Cluster, place: Path
) -> None:
    write_job(place, steps=90)
    undisturbed = cluster.submit(SCRIPT, "job.yaml", "--results", "undisturbed", cwd=place)
    job = cluster.submit(SCRIPT, "job.yaml", cwd=place)
    results = place / "results"
    for restart in range(1, 4):
        goes_on(results, 3)
        preempted(cluster, job, restart)
    goes_on(results, 3)
    cluster.output("scontrol", "requeue", job)  # what Slurm does when it takes the node without a warning
    facts = cluster.ended(job)
    assert (facts["JobState"], facts["ExitCode"], facts["Restarts"]) == ("COMPLETED", "0:0", "4")
    assert state(results)["status"] == "done"
    assert state(results)["starts"] == 5
    assert cluster.ended(undisturbed)["JobState"] == "COMPLETED"
    assert adapter_bytes(results) == adapter_bytes(place / "undisturbed")
    log = log_of(place, job)
    assert [f"restart {n} of at most 10" in log for n in (1, 2, 3, 4)] == [True, True, True, False]
    assert log.count("training embedded: 90 steps") == 5  # what each start said is still there


def test_training_that_runs_out_of_time_ends_with_the_adapter_of_an_undisturbed_one(
    cluster: Cluster, place: Path
) -> None:
    """Slurm looks at time limits every 30 s, and signals where the next look would be too late.

    The first start is held until then, as a fast machine would be done before.
    """
    write_job(place, steps=30)
    undisturbed = cluster.submit(SCRIPT, "job.yaml", "--results", "undisturbed", cwd=place)
    results = place / "results"
    job = cluster.submit("--time=1", "--signal=B:USR1@15", SCRIPT, "job.yaml", cwd=place)
    goes_on(results, 2)
    worker = state(results)["process"]
    send(worker, signal.SIGSTOP)
    until(lambda: "SIGUSR1: asking the program to save and stop" in log_of(place, job), "the end of the time")
    send(worker, signal.SIGCONT)
    facts = cluster.ended(job)
    assert (facts["JobState"], facts["ExitCode"]) == ("COMPLETED", "0:0")
    assert int(facts["Restarts"]) >= 1
    log = log_of(place, job)
    assert "DUE TO TIME LIMIT" not in log
    assert re.search(r"training embedded: 30 steps, from [1-9]", log)
    assert cluster.ended(undisturbed)["JobState"] == "COMPLETED"
    assert adapter_bytes(results) == adapter_bytes(place / "undisturbed")


def send(process: dict[str, Any] | None, number: signal.Signals) -> None:
    """A signal to what run.json calls the process at work, unless it has ended."""
    if process is not None:
        with suppress(ProcessLookupError):
            os.kill(process["pid"], number)


def test_training_is_not_restarted_more_often_than_allowed(cluster: Cluster, place: Path) -> None:
    write_job(place, steps=100_000)
    results = place / "results"
    disk = place / "disk"
    disk.mkdir()
    variables = {"MAX_RESTARTS": "1", "MATHREASON_LOCAL_DISK": str(disk)}
    job = cluster.submit(SCRIPT, "job.yaml", cwd=place, **variables)
    until(lambda: any(disk.iterdir()), "the batch shell")
    preempted(cluster, job, restart=1)  # before the program has begun
    goes_on(results, 2)
    cluster.preempt(job)
    facts = cluster.ended(job)
    assert (facts["JobState"], facts["ExitCode"], facts["Restarts"]) == ("FAILED", "1:0", "1")
    assert state(results)["status"] == "stopped"
    assert saved_step(results) == steps_logged(results) >= 2
    assert "after 1 restarts, the most that MAX_RESTARTS allows" in log_of(place, job)


def test_cancelled_training_is_saved_and_does_not_come_back(cluster: Cluster, place: Path) -> None:
    write_job(place, steps=100_000)
    results = place / "results"
    job = cluster.submit(SCRIPT, "job.yaml", cwd=place)
    goes_on(results, 2)
    cluster.output("scancel", job)
    facts = cluster.ended(job)
    assert state(results)["status"] == "stopped"
    assert saved_step(results) == steps_logged(results)
    assert (facts["JobState"], facts["Restarts"]) == ("CANCELLED", "0")


def test_training_that_the_user_stops_is_not_requeued(cluster: Cluster, place: Path) -> None:
    write_job(place, steps=100_000)
    results = place / "results"
    job = cluster.submit(SCRIPT, "job.yaml", cwd=place)
    goes_on(results, 2)
    run = run_in(results)
    assert run is not None
    cluster.output("mathreason", "stop", run.path, cwd=place)
    facts = cluster.ended(job)
    assert (facts["JobState"], facts["ExitCode"], facts["Restarts"]) == ("COMPLETED", "0:0", "0")
    assert state(results)["status"] == "stopped"


def test_training_that_reaches_its_own_deadline_is_not_requeued(cluster: Cluster, place: Path) -> None:
    write_job(place, steps=100_000)
    job = cluster.submit(SCRIPT, "job.yaml", "--deadline", "40s", cwd=place)
    facts = cluster.ended(job)
    assert (facts["JobState"], facts["ExitCode"], facts["Restarts"]) == ("COMPLETED", "0:0", "0")
    assert state(place / "results")["status"] == "stopped"
    assert "stopped by the deadline; submit the same job again to go on" in log_of(place, job)


def test_bad_input_is_not_requeued(cluster: Cluster, place: Path) -> None:
    write_job(place, steps=3)
    arguments = [SCRIPT, "job.yaml", "--set", "training.steps=4"]
    facts = cluster.ended(cluster.submit(*arguments, cwd=place))
    assert (facts["JobState"], facts["ExitCode"], facts["Restarts"]) == ("FAILED", "2:0", "0")
