"""The training stage: prepared problems to the chosen adapter.

    train(job, run, reporter, set_exam)      # log.jsonl, checkpoints/, adapter/ (or model/), then train.json

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
from mathreason.data.problem import Problem
from mathreason.data.prompts import Example, Prompter
from mathreason.data.tokens import encode_all
from mathreason.errors import InputError, MathreasonError
from mathreason.models import ADAPTER_WEIGHTS, LoadedModel, load_model, weights_sha256
from mathreason.ownership import require_ours
from mathreason.progress import Reporter
from mathreason.results import (
    RunDir,
    fsync_directory,
    is_torn,
    read_appended,
    read_json,
    to_json,
    write_json,
    write_jsonl,
    write_text,
)
from mathreason.training import checkpoints, launch, operators, ranks, stopping
from mathreason.training.full import export_model, trainable
from mathreason.training.selection import LOSS, Exam, SetExam, validations
from mathreason.training.storage import storing
from mathreason.tuned import tuned_path, tuned_sha256

if TYPE_CHECKING:
    from mathreason.training.trainer import MathTrainer


def train(job: JobConfig, run: RunDir, reporter: Reporter, set_exam: SetExam) -> dict[str, Any]:
    """train.json of the run, made now or found complete.

    With `select_by: accuracy` the exam of `set_exam` decides which checkpoint is kept. Raises
    `stopping.Stopped`, with a checkpoint saved, when this process was asked to stop.
    """
    if run.train.is_file():
        document = read_json(run.train)
        if tuned_sha256(run) != document.get(_hash_key(job)):
            raise MathreasonError(f"{tuned_path(run)} is not what {run.train} describes")
        return document
    from mathreason.training.summary import describe

    data = verified_data(run)
    started = time.monotonic()
    base_weights = weights_sha256(job.model) if ranks.rank() == 0 else None
    operators.prepare(launch.current(), reporter)
    loaded = load_model(job.model, reporter)
    prompter = Prompter(job.prompt, loaded.tokenizer)
    if prompter.hash != data["prompt_hash"]:
        raise MathreasonError(
            f"the prompt differs from the one {run.data} was prepared with (hash {prompter.hash[:12]}, "
            f"then {data['prompt_hash'][:12]}): the tokenizer or the template changed. Start a new run."
        )
    with ExitStack() as stack:  # the model attends in its own way until training is over
        trainer = _trainer(job, run, loaded, prompter, reporter, set_exam, stack)
        resumed, seconds = _train(job, run, trainer, reporter)
    if ranks.rank() == 0:
        require_ours()
        with storing("the adapter and train.json", run.path):
            step, best = choose_checkpoint(run, trainer, reporter, loaded.facts["fallbacks"])
            checkpoint = run.checkpoints / f"checkpoint-{step}"
            if job.training.approach == "full":
                export_model(checkpoint, run.model, loaded)
            else:
                export_adapter(checkpoint, run.adapter)
            document = {
                **describe(job, trainer, loaded, seconds, resumed),
                "best": best,
                "prompt_hash": prompter.hash,
                _hash_key(job): tuned_sha256(run),
                "base_weights": base_weights,
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
            if not trainer.lacks_validation():
                return resumed[1], time.monotonic() - started
        if resumed:
            trainer.restore(resumed[0])
        request = stopping.current()
        if request is not None and (code := stopping.agreed(request)):
            raise request.obey(code)
        with trainer.recovery.explaining():
            trainer.train(resume_from_checkpoint=str(resumed[0]) if resumed else None)
    if request is not None and trainer.stop_code:
        reporter.say(f"checkpoint of step {trainer.state.global_step} of {total} saved")
        raise request.obey(trainer.stop_code)
    return resumed[1] if resumed else None, time.monotonic() - started


def _trainer(
    job: JobConfig,
    run: RunDir,
    loaded: LoadedModel,
    prompter: Prompter,
    reporter: Reporter,
    set_exam: SetExam,
    stack: ExitStack,
) -> MathTrainer:
    from transformers import set_seed

    from mathreason.training.batches import Blocks, Collator
    from mathreason.training.forward import forward_of, plain_forward, prove_packing
    from mathreason.training.lora import make_lean
    from mathreason.training.recovery import Recovery
    from mathreason.training.trainer import MathTrainer

    training = job.training
    _require_positions(loaded, job.data.max_length)
    problems = {part: list(load_problems(run, part)) for part in ("train", "validation")}
    examples = {part: encode_all(items, prompter, reporter) for part, items in problems.items()}
    blocks = {part: _blocks(job, items) for part, items in examples.items()}
    set_seed(training.seed)
    full = training.approach == "full"
    model = trainable(loaded.model) if full else add_lora(loaded.model, job.lora)
    here = launch.current()
    if here.in_parts:  # then only the layers' own forward passes bring their weights together
        forward = plain_forward(model)
    else:
        make_lean(model)
        longest = max(len(example.ids) for part in examples.values() for example in part)
        forward = stack.enter_context(forward_of(model, examples["train"][0], longest))
    proven = training.packing and len(examples["train"]) > 1
    if proven and not here.in_parts:
        prove_packing(model, forward, *examples["train"][:2])
    datasets = {
        part: Blocks(examples[part], blocks[part], [problem.id for problem in problems[part]])
        for part in blocks
    }
    optimizer = _optimizer(job, reporter, loaded)
    trainer = MathTrainer(
        run=run,
        keep_last=training.keep_last,
        recovery=Recovery(job, reporter, loaded.facts["fallbacks"], here.engine),
        forward=forward,
        exam=_exam(job, LoadedModel(model, loaded.tokenizer, loaded.facts), problems["validation"], set_exam),
        model=model,
        args=_arguments(job, run, loaded, optimizer, len(blocks["train"]), bool(blocks["validation"])),
        train_dataset=datasets["train"],
        eval_dataset=datasets["validation"] if blocks["validation"] else None,
        data_collator=Collator(loaded.tokenizer.pad_token_id),
    )
    filled = sum(len(e.ids) for e in examples["train"]) / (len(blocks["train"]) * job.data.max_length)
    if proven and here.in_parts:
        trainer.watch.proof = lambda whole: prove_packing(whole, forward, *examples["train"][:2])
    reporter.note(f"{len(examples['train'])} examples in {len(blocks['train'])} blocks, {filled:.1%} full")
    return trainer


def _exam(job: JobConfig, loaded: LoadedModel, problems: list[Problem], set_exam: SetExam) -> Exam | None:
    if job.training.select_by == "loss":
        return None
    return set_exam(loaded, problems)


def _hash_key(job: JobConfig) -> str:
    return "model_sha256" if job.training.approach == "full" else "adapter_sha256"


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
    # ZeRO-3 and FSDP cannot divide an adapter of another dtype than the weights'.
    return get_peft_model(model, adapter, autocast_adapter_dtype=not launch.current().in_parts)


def _optimizer(job: JobConfig, reporter: Reporter, loaded: LoadedModel) -> str:
    wanted = job.training.optimizer
    divided = launch.current().zero is not None
    if wanted == "paged_adamw_32bit" and (divided or loaded.facts["device"] == "cpu"):
        why = "is not for states that DeepSpeed divides" if divided else "needs a GPU"
        said = f"optimizer: paged_adamw_32bit {why}; using adamw_torch"
        reporter.warn(said)
        loaded.facts["fallbacks"].append(said)
        return "adamw_torch"
    return wanted


def _arguments(
    job: JobConfig, run: RunDir, loaded: LoadedModel, optimizer: str, blocks: int, validated: bool
) -> Any:
    from transformers import TrainingArguments

    training, here = job.training, launch.current()
    on_cpu = loaded.facts["device"] == "cpu"
    # ZeRO-3 has taken the weights away again when another kind of checkpointing looks at them.
    checkpointing = {"use_reentrant": here.zero == 3}
    return TrainingArguments(
        output_dir=str(run.checkpoints),
        per_device_train_batch_size=training.rows,
        per_device_eval_batch_size=training.rows,
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
        # accelerate leaves DeepSpeed out where it is told to use the CPU; it finds that out by itself.
        use_cpu=on_cpu and here.zero is None,
        ddp_backend="gloo" if on_cpu and here.zero is not None else None,
        activation_checkpointing=training.gradient_checkpointing,
        activation_checkpointing_kwargs=checkpointing if training.gradient_checkpointing else None,
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
    micro_batches = -(-blocks // training.rows)
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
    logged = read_appended(run.log)
    kept = _logged_until(complete[-1], logged) if complete else []
    if is_torn(run.log) or len(kept) < len(logged):
        write_jsonl(run.log, kept)


def _logged_until(checkpoint: Path, logged: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines that a run which goes on from `checkpoint` does not write again.

    Where a stop came before the checkpoint's own validation, that is made up for first of all.
    """
    step = checkpoints.step_of(checkpoint)
    known = validations(read_json(checkpoint / "trainer_state.json")["log_history"])
    again = LOSS if all(entry["step"] < step for entry in known) else None
    return [line for line in logged if line["step"] < step or (line["step"] == step and again not in line)]


def choose_checkpoint(
    run: RunDir, trainer: MathTrainer, reporter: Reporter, fallbacks: list[str]
) -> tuple[int, dict[str, Any]]:
    """Step of the checkpoint that becomes the result, and for train.json's `best` why.

    A best one that is damaged or gone is said and passed over. Raises MathreasonError when none is whole.
    """
    complete, _ = checkpoints.complete_checkpoints(run.checkpoints)
    if not complete:
        raise MathreasonError(f"{run.checkpoints} has no complete checkpoint; start a new run")
    steps = [checkpoints.step_of(path) for path in complete]
    wanted, best = trainer.best(), trainer.best(steps)
    if wanted is None:
        return steps[-1], {"step": steps[-1], "loss": None, "why": "last step; there is no validation split"}
    if best is not None and best.step == wanted.step:
        return best.step, best.to_dict()
    step = best.step if best is not None else steps[-1]
    said = f"the best checkpoint, of step {wanted.step}, is damaged or gone; taking that of step {step}"
    reporter.warn(said)
    fallbacks.append(said)
    if best is None:
        return step, {"step": step, "loss": None, "why": f"last step; {said}"}
    return step, {**best.to_dict(), "why": f"{best.why} of what is there; {said}"}


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
