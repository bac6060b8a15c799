"""Memory that runs out makes the micro-batch smaller and changes nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import run_script

from mathreason.config import JobConfig, LoraConfig, ModelConfig, PromptConfig
from mathreason.data.generator import generate
from mathreason.data.prompts import Example, Prompter
from mathreason.errors import MathreasonError
from mathreason.models import load_model
from mathreason.progress import Reporter
from mathreason.results import RunDir, read_appended
from mathreason.training import checkpoints
from mathreason.training.batches import Blocks, Collator
from mathreason.training.forward import Forward
from mathreason.training.recovery import Recovery
from mathreason.training.train import _arguments, _train, add_lora, total_steps
from mathreason.training.trainer import MathTrainer

BLOCKS = 43  # an epoch ends with a step of 11 of 16 blocks: micro-batches of 8 and 3, or of 4, 4 and 3


class Recorded(MathTrainer):
    """Notes the blocks of each pass; memory runs out above `room` rows once `after` passes are done."""

    room, after = 1 << 30, 0

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.passes: list[tuple[int, list[int]]] = []

    def compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], *others: Any, **named: Any) -> Any:
        loss = super().compute_loss(model, inputs, *others, **named)
        blocks = inputs["blocks"].tolist()
        if len(blocks) > self.room and len(self.passes) >= self.after:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.passes.append((self.state.global_step, blocks))
        return loss

    def blocks_of(self, step: int) -> list[int]:
        return [block for at, blocks in self.passes if at == step for block in blocks]


@pytest.fixture(scope="module")
def examples(tokenizer: Any) -> list[Example]:
    prompter = Prompter(PromptConfig(), tokenizer)
    return [prompter.encode(problem) for problem in generate("train", count=BLOCKS + 5, seed=11)]


def trainer_for(
    path: Path, job: dict[str, Any], examples: list[Example], micro_batch: int, accumulation: int, **more: Any
) -> Recorded:
    training = {
        **job["training"],
        "micro_batch": micro_batch,
        "gradient_accumulation": accumulation,
        "checkpoint_steps": 2,
        "keep_last": 10,
        "max_steps": None,
        "epochs": 2.0,
        **more,
    }
    config = JobConfig.model_validate({**job, "training": training})
    reporter = Reporter(quiet=True)
    loaded = load_model(ModelConfig(name="embedded", quantization="none", dtype="float32"), reporter)
    torch.manual_seed(0)
    run = RunDir(path)
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    trainer = Recorded(
        run=run,
        keep_last=config.training.keep_last,
        recovery=Recovery(config, reporter, loaded.facts["fallbacks"], sharded=False),
        forward=Forward(),
        model=add_lora(loaded.model, LoraConfig(r=4, alpha=8, dropout=0.0)),
        args=_arguments(config, run, loaded, "adamw_torch", BLOCKS, validated=True),
        train_dataset=Blocks(examples, [[i] for i in range(BLOCKS)]),
        eval_dataset=Blocks(examples, [[BLOCKS, BLOCKS + 1], *([i] for i in range(BLOCKS + 2, BLOCKS + 5))]),
        data_collator=Collator(loaded.tokenizer.pad_token_id),
    )
    trainer.job = config
    trainer.fallbacks = loaded.facts["fallbacks"]
    return trainer


def curve(trainer: MathTrainer, key: str = "loss") -> list[float]:
    return [line[key] for line in read_appended(trainer.run.log) if key in line]


@pytest.mark.parametrize("after", [0, 1, 4, 5])
def test_training_goes_on_at_half_the_micro_batch_with_the_same_loss_curve(
    tmp_path: Path, job: dict[str, Any], examples: list[Example], after: int
) -> None:
    small = trainer_for(tmp_path / "small", job, examples, 4, 4)
    small.train()
    large = trainer_for(tmp_path / "large", job, examples, 8, 2)
    large.room, large.after = 4, after
    large.train()
    assert large.fallbacks == [
        "memory ran out at micro-batch 8; going on at micro-batch 4 and gradient accumulation 4, "
        "the same global batch"
    ]
    assert len(curve(small)) == 6
    assert curve(large) == pytest.approx(curve(small), rel=1e-5)
    assert curve(large, "learning_rate") == curve(small, "learning_rate")
    assert curve(large, "validation_loss") == pytest.approx(curve(small, "validation_loss"), rel=1e-5)
    again = after // 2  # the step in which memory ran out; its first pass may have been done twice
    for step in range(6):
        assert set(large.blocks_of(step)) == set(small.blocks_of(step))
        if step != again:
            assert large.blocks_of(step) == small.blocks_of(step)
    assert large.tokens == small.tokens
    assert large.supervised_tokens == small.supervised_tokens


@pytest.mark.parametrize(("micro_batch", "accumulation"), [(1, 16), (2, 8), (8, 2), (16, 1)])
def test_blocks_of_a_step_do_not_depend_on_the_micro_batch(
    tmp_path: Path, job: dict[str, Any], examples: list[Example], micro_batch: int, accumulation: int
) -> None:
    wanted = trainer_for(tmp_path / "wanted", job, examples, 4, 4)
    wanted.train()
    trainer = trainer_for(tmp_path / "other", job, examples, micro_batch, accumulation)
    trainer.train()
    assert trainer.args.max_steps == wanted.args.max_steps == 6
    assert [trainer.blocks_of(step) for step in range(6)] == [wanted.blocks_of(step) for step in range(6)]
    first_epoch = [block for step in range(3) for block in wanted.blocks_of(step)]
    assert sorted(first_epoch) == list(range(BLOCKS))


def test_a_resumed_run_uses_the_smaller_micro_batch_and_ends_with_the_same_bytes(
    tmp_path: Path, job: dict[str, Any], examples: list[Example]
) -> None:
    first = trainer_for(tmp_path / "first", job, examples, 8, 2)
    first.room = 3
    first.train()
    resumed = trainer_for(tmp_path / "resumed", job, examples, 8, 2)
    checkpoint = first.run.checkpoints / "checkpoint-2"
    assert checkpoints.is_complete(checkpoint)
    resumed.restore(checkpoint)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert resumed.fallbacks == ["micro-batch 2, at which the run went on after memory ran out"]
    assert max(len(blocks) for _, blocks in resumed.passes) == 2
    weights = [
        each.run.checkpoints / "checkpoint-6" / "adapter_model.safetensors" for each in (first, resumed)
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_micro_batch_one_that_does_not_fit_says_what_to_change(
    tmp_path: Path, job: dict[str, Any], examples: list[Example]
) -> None:
    trainer = trainer_for(tmp_path / "run", job, examples, 2, 1)
    trainer.room = 0
    with pytest.raises(
        MathreasonError,
        match=r"memory ran out at micro-batch 1: lower data.max_length \(now 256\), or set "
        "training.gradient_checkpointing: true, or set model.quantization: nf4",
    ):
        trainer.train()


def test_memory_that_runs_out_in_the_optimizer_is_one_sentence(
    tmp_path: Path, job: dict[str, Any], examples: list[Example]
) -> None:
    trainer = trainer_for(tmp_path / "run", job, examples, 2, 1)

    def step(*_: Any) -> None:
        torch.empty(1 << 62, dtype=torch.uint8)  # the allocator's own error

    trainer.create_optimizer()
    trainer.optimizer.register_step_pre_hook(step)
    with pytest.raises(
        MathreasonError,
        match=r"memory ran out outside the passes of a step \(gradients, optimizer states, .*\): "
        r"lower lora.r \(now \d+\), or set model.quantization: nf4, or take a device with more memory",
    ):
        _train(trainer.job, trainer.run, trainer, Reporter(quiet=True))


def test_an_error_that_is_not_memory_is_not_taken_for_it(job: dict[str, Any]) -> None:
    def work() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    recovery = Recovery(JobConfig.model_validate(job), Reporter(quiet=True), [], sharded=False)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        recovery.attempt(work, lambda: None)


def test_sharded_parameters_cannot_go_back(job: dict[str, Any]) -> None:
    def work() -> None:
        raise MemoryError

    values = {**job, "training": {**job["training"], "micro_batch": 8}}
    recovery = Recovery(JobConfig.model_validate(values), Reporter(quiet=True), [], sharded=True)
    with pytest.raises(MathreasonError, match=r"at micro-batch 8: lower training.micro_batch \(now 8\)"):
        recovery.attempt(work, lambda: None)


@pytest.mark.slow
def test_memory_that_really_runs_out_makes_the_micro_batch_smaller() -> None:
    """In a process whose address space does not hold the micro-batch that was asked for."""
    done = run_script(Path(__file__).with_name("out_of_memory.py"))
    assert done.returncode == 0, done.stderr
    assert "memory ran out at micro-batch 32; going on at micro-batch 16" in done.stdout
    assert done.stdout.splitlines()[-1] == "equal"


def test_steps_are_those_of_the_job_whatever_the_micro_batch(job: dict[str, Any]) -> None:
    for blocks in range(1, 60):
        steps = {
            total_steps(
                JobConfig.model_validate(
                    {
                        **job,
                        "training": {
                            **job["training"],
                            "max_steps": None,
                            "epochs": 2.0,
                            "micro_batch": micro_batch,
                            "gradient_accumulation": 16 // micro_batch,
                        },
                    }
                ),
                blocks,
            )
            for micro_batch in (1, 2, 4, 8, 16)
        }
        assert len(steps) == 1
