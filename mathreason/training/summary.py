"""What train.json says of a training that is done: losses, speed, memory, parameters.

describe(job, trainer, loaded, seconds, resumed_from)
"""

from __future__ import annotations

import resource
from typing import Any

import torch

from mathreason.config import JobConfig
from mathreason.models import LoadedModel
from mathreason.training import launch, ranks
from mathreason.training.accounting import Arithmetic, step_account
from mathreason.training.decoder import not_recomputed
from mathreason.training.selection import validations
from mathreason.training.trainer import MathTrainer


def describe(
    job: JobConfig, trainer: MathTrainer, loaded: LoadedModel, seconds: float, resumed_from: int | None
) -> dict[str, Any]:
    """The part of train.json that the trainer knows; rates leave out validation and checkpoints."""
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if "loss" in entry]
    busy = max(seconds - trainer.aside_seconds, 1e-9)
    memory = peak_memory()
    # ZeRO-3 leaves a rank an empty tensor, and says in ds_numel what the whole one holds.
    parameters = [(getattr(p, "ds_numel", p.numel()), p.requires_grad) for p in trainer.model.parameters()]
    return {
        "status": "done",
        "approach": job.training.approach,
        "model": loaded.facts,
        "steps": trainer.state.global_step,
        "epochs": round(float(trainer.state.epoch or 0.0), 4),
        "loss": {"first": losses[0] if losses else None, "last": losses[-1] if losses else None},
        "validation": validations(history),
        "resumed_from": resumed_from,
        "processes": ranks.world_size(),
        "distribution": launch.current().name,
        "micro_batch": trainer.recovery.micro_batch,
        "measured": "since the last start, without validation and checkpoints",
        "total_tokens": trainer.tokens,
        "supervised_tokens": trainer.supervised_tokens,
        "total_tokens_per_second": round(trainer.tokens / busy, 1) if trainer.tokens else None,
        "supervised_tokens_per_second": round(trainer.supervised_tokens / busy, 1)
        if trainer.tokens
        else None,
        "step": {**_step_account(trainer), "forward": trainer.forward.facts},
        "peak_memory_bytes": memory.get("gpu_allocated", memory["process"]),
        "memory": memory,
        "train_seconds": round(seconds, 2),
        "trainable_parameters": sum(n for n, trainable in parameters if trainable),
        "frozen_parameters": sum(n for n, trainable in parameters if not trainable),
        "learning_rate": job.training.learning_rate,
        "seed": job.training.seed,
        "fallbacks": loaded.facts["fallbacks"],
    }


def _step_account(trainer: MathTrainer) -> dict[str, Any]:
    once = not_recomputed(trainer.model) if trainer.forward.whole else ()
    arithmetic = Arithmetic.of(trainer.model, trainer.forward.at_loss, once)
    recomputed = bool(trainer.args.activation_checkpointing)
    return step_account(arithmetic, trainer.model, trainer.times, trainer.measured, recomputed)


def peak_memory() -> dict[str, int]:
    """Peak bytes: of the allocator on the GPU, and resident in this process."""
    # ru_maxrss is in KiB on Linux (getrusage(2)).
    peaks = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if torch.cuda.is_available():
        peaks["gpu_allocated"] = torch.cuda.max_memory_allocated()
        peaks["gpu_reserved"] = torch.cuda.max_memory_reserved()
    return peaks
