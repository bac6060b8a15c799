"""Training that has gone wrong is noticed, with the data it went wrong at; a hard step is not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from mathreason.config import JobConfig, LoraConfig, PromptConfig
from mathreason.data.generator import generate
from mathreason.data.prompts import Prompter
from mathreason.errors import MathreasonError
from mathreason.progress import Reporter
from mathreason.results import RunDir, read_appended
from mathreason.training import checkpoints
from mathreason.training.batches import Blocks, Collator
from mathreason.training.divergence import ENOUGH, FACTOR, PATIENCE, Trend
from mathreason.training.forward import Forward
from mathreason.training.recovery import Recovery
from mathreason.training.train import _arguments, add_lora
from mathreason.training.trainer import STATE, MathTrainer


def noted(trend: Trend, losses: list[float], start: int = 1) -> tuple[int, str] | None:
    """(step, what is wrong) of the first step of `losses` that is found wrong."""
    for step, loss in enumerate(losses, start):
        if said := trend.note(step, loss, lambda step=step: [f"problem {step}"]):
            return step, said
    return None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_wrong_at_once(bad: float) -> None:
    trend = Trend()
    assert noted(trend, [2.0, 1.9, bad]) == (3, f"the loss of step 3 is {bad}")
    assert trend.problem_ids == ["problem 3"]


def test_a_loss_that_stays_high_is_wrong_after_patience_and_names_where_it_began() -> None:
    trend = Trend()
    found = noted(trend, [2.0] * 40 + [2.0 * FACTOR * 1.01] * PATIENCE)
    assert found is not None
    assert found[0] == 40 + PATIENCE
    assert "since step 41" in found[1]
    assert trend.problem_ids == ["problem 41"]


@pytest.mark.parametrize(
    "losses",
    [
        [2.0] * 40 + [50.0] * (PATIENCE - 1) + [2.0] + [50.0] * (PATIENCE - 1),
        [2.0] * 40 + [2.0 * FACTOR] * 300,  # at the multiple, not above it
        [2.0 * 0.97**step for step in range(500)],
        [0.01] * (ENOUGH // 2 - 1) + [3.0] * 300,  # too few steps to know what is usual
    ],
)
def test_hard_steps_and_falling_losses_are_not_wrong(losses: list[float]) -> None:
    assert noted(Trend(), losses) is None


def test_the_count_goes_on_after_a_resume() -> None:
    first = Trend()
    assert noted(first, [2.0] * 40 + [20.0] * (PATIENCE - 1)) is None
    second = Trend()
    second.restore(json.loads(json.dumps(first.state())))
    found = noted(second, [20.0], start=40 + PATIENCE)
    assert found is not None
    assert "since step 41" in found[1]
    assert second.problem_ids == ["problem 41"]


class Spoiled(MathTrainer):
    """Its loss is a thousand times what it should be from step 31 on."""

    def compute_loss(self, *arguments: Any, **named: Any) -> torch.Tensor:
        loss = super().compute_loss(*arguments, **named)
        return loss * 1000 if self.state.global_step >= 30 else loss


def test_diverging_training_names_step_and_problems_and_keeps_the_checkpoints(
    loaded: Any, tmp_path: Path, job: dict[str, Any]
) -> None:
    training = {**job["training"], "max_steps": 200, "checkpoint_steps": 25, "micro_batch": 2}
    config = JobConfig.model_validate({**job, "training": training})
    problems = list(generate("train", count=10, seed=11))
    prompter = Prompter(PromptConfig(), loaded.tokenizer)
    blocks = [[0, 1], [2, 3], [4, 5], [6, 7], [8], [9]]
    run = RunDir(tmp_path / "run")
    run.checkpoints.mkdir(parents=True)
    trainer = Spoiled(
        run=run,
        keep_last=2,
        recovery=Recovery(config, Reporter(quiet=True), [], sharded=False),
        forward=Forward(),
        model=add_lora(loaded.model, LoraConfig(r=4, alpha=8, dropout=0.0)),
        args=_arguments(config, run, loaded, "adamw_torch", len(blocks), validated=False),
        train_dataset=Blocks(
            [prompter.encode(p) for p in problems], blocks, [f"problem {i}" for i in range(10)]
        ),
        data_collator=Collator(loaded.tokenizer.pad_token_id),
    )
    with pytest.raises(MathreasonError, match=r"training diverged: since step 31 .* problem \d"):
        trainer.train()
    line = read_appended(run.log)[-1]
    assert line["step"] == 30 + PATIENCE
    assert "since step 31" in line["diverged"]
    # Two blocks of the six, whole: pairs of neighbours, or one of the last two alone.
    named = {int(name.removeprefix("problem ")) for name in line["problem_ids"]}
    whole = [block for block in blocks if named >= set(block)]
    assert len(whole) == 2
    assert sum(map(len, whole)) == len(line["problem_ids"])
    complete, _ = checkpoints.complete_checkpoints(run.checkpoints)
    assert [checkpoints.step_of(path) for path in complete] == [50, 75]
    assert json.loads((complete[-1] / STATE).read_text())["trend"]["since"] == 31
