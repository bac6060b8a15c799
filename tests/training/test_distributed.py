"""Several processes: the loss curve of one, the same adapter, stops and failures that reach all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from processes import PATIENCE_SECONDS, cleared, ended, losses, run_in, start, state, steps_logged
from support import ROOT, command, run_program, small_job

from mathreason.config import ModelConfig
from mathreason.models import model_source
from mathreason.results import read_json
from mathreason.training import launch

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")


def uneven_job() -> dict[str, Any]:
    """Two epochs of 5 micro-batches, which 2 processes cannot share evenly; the last one is not full."""
    job = small_job()
    job["data"]["mixture"][0]["count"] = 10
    job["training"].update(
        micro_batch=2,
        gradient_accumulation=4,
        packing=False,
        epochs=2.0,
        gradient_checkpointing=True,
        logging_steps=1,
    )
    del job["training"]["max_steps"]
    job["lora"] = {"r": 4, "alpha": 8, "dropout": 0.0}
    return job


def longer_job() -> dict[str, Any]:
    job = small_job()
    job["training"].update(max_steps=60, checkpoint_steps=30, gradient_accumulation=2, logging_steps=1)
    job["lora"] = {"r": 4, "alpha": 8, "dropout": 0.0}
    job["data"]["validation_fraction"] = 0.02
    return job


def written(job: dict[str, Any], path: Path) -> Path:
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return path


def program(*arguments: str | Path, launcher: tuple[str, ...] = (), **options: Any) -> subprocess.Popen[str]:
    line = [*launcher, *command(*arguments)[2:]] if launcher else command(*arguments)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        line, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and what was said."""
    try:
        out, err = process.communicate(timeout=900)  # DeepSpeed compiles for minutes at its first start
    finally:
        process.kill()
    return process.returncode, out + err


@contextmanager
def at_work(process: subprocess.Popen[str], results: Path, steps: int) -> Iterator[None]:
    """In its training, when it has logged that many steps."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while steps_logged(results) < steps:
        assert process.poll() is None, finished(process)[1]
        assert time.monotonic() < deadline, "it never came that far"
        time.sleep(0.01)
    yield


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The uneven job's file, and the results of one process."""
    folder = tmp_path_factory.mktemp("alone")
    path = written(uneven_job(), folder / "job.yaml")
    code, said = finished(program("train", path, "--results", folder / "results"))
    assert code == 0, said
    return path, folder / "results"


def logits_with(results: Path) -> torch.Tensor:
    """Of plain transformers and peft, with the adapter of the one run in `results`."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    run = run_in(results)
    assert run is not None
    base = AutoModelForCausalLM.from_pretrained(
        model_source(ModelConfig(name="embedded")), dtype=torch.float32
    )
    tuned = PeftModel.from_pretrained(base, str(run.adapter)).eval()
    with torch.no_grad():
        logits: torch.Tensor = tuned(torch.arange(5, 45)[None]).logits
        with tuned.disable_adapter():
            assert not torch.allclose(logits, tuned(torch.arange(5, 45)[None]).logits, atol=1e-4)
    return logits


def described(results: Path) -> dict[str, Any]:
    """train.json of the one run in `results`."""
    run = run_in(results)
    assert run is not None
    return read_json(run.train)


def equal_curves(results: Path, single: Path) -> None:
    mine, theirs = losses(results), losses(single)
    assert [line[:2] for line in mine] == [line[:2] for line in theirs]
    assert [line[2] for line in mine] == pytest.approx([line[2] for line in theirs], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp", "zero2", "zero3_cpu_offload", "zero3_nvme_offload"])
def test_two_processes_follow_the_loss_curve_of_one(
    name: str, alone: tuple[Path, Path], tmp_path: Path
) -> None:
    job, single = alone
    results, disk = tmp_path / "results", tmp_path / "disk"
    disk.mkdir()
    options = ("--results", results, "--set", f"model.offload_folder={disk}", "--accelerate-config", name)
    code, said = finished(program("train", job, *options, launcher=TORCHRUN))
    assert code == 0, said
    equal_curves(results, single)
    assert torch.allclose(logits_with(results), logits_with(single), atol=2e-3)
    document, document_alone = described(results), described(single)
    assert (document["processes"], document["distribution"]) == (2, launch.planned_launch(name).name)
    for total in ("trainable_parameters", "total_tokens", "supervised_tokens"):
        assert document[total] == document_alone[total] > 0
    assert list(disk.iterdir()) == []


@pytest.mark.slow
def test_launcher_stops_all_and_the_same_goes_on_but_no_other(tmp_path: Path) -> None:
    job, results = written(longer_job(), tmp_path / "job.yaml"), tmp_path / "results"
    arguments = ("train", job, "--results", results, "--accelerate-config", "zero2")
    process = program(*arguments)
    with at_work(process, results, 3):
        process.send_signal(signal.SIGTERM)
    code, said = finished(process)
    assert code == 0, said
    assert (state(results)["status"], state(results)["reason"]) == ("stopped", "SIGTERM")
    assert 3 <= steps_logged(results) < 60
    other = run_program("train", job, "--results", results)
    assert other.returncode == 2
    assert "was written by 2 process(es) with distribution 'zero2'" in other.stderr
    code, said = finished(program(*arguments))
    assert code == 0, said
    assert (state(results)["status"], steps_logged(results)) == ("done", 60)
    code, said = finished(program("train", job, "--results", tmp_path / "alone"))
    assert code == 0, said
    equal_curves(results, tmp_path / "alone")


@pytest.mark.slow
def test_stop_file_under_torchrun_and_another_number_of_plain_processes_goes_on(tmp_path: Path) -> None:
    job, results = written(longer_job(), tmp_path / "job.yaml"), tmp_path / "results"
    process = program("train", job, "--results", results, launcher=TORCHRUN)
    with at_work(process, results, 3):
        run = run_in(results)
        assert run is not None
        (run.path / "STOP").touch()
    code, said = finished(process)
    assert code == 0, said
    assert state(results)["reason"] == "a STOP file"
    code, said = finished(program("train", job, "--results", results))
    assert code == 0, said
    assert "going on with 1 process(es) from a checkpoint of 2" in said
    code, said = finished(program("train", job, "--results", tmp_path / "alone"))
    assert code == 0, said
    equal_curves(results, tmp_path / "alone")


@pytest.mark.slow
def test_ranks_stop_when_their_launcher_is_killed(tmp_path: Path) -> None:
    job, results = written(longer_job(), tmp_path / "job.yaml"), tmp_path / "results"
    process = program("train", job, "--results", results, "--accelerate-config", "ddp")
    with at_work(process, results, 2):
        process.kill()
    process.communicate(timeout=PATIENCE_SECONDS)  # the ranks hold its output open until they end
    assert (state(results)["status"], state(results)["reason"]) == ("stopped", "SIGTERM")


@pytest.mark.slow
def test_sigterm_ends_the_wait_for_another_process(tmp_path: Path) -> None:
    job = written(longer_job(), tmp_path / "job.yaml")
    alone_of_two = {
        "WORLD_SIZE": "2",
        "RANK": "0",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
    }
    alone_of_two["MASTER_PORT"] = launch._free_port()
    results = tmp_path / "results"
    process = start(
        "train", job, "--results", results, environment=alone_of_two, output=tmp_path / "said.txt"
    )
    with cleared([process]):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while run_in(results) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(2)  # into the wait; before it the signal is obeyed all the same
        os.kill(process.pid, signal.SIGTERM)
        assert ended(process) == 0, (tmp_path / "said.txt").read_text()
    assert (state(results)["status"], state(results)["reason"]) == ("stopped", "SIGTERM")


@pytest.mark.parametrize("how", ["options", "configuration"])
def test_one_process_in_place_of_two_is_refused(how: str, tmp_path: Path) -> None:
    job, results = written(longer_job(), tmp_path / "job.yaml"), tmp_path / "results"
    own = tmp_path / "cpu.yaml"
    own.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_CPU\nnum_processes: 2\nuse_cpu: true\n"
        "num_machines: 1\nmixed_precision: 'no'\n",
        encoding="utf-8",
    )
    options = ("--cpu", "--num_processes", "2") if how == "options" else ("--config_file", str(own))
    launcher = (sys.executable, "-m", "accelerate.commands.launch", *options, "-m")
    code, said = finished(program("train", job, "--results", results, launcher=launcher))
    assert code != 0
    assert "accelerate launch was asked for several processes and started one" in said
    assert "mathreason train JOB --accelerate-config cpu --processes N" in said
    assert "returned non-zero exit status 2" in said
    assert not results.exists()


def test_failure_of_one_rank_ends_the_others_with_its_code() -> None:
    code = "import os, sys, time; sys.exit(3) if os.environ['RANK'] == '1' else time.sleep(600)"
    # The one that waits is ended by a signal; 128 and its number is what a shell would say.
    assert launch.start([sys.executable, "-c", code], 2) == 3


def test_ranks_are_told_who_they_are(tmp_path: Path) -> None:
    code = (
        "import os, pathlib; e = os.environ; "
        f"pathlib.Path({str(tmp_path)!r}, e['RANK']).write_text("
        "' '.join([e['LOCAL_RANK'], e['WORLD_SIZE'], e['MASTER_ADDR'], e['MASTER_PORT']]))"
    )
    assert launch.start([sys.executable, "-c", code], 3) == 0
    told = [(tmp_path / str(rank)).read_text().split() for rank in range(3)]
    assert [words[0] for words in told] == ["0", "1", "2"]
    assert {(words[1], words[2]) for words in told} == {("3", "127.0.0.1")}
    assert len({words[3] for words in told}) == 1
