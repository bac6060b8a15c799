"""Everything `mathreason plan` says of a job: parameters, memory, steps, time, what fits, what to change.

    document = plan(job, run)                # what `plan --json` prints
    print(said(document))                    # the same for people

The memory of training comes from `training.memory_plan`, by tracing; that of evaluation is weights and the
keys and values of the responses under way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mathreason.config import JobConfig
from mathreason.errors import InputError
from mathreason.results import RunDir
from mathreason.training.memory_plan import (
    Content,
    Setting,
    Tracer,
    blocks_of_step,
    changes,
    content_of,
    largest_micro_batch,
    setting_of,
)

EXPECTED_SHARE = 0.6
"""Of the measured matrix product's rate, what training reaches where nothing else is known."""
SOURCE_ROWS = {"gsm8k": 7473, "gsm_hard": 1319}
"""Rows of the split that is read by default."""
PROMPT_TOKENS = 256
"""Of an evaluated prompt, as long as the data is not prepared."""


def plan(
    job: JobConfig,
    run: RunDir | None,
    kind: str | None = None,
    memory: int | None = None,
    tokens_per_second: float | None = None,
) -> dict[str, Any]:
    """The plan of `job`, with the data of `run` where it is prepared.

    For a device of `kind` ('cpu' or 'cuda') with `memory` bytes, else for the one here and what is free.
    Raises InputError when the memory of a device that is not here is not given.
    """
    from mathreason.memory import available_bytes
    from mathreason.models import _device

    device = _device()
    is_here = kind in (None, device.type)
    if memory is None and not is_here:
        raise InputError(
            f"there is no {kind} device here to ask for its memory; say it with --memory, such as 80GiB"
        )
    content = content_of(run)
    tracer = Tracer(job, kind or device.type, content)
    setting = setting_of(job)
    room, source = (memory, "stated") if memory is not None else (available_bytes(device), "free here")
    largest = largest_micro_batch(tracer, setting, room)
    blocks = blocks_of_step(job)
    if job.training.micro_batch == "auto":
        chosen = largest_micro_batch(tracer, setting, room, blocks) or 1
        setting = replace(setting, micro_batch=chosen, accumulates=blocks > chosen)
    total = tracer.total(setting)
    return {
        "model": {"name": job.model.name, "dtype": tracer.dtype, "quantization": job.model.quantization},
        "device": tracer.kind,
        "parameters": _parameters(tracer, setting),
        "training": {
            "micro_batch": setting.micro_batch,
            "blocks_in_a_step": blocks,
            **_memory(tracer, setting),
            "total_bytes": total,
            "memory_bytes": room,
            "memory": source,
            "fits": total <= room,
            "largest_micro_batch": largest,
        },
        "changes": [] if total <= room else _changes(tracer, setting, room),
        "data": {
            "prepared": content.known,
            "supervised_share": round(content.supervised_share, 3),
            "tokens_of_an_example": content.sequence_tokens,
        },
        "work": _work(job, run, tracer, setting, tokens_per_second, is_here),
        "evaluation": _evaluation(job, tracer, room),
    }


def _memory(tracer: Tracer, setting: Setting) -> dict[str, Any]:
    peaks = tracer.peaks(setting)
    at = max(peaks.segments, key=lambda name: peaks.segments[name])
    fixed = peaks.weights + peaks.adapter + peaks.optimizer + peaks.gradients
    return {
        "bytes": {
            "weights": peaks.weights,
            "trained": peaks.adapter,
            "gradients": peaks.gradients,
            "optimizer": peaks.optimizer,
            "activations": peaks.peak - fixed,
            "libraries": tracer.beside(),
        },
        "mapped_bytes": tracer.mapped(setting),
        "activations_kept_bytes": peaks.kept,
        "logits_bytes": _logits(tracer, setting),
        "peak_at": at,
    }


def _logits(tracer: Tracer, setting: Setting) -> int:
    """Bytes of the logits that exist at once, in float32."""
    from mathreason.training.loss import CHUNK

    supervised = round(setting.max_length * setting.micro_batch * tracer.content.supervised_share)
    positions = supervised if tracer.job.training.approach == "full" else min(CHUNK, supervised)
    return int(positions * tracer.config.vocab_size * 4)


def _parameters(tracer: Tracer, setting: Setting) -> dict[str, int]:
    model = tracer.model(replace(setting, quantized=False), tracer.config.num_hidden_layers)
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return {
        "trainable": sum(n for n, trained in sizes if trained),
        "frozen": sum(n for n, trained in sizes if not trained),
    }


def _changes(tracer: Tracer, setting: Setting, room: int) -> list[dict[str, Any]]:
    """The cheapest changes, each with those before it, up to the first that fits."""
    found: list[dict[str, Any]] = []
    for change in changes(setting, tracer.job.training.approach == "full"):
        total = tracer.total(change.setting)
        found.append({"set": change.what, "cost": change.cost, "total_bytes": total, "fits": total <= room})
        if total <= room:
            break
    return found


def _work(
    job: JobConfig, run: RunDir | None, tracer: Tracer, setting: Setting, rate: float | None, is_here: bool
) -> dict[str, Any]:
    """Steps and tokens, and seconds at the stated rate, else at one estimated for the device here."""
    from mathreason.training.train import total_steps

    tokens = _training_tokens(job, run, tracer.content)
    training, blocks = job.training, blocks_of_step(job)
    if tokens is None and training.max_steps is None:
        return {"steps": None, "tokens": None, "tokens_per_second": None, "rate": None, "seconds": None}
    fixed = {
        "micro_batch": setting.micro_batch,
        "gradient_accumulation": blocks // setting.micro_batch,
    }
    resolved = job.model_copy(update={"training": training.model_copy(update=fixed)})
    steps = total_steps(resolved, -(-(tokens or 0) // job.data.max_length))
    if training.max_steps is None and tokens is not None:
        processed = round(tokens * training.epochs)
    else:
        processed = steps * blocks * job.data.max_length
    how = "stated" if rate is not None else None
    if rate is None and is_here:
        rate = _estimated_rate(tracer, setting)
        how = f"{EXPECTED_SHARE:.0%} of a matrix product measured here"
    return {
        "steps": steps,
        "tokens": processed,
        "tokens_per_second": None if rate is None else round(rate, 1),
        "rate": how,
        "seconds": None if rate is None else round(processed / rate),
    }


def _training_tokens(job: JobConfig, run: RunDir | None, content: Content) -> int | None:
    """Tokens of one epoch: counted where the data is prepared, else from the number of problems."""
    from mathreason.results import read_json

    if run is not None and run.data.is_file():
        counted: int = read_json(run.data)["tokens"]["train"]["total"]
        return counted
    counts = [source.count or SOURCE_ROWS.get(source.source) for source in job.data.mixture]
    known = [count for count in counts if count is not None]
    if len(known) < len(counts):
        return None
    return round(sum(known) * (1 - job.data.validation_fraction) * content.sequence_tokens)


def _estimated_rate(tracer: Tracer, setting: Setting) -> float:
    """Tokens a second, from the step's arithmetic and a matrix product measured here."""
    import torch

    from mathreason.models import _device
    from mathreason.training.accounting import Arithmetic, matmul_flops

    model = tracer.model(replace(setting, quantized=False), tracer.config.num_hidden_layers)
    length, content = setting.max_length, tracer.content
    sequences = max(1, length // min(content.sequence_tokens, length))
    supervised = round(length * content.supervised_share)
    flops = Arithmetic.of(model).flops([length // sequences] * sequences, supervised, setting.checkpointing)
    return length * EXPECTED_SHARE * matmul_flops(_device(), getattr(torch, tracer.dtype)) / flops


def _evaluation(job: JobConfig, tracer: Tracer, room: int) -> dict[str, Any]:
    """Weights, and keys and values of the responses generated together."""
    import torch

    from mathreason.evaluation.transformers_engine import MAX_BATCH, MEMORY_SHARE

    config, peaks = tracer.config, tracer.peaks(setting_of(job))
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    itemsize = getattr(torch, tracer.dtype).itemsize
    token = 2 * config.num_hidden_layers * heads * size * itemsize
    response = token * (PROMPT_TOKENS + job.evaluation.max_new_tokens)
    weights = peaks.weights + peaks.adapter + tracer.beside()
    wanted = job.evaluation.batch_size
    fitting = max(0, int((room - weights) * MEMORY_SHARE) // response)
    batch = min(MAX_BATCH[tracer.kind], max(1, fitting)) if wanted == "auto" else wanted
    return {
        "batch_size": batch,
        "cache_bytes_per_token": token,
        "cache_bytes": batch * response,
        "total_bytes": weights + batch * response,
        "fits": weights + batch * response <= room,
    }


def said(document: dict[str, Any]) -> str:
    """The plan as lines for people."""
    model, parameters = document["model"], document["parameters"]
    trained, everything = parameters["trainable"], parameters["trainable"] + parameters["frozen"]
    nf4 = " with nf4 weights" if model["quantization"] == "nf4" else ""
    title = (
        f"{model['name']}: {_count(trained)} of {_count(everything)} parameters trained, "
        f"{model['dtype']}{nf4}, on {document['device']}"
    )
    parts = (
        [title],
        _said_memory(document["training"]),
        _said_changes(document["changes"]),
        _said_work(document["work"], document["data"]),
        _said_evaluation(document["evaluation"]),
    )
    return "\n\n".join("\n".join(part) for part in parts if part)


def _said_memory(training: dict[str, Any]) -> list[str]:
    sizes = [f"  {name:12} {_size(size)}" for name, size in training["bytes"].items()]
    return [
        f"training at micro-batch {training['micro_batch']} "
        f"({training['blocks_in_a_step']} blocks in an optimizer step)",
        *sizes,
        f"  {'peak':12} {_size(training['total_bytes'])} of {_size(training['memory_bytes'])} "
        f"{training['memory']}: {_fits(training)}",
        f"  kept for the backward pass {_size(training['activations_kept_bytes'])}, "
        f"logits at once {_size(training['logits_bytes'])}",
        *(
            [
                f"  {_size(training['mapped_bytes'])} of the weights are pages of their file, "
                "not anonymous memory"
            ]
            if training["mapped_bytes"]
            else []
        ),
        f"  largest micro-batch that fits: {training['largest_micro_batch'] or 'none'}",
    ]


def _said_changes(changes_found: list[dict[str, Any]]) -> list[str]:
    if not changes_found:
        return []
    lines = [
        f"  {change['set']} ({change['cost']}): {_size(change['total_bytes'])}, {_fits(change)}"
        for change in changes_found
    ]
    if not changes_found[-1]["fits"]:
        lines.append("  then only more memory helps, or weights and optimizer kept elsewhere")
    return ["to make it fit, the cheapest first, each with those before it:", *lines]


def _said_work(work: dict[str, Any], data: dict[str, Any]) -> list[str]:
    if work["steps"] is None:
        lines = ["steps and time: how many problems there are is not known before the data is prepared"]
    else:
        lines = [f"{work['steps']} steps, {_count(work['tokens'])} tokens"]
    if work["seconds"] is not None:
        lines[0] += (
            f", about {_duration(work['seconds'])} at {work['tokens_per_second']:.0f} tokens a second "
            f"({work['rate']})"
        )
    if not data["prepared"]:
        lines.append(
            f"the data is not prepared: assumed are examples of {data['tokens_of_an_example']} tokens, "
            f"{data['supervised_share']:.0%} of them with a loss"
        )
    return lines


def _said_evaluation(evaluation: dict[str, Any]) -> list[str]:
    return [
        f"evaluation of {evaluation['batch_size']} responses together: {_size(evaluation['total_bytes'])}, "
        f"{_size(evaluation['cache_bytes'])} of it keys and values: {_fits(evaluation)}"
    ]


def _fits(part: dict[str, Any]) -> str:
    return "fits" if part["fits"] else "does not fit"


def _size(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 1 << 30 else f"{size / 2**20:.1f} MiB"


def _count(number: int) -> str:
    for unit, of in (("billion", 10**9), ("million", 10**6)):
        if number >= of:
            return f"{number / of:.2f} {unit}"
    return str(number)


def _duration(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
