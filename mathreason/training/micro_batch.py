"""`training.micro_batch: auto`: as many blocks in one forward pass as memory allows.

    job = with_micro_batch(job, run, reporter)      # the job with a number in its place

With auto, `gradient_accumulation` is the number of blocks in an optimizer step. The micro-batch is the
largest divisor of it that the plan says fits, so the step sees the same blocks on every machine. The choice
is kept in the run directory: a resumed run takes it over, whatever is free then.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from mathreason.config import JobConfig
from mathreason.errors import InputError
from mathreason.progress import Reporter
from mathreason.results import RunDir, read_json, write_json
from mathreason.training import ranks

CHOICE = "micro_batch.json"
MEMORY_SHARE = 0.9
"""Part of the free memory that training may take; the plan is right within a tenth."""


def with_micro_batch(job: JobConfig, run: RunDir, reporter: Reporter) -> JobConfig:
    """`job` with the micro-batch that fits here, or as it is when it names one.

    Raises InputError when not even a micro-batch of 1 fits. All ranks call it; rank 0 chooses.
    """
    if job.training.micro_batch != "auto":
        return job
    kept = run.path / CHOICE
    if ranks.rank() == 0 and (not kept.is_file() or read_json(kept)["micro_batch"] is None):
        write_json(kept, _choose(job, run))
    ranks.barrier()
    choice = read_json(kept)
    if choice["micro_batch"] is None:
        raise InputError(
            f"training.micro_batch auto: a block of {job.data.max_length} tokens alone needs about "
            f"{choice['planned_bytes'] / 2**30:.1f} GiB and {choice['available_bytes'] / 2**30:.1f} GiB are "
            "free; `mathreason plan` says what to change"
        )
    reporter.say(
        f"micro-batch {choice['micro_batch']}: about {choice['planned_bytes'] / 2**30:.1f} GiB "
        f"of {choice['available_bytes'] / 2**30:.1f} GiB free"
    )
    accumulation = job.training.gradient_accumulation // choice["micro_batch"]
    fixed = {"micro_batch": choice["micro_batch"], "gradient_accumulation": accumulation}
    return job.model_copy(update={"training": job.training.model_copy(update=fixed)})


def _choose(job: JobConfig, run: RunDir) -> dict[str, Any]:
    """In a process of its own, so that what planning needs is gone when training begins."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(choose, job, run, ranks.world_size()).result()


def choose(job: JobConfig, run: RunDir, processes: int) -> dict[str, Any]:
    """The micro-batch for one of `processes` that share this machine, and the bytes it was chosen by."""
    from dataclasses import replace

    from mathreason.memory import available_bytes
    from mathreason.models import _device
    from mathreason.training.memory_plan import (
        Tracer,
        blocks_of_step,
        content_of,
        largest_micro_batch,
        setting_of,
    )

    device = _device()
    free = available_bytes(device)
    room = int(free * MEMORY_SHARE) // (processes if device.type == "cpu" else 1)
    tracer = Tracer(job, device.type, content_of(run))
    setting = setting_of(job)
    blocks = blocks_of_step(job)
    if blocks % processes:
        raise InputError(
            f"training.gradient_accumulation is {blocks}, which {processes} processes cannot share evenly; "
            f"make it a multiple of {processes}"
        )
    chosen = largest_micro_batch(tracer, setting, room, blocks // processes)
    planned = tracer.total(replace(setting, micro_batch=chosen or 1, accumulates=blocks > (chosen or 1)))
    return {"micro_batch": chosen, "planned_bytes": planned, "available_bytes": room}
