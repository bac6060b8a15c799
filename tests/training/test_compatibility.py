"""Each row of the table refuses what it names, with the key, the reason and a way out, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import Job, run_program

from mathreason.config import JobConfig
from mathreason.errors import InputError
from mathreason.training.compatibility import TABLE, Machine, Setting, problems, require
from mathreason.training.launch import Launch

DDP = Launch(processes=2)
ZERO2 = Launch(processes=2, zero=2)
ZERO3 = Launch(processes=2, zero=3)
FSDP = Launch(processes=2, fsdp=True)
CPU, TWO_GPUS, OLD_GPUS = Machine(0, False), Machine(2, True), Machine(2, False)
ACCUMULATE = {"training.gradient_accumulation": 4}


def job_with(job: Job, **values: Any) -> JobConfig:
    """The small job, with values by dotted key."""
    for key, value in {**ACCUMULATE, **values}.items():
        section, name = key.split(".")
        job.setdefault(section, {})[name] = value
    return JobConfig.model_validate(job)


REFUSED: list[tuple[str, dict[str, Any], Launch, Machine | None, str]] = [
    (
        "model.quantization",
        {"model.quantization": "nf4"},
        ZERO3,
        None,
        "4-bit blocks.*; set quantization: none",
    ),
    ("model.max_memory", {"model.max_memory": {"cpu": "1GiB"}}, ZERO2, None, "place the weights themselves"),
    (
        "model.max_memory",
        {"model.max_memory": {"cpu": "1GiB"}, "training.approach": "full"},
        Launch(),
        None,
        "keeps a part of them on disk; use approach: lora",
    ),
    (
        "model.max_memory",
        {"model.max_memory": {"cpu": "1GiB"}},
        Launch(),
        TWO_GPUS,
        "backward pass finds none; use quantization: nf4",
    ),
    (
        "training.optimizer",
        {"training.optimizer": "paged_adamw_32bit"},
        FSDP,
        None,
        "paged optimizer.*; set optimizer: adamw_torch",
    ),
    (
        "training.approach",
        {},
        Launch(processes=2, zero=3, parameters="nvme", nvme_path="/tmp"),
        None,
        "swap buffer.*zero3_nvme_offload",
    ),
    ("training.approach", {"training.approach": "full"}, ZERO3, None, "only a part of it; .* zero2 or ddp"),
    ("lora.use_dora", {"lora.use_dora": True}, ZERO3, None, "whole weight.*; set use_dora: false"),
    ("training.select_by", {"training.select_by": "accuracy"}, ZERO3, None, "; set select_by: loss"),
    (
        "training.gradient_accumulation",
        {"training.gradient_accumulation": 3},
        DDP,
        None,
        "gradient_accumulation is 3, which 2 processes cannot share evenly; make it a multiple of 2",
    ),
    ("model.dtype", {"model.dtype": "float16"}, DDP, CPU, "float16 training needs a GPU"),
    ("model.dtype", {"model.dtype": "bfloat16"}, ZERO2, CPU, "float32 only; set dtype: float32"),
    ("model.dtype", {"model.dtype": "bfloat16"}, ZERO2, OLD_GPUS, "does not compute in bfloat16"),
    ("--accelerate-config", {}, FSDP, CPU, "becomes plain data parallelism.*zero3_cpu_offload"),
    (
        "--accelerate-config",
        {},
        Launch(processes=2, zero=2, parameters="cpu"),
        None,
        "only in stage 3, not 2; set zero_stage: 3",
    ),
    (
        "--accelerate-config",
        {},
        Launch(processes=4),
        TWO_GPUS,
        "4 processes need as many GPUs, and here are 2",
    ),
    (
        "model.offload_folder",
        {"model.offload_folder": "/no/such/folder"},
        Launch(processes=2, zero=3, optimizer="nvme"),
        TWO_GPUS,
        "/no/such/folder is none; name one on a local disk",
    ),
]


@pytest.mark.parametrize(("key", "values", "launch", "machine", "said"), REFUSED)
def test_combination_is_refused_with_key_reason_and_way_out(
    job: Job, key: str, values: dict[str, Any], launch: Launch, machine: Machine | None, said: str
) -> None:
    setting = Setting(job_with(job, **values), launch, machine)
    with pytest.raises(InputError, match=rf"(?m)^jobs/x\.yaml: {key}: .*{said}"):
        require(setting, "jobs/x.yaml")


def test_every_row_that_does_not_ask_the_machine_for_programs_has_a_case_here(job: Job) -> None:
    fired = set()
    for _, values, launch, machine, _ in REFUSED:
        setting = Setting(
            job_with({k: dict(v) if isinstance(v, dict) else v for k, v in job.items()}, **values)
        )
        setting = Setting(setting.job, launch, machine)
        fired |= {row.reason for row in TABLE if row.applies(setting)}
    left = [row.reason for row in TABLE if row.reason not in fired]
    assert [reason for reason in left if not any(w in reason for w in ("installed", "compiled"))] == []


@pytest.mark.parametrize("launch", [Launch(), DDP, ZERO2, ZERO3])
@pytest.mark.parametrize("machine", [None, CPU, TWO_GPUS])
def test_plain_job_is_accepted_everywhere(job: Job, launch: Launch, machine: Machine | None) -> None:
    assert [
        key for key, _ in problems(Setting(job_with(job), launch, machine)) if key != "--accelerate-config"
    ] == []


@pytest.mark.parametrize("values", [{"training.packing": False}, {"training.micro_batch": 1}])
def test_flash_attention_is_accepted_where_nothing_can_be_mixed_up(job: Job, values: dict[str, Any]) -> None:
    assert problems(Setting(job_with(job, **{"model.attention": "flash_attention_2", **values}))) == []


def test_all_problems_are_said_at_once(job: Job) -> None:
    setting = Setting(
        job_with(job, **{"model.quantization": "nf4", "training.gradient_accumulation": 3}), ZERO3
    )
    with pytest.raises(InputError) as caught:
        require(setting, "x.yaml")
    assert len(str(caught.value).splitlines()) == 2


def test_validate_checks_a_job_with_a_configuration(write_job: Callable[[Job], Path], job: Job) -> None:
    job["model"]["quantization"] = "nf4"
    job["training"]["gradient_accumulation"] = 4
    path = write_job(job)
    assert run_program("validate", path).returncode == 0
    assert run_program("validate", path, "--accelerate-config", "ddp").returncode == 0
    done = run_program("validate", path, "--accelerate-config", "zero3_cpu_offload")
    assert done.returncode == 2
    assert f"{path}: model.quantization: nf4 keeps weights in 4-bit blocks" in done.stderr


def test_train_refuses_before_anything_is_started_or_written(
    write_job: Callable[[Job], Path], job: Job, tmp_path: Path
) -> None:
    job["model"]["quantization"] = "nf4"
    job["training"]["gradient_accumulation"] = 4
    path = write_job(job)
    results = tmp_path / "results"
    done = run_program("train", path, "--results", results, "--accelerate-config", "zero3_cpu_offload")
    assert done.returncode == 2
    assert f"{path}: model.quantization: nf4" in done.stderr
    assert not results.exists()


def test_processes_of_other_nodes_need_no_gpu_of_this_one(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    config = job_with(job, **{"training.gradient_accumulation": 16})
    setting = Setting(config, Launch(processes=16), Machine(8, True))
    assert "16 processes need as many GPUs, and here are 8" in " ".join(map(str, problems(setting)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert problems(setting) == []
