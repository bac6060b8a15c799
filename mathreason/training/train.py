"""The training stage: prepared problems to the chosen adapter.

    train(job, run, reporter)      # writes log.jsonl, checkpoints/, adapter/ and at last train.json

A run whose train.json is there is done and not trained again. One that was interrupted goes on from its
newest complete checkpoint and ends with the adapter an undisturbed run would have given.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mathreason.config import JobConfig, LoraConfig
from mathreason.data.packing import pack
from mathreason.data.prepare import load_problems, verified_data
from mathreason.data.prompts import Example, Prompter
from mathreason.errors import InputError, MathreasonError
from mathreason.models import ADAPTER_WEIGHTS, LoadedModel, adapter_sha256, load_model
from mathreason.progress import Reporter
from mathreason.results import (
    RunDir,
    fsync_directory,
    read_appended,
    read_json,
    to_json,
    write_json,
    write_jsonl,
    write_text,
)
from mathreason.training import checkpoints, ranks, stopping
from mathreason.training.storage import storing

if TYPE_CHECKING:
    from mathreason.training.trainer import MathTrainer


def train(job: JobConfig, run: RunDir, reporter: Reporter) -> dict[str, Any]:
    """train.json of the run, made now or found complete.

    Raises `stopping.Stopped`, with a checkpoint saved, when this process was asked to stop.
    """
    if run.train.is_file():
        document = read_json(run.train)
        if adapter_sha256(run.adapter) != document["adapter_sha256"]:
            raise MathreasonError(f"{run.adapter} is not the adapter that {run.train} describes")
        return document
    data = verified_data(run)
    started = time.monotonic()
    loaded = load_model(job.model, reporter)
    prompter = Prompter(job.prompt, loaded.tokenizer)
    if prompter.hash != data["prompt_hash"]:
        raise MathreasonError(
            f"the prompt differs from the one {run.data} was prepared with (hash {prompter.hash[:12]}, "
            f"then {data['prompt_hash'][:12]}): the tokenizer or the template changed. Start a new run."
        )
    with ExitStack() as stack:  # the model attends in its own way until training is over
        trainer = _trainer(job, run, loaded, prompter, reporter, stack)
        resumed, seconds = _train(job, run, trainer, reporter)
    if ranks.rank() == 0:
        with storing("the adapter and train.json", run.path):
            step, best = _choose(trainer)
            export_adapter(run.checkpoints / f"checkpoint-{step}", run.adapter)
            document = {
                **_describe(job, trainer, loaded, seconds, resumed),
                "best": best,
                "prompt_hash": prompter.hash,
                "adapter_sha256": adapter_sha256(run.adapter),
                "wall_seconds": round(time.monotonic() - started, 2),
            }
            write_json(run.train, document)
        reporter.say(f"training done: step {step} chosen ({best['why']})")
    ranks.barrier()
    return read_json(run.train)


def _train(job: JobConfig, run: RunDir, trainer: MathTrainer, reporter: Reporter) -> tuple[int | None, float]:
    """Train to the last step; the step it went on from, and seconds. Raises `stopping.Stopped`."""
    from transformers import TrainerState

    resumed = _resume_point(run, reporter)
    total = trainer.args.max_steps
    reporter.say(f"training {job.model.name}: {total} steps" + (f", from {resumed[1]}" if resumed else ""))
    started = time.monotonic()
    with reporter.track("training", total) as advance:
        trainer.watch.advance = advance
        advance(resumed[1] if resumed else 0)
        if resumed and resumed[1] >= total:  # killed after the last step, before the adapter was chosen
            trainer.state = TrainerState.load_from_json(str(resumed[0] / "trainer_state.json"))
            return resumed[1], time.monotonic() - started
        if resumed:
            trainer.restore(resumed[0])
        request = stopping.current()
        if request is not None and (code := stopping.agreed(request)):
            raise request.obey(code)
        trainer.train(resume_from_checkpoint=str(resumed[0]) if resumed else None)
    if request is not None and trainer.state.global_step < total:
        reporter.say(f"checkpoint of step {trainer.state.global_step} of {total} saved")
        raise request.obey(trainer.stop_code)
    return resumed[1] if resumed else None, time.monotonic() - started


def _trainer(
    job: JobConfig,
    run: RunDir,
    loaded: LoadedModel,
    prompter: Prompter,
    reporter: Reporter,
    stack: ExitStack,
) -> MathTrainer:
    from transformers import set_seed

    from mathreason.training.forward import forward_of, prove_packing
    from mathreason.training.lora import make_lean
    from mathreason.training.recovery import Recovery
    from mathreason.training.trainer import Blocks, Collator, MathTrainer

    training = job.training
    _require_positions(loaded, job.data.max_length)
    problems = {part: list(load_problems(run, part)) for part in ("train", "validation")}
    examples = {part: [prompter.encode(p) for p in items] for part, items in problems.items()}
    blocks = {part: _blocks(job, items) for part, items in examples.items()}
    set_seed(training.seed)
    model = add_lora(loaded.model, job.lora)
    make_lean(model)
    forward = stack.enter_context(forward_of(model, examples["train"][0]))
    if training.packing and len(examples["train"]) > 1:
        prove_packing(model, forward, *examples["train"][:2])
    datasets = {
        part: Blocks(examples[part], blocks[part], [problem.id for problem in problems[part]])
        for part in blocks
    }
    optimizer = _optimizer(job, reporter, loaded)
    trainer = MathTrainer(
        run=run,
        keep_last=training.keep_last,
        recovery=Recovery(job, reporter, loaded.facts["fallbacks"], is_sharded()),
        forward=forward,
        model=model,
        args=_arguments(job, run, loaded, optimizer, len(blocks["train"]), bool(blocks["validation"])),
        train_dataset=datasets["train"],
        eval_dataset=datasets["validation"] if blocks["validation"] else None,
        data_collator=Collator(loaded.tokenizer.pad_token_id),
    )
    filled = sum(len(e.ids) for e in examples["train"]) / (len(blocks["train"]) * job.data.max_length)
    reporter.note(f"{len(examples['train'])} examples in {len(blocks['train'])} blocks, {filled:.1%} full")
    return trainer


def is_sharded() -> bool:
    """Whether a launcher asks for parameters in parts on the ranks (DeepSpeed, FSDP)."""
    return any(os.environ.get(f"ACCELERATE_USE_{name}") == "true" for name in ("DEEPSPEED", "FSDP"))


def _require_positions(loaded: LoadedModel, max_length: int) -> None:
    positions = getattr(loaded.model.config, "max_position_embeddings", None)
    if positions is not None and max_length > positions:
        raise InputError(
            f"data.max_length is {max_length}, but the model has only {positions} positions; "
            "lower data.max_length"
        )


def _blocks(job: JobConfig, examples: list[Example]) -> list[list[int]]:
    if not job.training.packing:
        return [[index] for index in range(len(examples))]
    return pack([len(example.ids) for example in examples], job.data.max_length)


def add_lora(model: Any, config: LoraConfig) -> Any:
    """The model with fresh adapters; InputError when a target layer is not in it."""
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model

    layers = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    if absent := [target for target in config.target_modules if target not in layers]:
        raise InputError(f"lora.target_modules: this model has no layer named {', '.join(absent)}")
    adapter = PeftLoraConfig(
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=sorted(config.target_modules),
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        bias="none",
        task_type="CAUSAL_LM",
    )
    for module in model.modules():
        # bitsandbytes repacks 4-bit weights on a CPU at the first forward pass in eval mode, for
        # inference only: after one validation no gradient would pass through them, without an error.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return get_peft_model(model, adapter)


def _optimizer(job: JobConfig, reporter: Reporter, loaded: LoadedModel) -> str:
    wanted = job.training.optimizer
    if wanted == "paged_adamw_32bit" and loaded.model.device.type != "cuda":
        said = "optimizer: paged_adamw_32bit needs a GPU; using adamw_torch"
        reporter.warn(said)
        loaded.facts["fallbacks"].append(said)
        return "adamw_torch"
    return wanted


def _arguments(
    job: JobConfig, run: RunDir, loaded: LoadedModel, optimizer: str, blocks: int, validated: bool
) -> Any:
    from transformers import TrainingArguments

    training = job.training
    return TrainingArguments(
        output_dir=str(run.checkpoints),
        per_device_train_batch_size=training.micro_batch,
        per_device_eval_batch_size=training.micro_batch,
        gradient_accumulation_steps=accumulation_of_rank(job),
        max_steps=total_steps(job, blocks),
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.scheduler,
        warmup_steps=training.warmup_ratio,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        optim=optimizer,
        bf16=loaded.facts["dtype"] == "bfloat16",
        fp16=loaded.facts["dtype"] == "float16",
        use_cpu=loaded.model.device.type == "cpu",
        activation_checkpointing=training.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if training.gradient_checkpointing else None,
        logging_steps=training.logging_steps,
        logging_nan_inf_filter=False,  # a loss that is no number must be seen
        eval_strategy="steps" if validated else "no",
        eval_steps=training.checkpoint_steps,
        save_strategy="steps",
        save_steps=training.checkpoint_steps,
        seed=training.seed,
        data_seed=training.seed,
        label_names=["labels"],
        remove_unused_columns=False,
        # Its buffers are the same on all ranks, and after memory ran out on one of them the ranks would not
        # come to this at the same time.
        ddp_broadcast_buffers=False,
        ddp_find_unused_parameters=False,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )


def accumulation_of_rank(job: JobConfig) -> int:
    """Micro-batches of one rank in an optimizer step, which together are those of the job.

    Raises InputError when they cannot be shared evenly.
    """
    accumulation, size = job.training.gradient_accumulation, ranks.world_size()
    if accumulation % size:
        raise InputError(
            f"training.gradient_accumulation is {accumulation}, which {size} processes cannot share evenly; "
            f"make it a multiple of {size} (and training.micro_batch smaller, to keep the global batch)"
        )
    return accumulation // size


def total_steps(job: JobConfig, blocks: int) -> int:
    """Optimizer steps of the job: whole epochs end with a step of the blocks that are left."""
    training = job.training
    if training.max_steps is not None:
        return training.max_steps
    micro_batches = -(-blocks // training.micro_batch)
    per_epoch = -(-micro_batches // training.gradient_accumulation)
    return max(1, round(per_epoch * training.epochs))


def _resume_point(run: RunDir, reporter: Reporter) -> tuple[Path, int] | None:
    """Newest complete checkpoint and its step; rank 0 clears what a kill left half-written."""
    if ranks.rank() == 0:
        _clear(run, reporter)
    ranks.barrier()
    complete, _ = checkpoints.complete_checkpoints(run.checkpoints)
    return (complete[-1], checkpoints.step_of(complete[-1])) if complete else None


def _clear(run: RunDir, reporter: Reporter) -> None:
    complete, torn = checkpoints.complete_checkpoints(run.checkpoints)
    for path in torn:
        reporter.warn(f"{path} is incomplete (the run was interrupted while it was written); not used")
        checkpoints.remove(path)
    shutil.rmtree(run.checkpoints / checkpoints.WRITING, ignore_errors=True)
    step = checkpoints.step_of(complete[-1]) if complete else 0
    logged = read_appended(run.log)
    if any(line["step"] > step for line in logged):
        write_jsonl(run.log, [line for line in logged if line["step"] <= step])


def _choose(trainer: MathTrainer) -> tuple[int, dict[str, Any]]:
    """The checkpoint that becomes the adapter, and why."""
    best = trainer.best()
    if best is None:
        step = trainer.state.global_step
        return step, {"step": step, "loss": None, "why": "last step; there is no validation split"}
    return best[0], {"step": best[0], "loss": best[1], "why": "lowest validation loss"}


def export_adapter(checkpoint: Path, adapter: Path) -> None:
    """Copy a checkpoint's adapter to `adapter`, which appears whole or not at all.

    peft keeps target modules in a set, whose order in the file changes from process to process; they are
    sorted here, so that the same training gives the same bytes.
    """
    temporary = adapter.with_name(f".{adapter.name}.writing")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    shutil.copyfile(checkpoint / ADAPTER_WEIGHTS, temporary / ADAPTER_WEIGHTS)
    with (temporary / ADAPTER_WEIGHTS).open("rb+") as file:
        os.fsync(file.fileno())
    config = json.loads((checkpoint / "adapter_config.json").read_text(encoding="utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    config["inference_mode"] = True
    write_text(temporary / "adapter_config.json", to_json(dict(sorted(config.items()))) + "\n")
    fsync_directory(temporary)
    if adapter.exists():
        shutil.rmtree(adapter)
    temporary.rename(adapter)
    fsync_directory(adapter.parent)


def _describe(
    job: JobConfig, trainer: MathTrainer, loaded: LoadedModel, seconds: float, resumed_from: int | None
) -> dict[str, Any]:
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if "loss" in entry]
    busy = max(seconds - trainer.aside_seconds, 1e-9)
    memory = peak_memory()
    parameters = [(p.numel(), p.requires_grad) for p in trainer.model.parameters()]
    return {
        "status": "done",
        "model": loaded.facts,
        "steps": trainer.state.global_step,
        "epochs": round(float(trainer.state.epoch or 0.0), 4),
        "loss": {"first": losses[0] if losses else None, "last": losses[-1] if losses else None},
        "validation": [
            {"step": e["step"], "loss": e["validation_loss"]} for e in history if "validation_loss" in e
        ],
        "resumed_from": resumed_from,
        "processes": ranks.world_size(),
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
    from mathreason.training.accounting import step_account

    supervised = round(trainer.supervised_tokens * sum(trainer.lengths) / max(1, trainer.tokens))
    recomputed = bool(trainer.args.activation_checkpointing)
    return step_account(trainer.model, trainer.times, trainer.lengths, supervised, recomputed)


def peak_memory() -> dict[str, int]:
    """Peak bytes: of the allocator on the GPU, and resident in this process."""
    import resource

    import torch

    # ru_maxrss is in KiB on Linux (getrusage(2)).
    peaks = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if torch.cuda.is_available():
        peaks["gpu_allocated"] = torch.cuda.max_memory_allocated()
        peaks["gpu_reserved"] = torch.cuda.max_memory_reserved()
    return peaks
