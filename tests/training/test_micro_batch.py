"""micro_batch auto: a divisor of the blocks of a step, chosen once, with the same blocks in every step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mathreason.config import JobConfig
from mathreason.errors import InputError
from mathreason.jobfile import run_id
from mathreason.progress import Reporter
from mathreason.results import RunDir, read_json, write_json
from mathreason.training.micro_batch import CHOICE, with_micro_batch


def job_with(job: dict[str, Any], **training: Any) -> JobConfig:
    return JobConfig.model_validate({**job, "training": {**job["training"], **training}})


def test_a_number_is_left_as_it_is(tmp_path: Path, job: dict[str, Any]) -> None:
    config = job_with(job, micro_batch=2)
    assert with_micro_batch(config, RunDir(tmp_path), Reporter(quiet=True)) is config
    assert not (tmp_path / CHOICE).exists()


@pytest.mark.slow
def test_auto_keeps_the_blocks_of_a_step_and_the_run(tmp_path: Path, job: dict[str, Any]) -> None:
    config = job_with(job, micro_batch="auto", gradient_accumulation=6)
    chosen = with_micro_batch(config, RunDir(tmp_path), Reporter(quiet=True))
    assert chosen.training.rows * chosen.training.gradient_accumulation == 6
    choice = read_json(tmp_path / CHOICE)
    assert choice["micro_batch"] == chosen.training.rows
    assert choice["planned_bytes"] <= choice["available_bytes"]
    assert run_id(config) != run_id(chosen)  # the run is named by the job, not by what fits here


def test_a_resumed_run_takes_its_choice_over(tmp_path: Path, job: dict[str, Any]) -> None:
    write_json(tmp_path / CHOICE, {"micro_batch": 3, "planned_bytes": 1, "available_bytes": 2})
    config = job_with(job, micro_batch="auto", gradient_accumulation=6)
    training = with_micro_batch(config, RunDir(tmp_path), Reporter(quiet=True)).training
    assert (training.rows, training.gradient_accumulation) == (3, 2)


@pytest.mark.slow
def test_none_that_fits_is_said_with_the_sizes(tmp_path: Path, job: dict[str, Any]) -> None:
    whole = {**job, "data": {**job["data"], "max_length": 1 << 21}}  # a block of two million tokens
    config = job_with(whole, micro_batch="auto")
    with pytest.raises(InputError, match=r"a block of 2097152 tokens alone needs about [\d.]+ GiB and"):
        with_micro_batch(config, RunDir(tmp_path), Reporter(quiet=True))
