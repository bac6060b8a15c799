"""What `status` says of runs that work, wait, stopped, failed or were killed; and `stop`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import cleared, ended, run_in, start, state, steps_logged, wait_until
from support import run_program, small_job

from mathreason.cluster import slurm
from mathreason.cluster.slurm import Entry
from mathreason.cluster.status import _Queue, view, view_of, views
from mathreason.jobfile import dump_job, load_job
from mathreason.results import RunDir, Shard, append_jsonl, process_space, write_json
from mathreason.session import open_session, resolve, set_up

WriteJob = Callable[..., Path]


def status(results: Path, *arguments: str) -> list[dict[str, Any]]:
    done = run_program("status", *arguments, "--results", results, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_training_under_way_says_how_far_it_is_and_can_be_stopped(
    write_job: WriteJob, tmp_path: Path
) -> None:
    job = small_job()
    job["training"].update(max_steps=5000, checkpoint_steps=5000)
    results, output = tmp_path / "results", tmp_path / "said.txt"
    process = start("train", write_job(job), "--results", results, output=output)
    with cleared([process]):
        wait_until(lambda: steps_logged(results) >= 30, process)
        [found] = status(results)
        assert (found["status"], found["stage"], found["steps"]) == ("running", "train", 5000)
        assert 30 <= found["step"] < 5000
        assert found["loss"] > 0
        table = run_program("status", "--results", results).stdout
        assert f"/{found['steps']}" in table
        run = run_in(results)
        assert run is not None
        stop = run_program("stop", run.id, "--results", results)
        assert stop.returncode == 0, stop.stderr
        assert ended(process) == 0
    assert state(results)["reason"] == "a STOP file"
    [found] = status(results)
    assert (found["status"], found["note"]) == ("stopped", "a STOP file")
    again = run_program("stop", run.id, "--results", results)
    assert again.returncode == 2
    assert f"nothing works on {run.id} (stopped)" in again.stderr


def test_settings_of_the_evaluation_are_those_of_the_last_call(write_job: WriteJob, tmp_path: Path) -> None:
    path = write_job(small_job())
    for limit in ("3", "5"):
        target = resolve(str(path), [f"evaluation.limit={limit}"], tmp_path / "results", None)
        set_up(target)
    assert load_job(target.run.job).evaluation.limit == 5


def test_rates_come_from_the_last_lines_of_the_log(write_job: WriteJob, tmp_path: Path) -> None:
    job = small_job()
    job["training"]["max_steps"] = 100
    target = resolve(str(write_job(job)), [], tmp_path / "results", None)
    set_up(target)
    write_json(target.run.run, {"status": "running", "stage": "train", "process": None})
    lines = [
        {
            "step": 10,
            "epoch": 0.1,
            "loss": 2.0,
            "supervised_tokens": 900,
            "time": "2026-01-01T00:00:00+00:00",
        },
        {
            "step": 20,
            "epoch": 0.2,
            "loss": 1.5,
            "supervised_tokens": 800,
            "time": "2026-01-01T00:00:40+00:00",
        },
        {"step": 20, "epoch": 0.2, "validation_loss": 1.6, "time": "2026-01-01T00:00:44+00:00"},
    ]
    append_jsonl(target.run.log, lines)
    with target.run.log.open("a", encoding="utf-8") as log:
        log.write('{"step": 30, "lo')  # being written
    found = view(target.run)
    assert (found.step, found.steps, found.loss) == (20, 100, 1.5)
    assert (found.tokens_per_second, found.eta_seconds) == (20.0, 320.0)


def test_clock_of_another_node_makes_no_rate_and_no_error(write_job: WriteJob, tmp_path: Path) -> None:
    """After a requeue the log goes on with the time of a node whose clock is an hour behind."""
    target = resolve(str(write_job(small_job())), [], tmp_path / "results", None)
    set_up(target)
    write_json(target.run.run, {"status": "running", "started_at": "2126-01-01T00:00:00+00:00"})
    times = ("2026-01-01T01:00:00+00:00", "2026-01-01T00:00:40+00:00")
    lines = [{"step": step, "loss": 1.0, "time": time} for step, time in zip((1, 2), times, strict=True)]
    append_jsonl(target.run.log, lines)
    write_json(tmp_path / "results" / "earlier" / "run.json", {"status": "failed", "started_at": "2026"})
    future, earlier = views(tmp_path / "results")
    assert (future.step, future.tokens_per_second, future.eta_seconds) == (2, None, None)
    assert (future.status, earlier.status) == ("running", "failed")


def test_runs_are_listed_as_what_they_are(tmp_path: Path) -> None:
    results = tmp_path / "results"
    wanted = {
        "failed": {"status": "failed", "error": "no such thing"},
        "done": {"status": "done"},
        "pending": {"status": "pending"},
        "gone": {
            "status": "running",
            "process": {"host": process_space(), "pid": 1, "born": "0"},
        },
        "elsewhere": {"status": "running", "process": {"host": "another", "pid": 1, "born": "0"}},
    }
    for name, values in wanted.items():
        write_json(results / name / "run.json", {"started_at": name, **values})
    (results / "torn").mkdir()
    (results / "torn" / "run.json").write_text('{"status": "do')
    (results / "empty").mkdir()
    found = {each.run: (each.status, each.note) for each in views(results)}
    assert found.pop("torn")[0] == "unreadable"
    assert found == {
        "failed": ("failed", "no such thing"),
        "pending": ("pending", ""),
        "gone": ("stopped", ""),
        "elsewhere": ("running", ""),
    }
    assert view(RunDir(results / "done")).status == "done"


@pytest.mark.parametrize(
    ("said", "queued", "wanted", "note"),
    [
        ("pending", {"train": "OUT_OF_MEMORY"}, "failed", "train: OUT_OF_MEMORY (why)"),
        ("pending", {"train": "CANCELLED"}, "stopped", "train: cancelled"),
        ("pending", {}, "failed", "its jobs are gone"),
        ("pending", {"train": "PENDING"}, "waiting", "train: why"),
        ("running", {"train": "NODE_FAIL"}, "failed", "train: NODE_FAIL (why)"),
        ("running", {"train": "PENDING"}, "waiting", "train: why"),  # its node was lost
        ("running", {"base": "RUNNING", "train": "RUNNING"}, "running", ""),
        ("failed", {"train": "PENDING"}, "waiting", "train: why"),  # submitted again
        ("failed", {"train": "FAILED", "base": "RUNNING"}, "failed", "the old error"),
        ("running", {}, "stopped", "train: forgotten"),
        ("stopped", {"train": "COMPLETED"}, "stopped", "a STOP file"),
        ("done", {"train": "COMPLETED", "report": "COMPLETED"}, "failed", "its jobs are gone"),
        ("done", {"train": "COMPLETED", "tuned": "FAILED", "report": "CANCELLED"}, "failed", "tuned: FAILED"),
        ("done", {"train": "COMPLETED", "tuned": "PENDING"}, "waiting", "tuned: why"),
    ],
)
def test_jobs_that_ended_explain_what_the_run_does_not_know(
    said: str, queued: dict[str, str], wanted: str, note: str, tmp_path: Path, write_job: WriteJob
) -> None:
    run = RunDir(tmp_path / "run")
    stages = list(queued) or ["train"]
    at = str(stages.index("train"))
    process = {"host": "another", "pid": 1, "born": "0"} if said == "running" else None
    words = {"reason": "a STOP file", "error": "the old error"}
    write_json(run.run, {"status": said, "process": process, "slurm_job": at, **words})
    run.job.write_text(dump_job(load_job(write_job(small_job()))))
    write_json(run.comparison, {})  # the base evaluation's own
    write_json(run.evaluation("generator", "base"), {})
    jobs = [{"stage": stage, "id": str(number)} for number, stage in enumerate(stages)]
    write_json(run.path / "slurm" / "submission.json", {"jobs": jobs})
    queue = _Queue([run])
    queue.note = ""  # Slurm answers
    queue.entries = {
        str(number): [Entry(str(number), str(number), state, "why")]
        for number, state in enumerate(queued.values())
    }
    found = view_of(run, queue)
    assert found.status == wanted
    assert note in found.note


@pytest.mark.parametrize(
    ("said", "queued", "wanted"),
    [
        ("running", "RUNNING", "running"),
        ("running", "PENDING", "waiting"),  # its node was lost
        ("running", None, "stopped"),
        ("running", "NODE_FAIL", "failed"),
        ("stopped", "PENDING", "waiting"),  # it was preempted
        ("stopped", None, "stopped"),
        ("failed", None, "failed"),
    ],
)
@pytest.mark.parametrize("shard", [False, True])
def test_slurm_is_asked_about_a_script_given_to_sbatch_by_hand(
    said: str, queued: str | None, wanted: str, shard: bool, tmp_path: Path, write_job: WriteJob
) -> None:
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    run.job.write_text(dump_job(load_job(write_job(small_job()))))
    process = {"host": "another", "pid": 1, "born": "0"} if said == "running" else None
    write_json(
        run.shard_state(Shard(3, 4)) if shard else run.run,
        {"status": said, "process": process, "slurm_job": "7_3"},
    )
    queue = _Queue([run])
    queue.note = ""
    queue.entries = {"7": [Entry("7_4", "7", "RUNNING", "None")]}
    if queued is not None:
        queue.entries["7"].append(Entry("7_3", "7", queued, "why"))
    if shard:
        write_json(run.run, {"status": "done", "process": None})
        wanted = "done" if wanted == said == "stopped" else wanted
    assert view_of(run, queue).status == wanted


@pytest.mark.parametrize("by_hand", [True, False])
def test_jobs_of_a_cluster_that_shares_the_folder_are_not_taken_for_those_of_this_one(
    by_hand: bool, tmp_path: Path, write_job: WriteJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(slurm, "cluster", lambda: "here")
    monkeypatch.setattr(slurm, "queue", lambda numbers: asked.extend(numbers) or [])
    found = {}
    for cluster in ("here", "there"):
        run = RunDir(tmp_path / cluster)
        run.path.mkdir()
        run.job.write_text(dump_job(load_job(write_job(small_job()))))
        process = {"host": "another", "pid": 1, "born": "0"}
        words = {"slurm_job": "7", "slurm_cluster": cluster} if by_hand else {}
        write_json(run.run, {"status": "running", "process": process, **words})
        if not by_hand:
            jobs = [{"stage": "train", "id": "7"}]
            write_json(run.path / "slurm" / "submission.json", {"cluster": cluster, "jobs": jobs})
        found[cluster] = view(run)
    assert asked == ["7"]
    assert (found["here"].status, found["there"].status) == ("stopped", "running")
    assert (found["there"].jobs[0].state, found["there"].jobs[0].reason) == ("UNKNOWN", "on cluster there")


def test_process_in_a_batch_job_says_which_task_it_is(
    write_job: WriteJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = resolve(str(write_job(small_job())), [], tmp_path / "results", None)
    jobs = []
    for variables in ({"JOB_ID": "4711"}, {"ARRAY_JOB_ID": "4710", "ARRAY_TASK_ID": "3"}):
        for name, value in variables.items():
            monkeypatch.setenv(f"SLURM_{name}", value)
        with open_session(target) as session:
            jobs.append(session.state["slurm_job"])
    assert jobs == ["4711", "4710_3"]


def test_sweep_whose_tasks_run_is_running(tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "sweep")
    write_json(folder.path / "slurm" / "submission.json", {"jobs": [{"stage": "sweep", "id": "7"}]})
    queue = _Queue([folder])
    queue.note = ""
    queue.entries = {"7": [Entry("7_1", "7", "RUNNING", "None"), Entry("7_[2-4]", "7", "PENDING", "why")]}
    assert view_of(folder, queue).status == "running"


def test_error_that_looks_like_markup_is_shown_as_it_is(tmp_path: Path) -> None:
    said = "[/gloo/pair.cc:534] Connection closed [bold]by peer"
    write_json(tmp_path / "run" / "run.json", {"status": "failed", "error": said})
    done = run_program("status", "--results", tmp_path, environment={"COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    assert set(said.split()) <= set(done.stdout.split())


def test_a_shard_that_failed_is_seen_when_the_training_is_done(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "results" / "run")
    write_json(run.run, {"status": "done", "process": None})
    write_json(run.shard_state(Shard(2, 4)), {"status": "failed", "process": None, "error": "disk full"})
    [found] = views(tmp_path / "results")
    assert (found.status, found.note) == ("failed", "shard 2-of-4: disk full")


def test_run_killed_before_its_first_status_is_pending(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "results" / "run")
    run.path.mkdir(parents=True)
    run.job.write_text("name: run\n")
    [found] = views(tmp_path / "results")
    assert (found.run, found.status) == ("run", "pending")
    listed = run_program("results", "--results", tmp_path / "results", "--json")
    assert json.loads(listed.stdout)["status"] == "pending"


def test_an_empty_folder_and_none_are_said(tmp_path: Path) -> None:
    assert "nothing runs or waits" in run_program("status", "--results", tmp_path).stdout
    missing = run_program("status", "--results", tmp_path / "none")
    assert (missing.returncode, "there is no results folder" in missing.stderr) == (2, True)


@pytest.mark.parametrize("command", ["status", "stop"])
def test_run_that_is_not_there_is_refused(command: str, tmp_path: Path) -> None:
    done = run_program(command, "nothing", "--results", tmp_path)
    assert done.returncode == 2
    assert "there is no run 'nothing'" in done.stderr
