"""A sweep with real processes: shared work, a kill in the middle, a run that fails, a request to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from support import ROOT, Job, command, run_program, small_job

from mathreason.cli.main import main
from mathreason.results import RunDir, read_json
from mathreason.sweep import Sweep, load_sweep

DEADLINE_SECONDS = 240.0


def sweep_file(folder: Path, seeds: list[int]) -> Path:
    values: Job = small_job()
    values["sweep"] = {"grid": {"lora.r": [4, 8]}, "seeds": seeds}
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def start(path: Path, results: Path) -> subprocess.Popen[bytes]:
    with (results.parent / "sweep.log").open("ab") as log:
        return subprocess.Popen(
            command("sweep", path, "--results", results),
            cwd=ROOT,
            stdout=log,
            stderr=log,
            env=dict(os.environ),
        )


def wait_for(moment: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "the sweep ended before the moment came"
        if moment():
            return
        time.sleep(0.002)
    pytest.fail("the moment never came")


def folders(sweep: Sweep, results: Path) -> list[RunDir]:
    return [run.folder(results) for run in sweep.runs]


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_killed_sweep_goes_on_and_shares_data_and_base(tmp_path: Path) -> None:
    path, results = sweep_file(tmp_path, [1, 2]), tmp_path / "results"
    sweep = load_sweep(path)
    runs = folders(sweep, results)
    process = start(path, results)
    try:
        wait_for((runs[1].checkpoints / "checkpoint-2").is_dir, process)
        at_work = read_json(runs[1].run)["process"]["pid"]
        assert at_work != process.pid
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 10
    while alive(at_work) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(at_work), "the run outlived the sweep that started it"

    done = run_program("sweep", path, "--results", results)
    assert done.returncode == 0, done.stderr
    assert [read_json(run.run)["starts"] for run in runs] == [1, 2, 1, 1]
    assert "run 1 of 4, r=4, seed 1: already done" in done.stderr
    origins = [read_json(run.evaluation("generator", "base")).get("copied_from") for run in runs]
    assert [each and each["run"] for each in origins] == [None, *[runs[0].id] * 3]
    assert [read_json(run.data).get("copied_from") is None for run in runs] == [True, False, False, False]

    comparison = read_json(results / sweep.id / "sweep.json")
    found = comparison["benchmarks"]["generator"]
    assert [each["accuracy"]["n"] for each in found["variants"]] == [24, 24]
    assert [base["evaluated_in"] for base in found["base"]] == [[runs[0].id]]
    assert found["variants"][1]["test"]["name"] == "exact sign-flip test over items"
    assert (results / sweep.id / "sweep.html").read_text().count("<svg") == 1
    for shown in ("base", "r=4: reference", "r=8: ", f"sweep: {results / sweep.id / 'sweep.html'}"):
        assert shown in done.stdout.replace("\n", "")

    alone = small_job()
    alone["lora"]["r"], alone["training"]["seed"] = 4, 2
    (tmp_path / "alone.yaml").write_text(yaml.safe_dump(alone), encoding="utf-8")
    by_itself = run_program("run", tmp_path / "alone.yaml", "--results", tmp_path / "alone")
    assert by_itself.returncode == 0, by_itself.stderr
    other = RunDir(tmp_path / "alone" / runs[1].id)
    for product in ("adapter/adapter_model.safetensors", "evaluations/generator/base.samples.jsonl"):
        assert (runs[1].path / product).read_bytes() == (other.path / product).read_bytes()

    for arguments in ([path, "--results", results], [run.path for run in runs]):
        compared = CliRunner().invoke(main, ["compare", *map(str, arguments)])
        assert compared.exit_code == 0, compared.output
        assert "r=4: reference" in compared.output
        assert "r=8: " in compared.output


@pytest.mark.slow
def test_failing_run_is_said_and_the_others_go_on(tmp_path: Path) -> None:
    path, results = sweep_file(tmp_path, [1]), tmp_path / "results"
    sweep = load_sweep(path)
    first, second = folders(sweep, results)
    process = start(path, results)
    try:
        wait_for((first.checkpoints / "checkpoint-2").is_dir, process)
        os.kill(read_json(first.run)["process"]["pid"], signal.SIGKILL)  # as a kernel out of memory does
        assert process.wait(timeout=DEADLINE_SECONDS) == 1
    finally:
        process.kill()
        process.wait()
    said = (tmp_path / "sweep.log").read_text()
    assert "Error: run 1 (r=4, seed 1) failed: killed by SIGKILL" in said
    assert read_json(second.run)["status"] == "done"
    assert "r=4, seed 1 is not finished and left out" in said.replace("\n", " ")

    last = run_program("sweep", path, "--results", results, "--only", "1/2")
    assert last.returncode == 0, last.stderr
    assert "all 2 runs are finished" in last.stdout
    assert read_json(second.run)["starts"] == 1
    assert read_json(first.evaluation("generator", "base"))["copied_from"]["run"] == second.id
    assert read_json(results / sweep.id / "sweep.json")["benchmarks"]["generator"]["variants"][1]["verdict"]


@pytest.mark.slow
def test_sweep_that_is_asked_to_stop_starts_no_further_run(tmp_path: Path) -> None:
    path, results = sweep_file(tmp_path, [1]), tmp_path / "results"
    first, second = folders(load_sweep(path), results)
    process = start(path, results)
    try:
        wait_for((first.checkpoints / "checkpoint-2").is_dir, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=DEADLINE_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
    assert not second.path.exists()
    assert "stopped at run 1; the same command goes on from there" in (tmp_path / "sweep.log").read_text()
    assert not alive(read_json(first.run)["process"]["pid"] if read_json(first.run)["process"] else -1)


@pytest.mark.slow
def test_two_tasks_of_an_array_at_once_end_with_one_comparison(tmp_path: Path) -> None:
    path, results = sweep_file(tmp_path, [1]), tmp_path / "results"
    sweep = load_sweep(path)
    tasks = [
        subprocess.Popen(
            command("sweep", path, "--results", results, "--only", f"{number}/2"),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in (1, 2)
    ]
    said = [task.communicate(timeout=DEADLINE_SECONDS)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    assert "all 2 runs are finished" in "".join(said)
    first, second = folders(sweep, results)
    for part in ("data/train.jsonl", "evaluations/generator/base.samples.jsonl"):
        assert (first.path / part).read_bytes() == (second.path / part).read_bytes()
    found = read_json(results / sweep.id / "sweep.json")["benchmarks"]["generator"]
    assert [each["accuracy"]["n"] for each in found["variants"]] == [12, 12]
    assert len(found["base"]) == 1


def test_no_run_is_started_shortly_before_a_deadline(tmp_path: Path) -> None:
    path, results = sweep_file(tmp_path, [1]), tmp_path / "results"
    done = run_program("sweep", path, "--results", results, "--deadline", "20s")
    assert done.returncode == 0, done.stderr
    assert "stopped at run 1; the same command goes on from there" in done.stderr
    assert not any(run.path.exists() for run in folders(load_sweep(path), results))
