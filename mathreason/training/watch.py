"""What is looked at after each optimizer step: progress, learning at all, a request to stop.

A callback of the transformers Trainer; `MathTrainer` makes one and asks it nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mathreason.errors import MathreasonError

if TYPE_CHECKING:
    from mathreason.training.trainer import MathTrainer

MOST_SKIPPED = 32
"""Steps in a row that float16 may skip. Its scale begins at 2**16 and halves with each, so that after these
the gradients themselves are no numbers (torch.amp.GradScaler)."""


class Watch(TrainerCallback):  # type: ignore[misc]
    """Shows progress, validates at the last step, stops when asked, and checks that the adapter learns."""

    def __init__(self, trainer: MathTrainer) -> None:
        self.advance: Callable[[int], None] = lambda _: None
        self.unlogged: tuple[float, int] | None = None  # of the checkpoint that training goes on from
        self.proof: Callable[[Any], None] | None = None
        """That packing is safe, asked of the model as the engine has wrapped it: nothing else can run it."""
        self._trainer = trainer
        self._checked = False
        self._taken = 0  # optimizer steps since this start that changed the model
        self._skipped = 0  # ... and that did not, because gradients in float16 were no numbers
        self._skipped_in_a_row = 0
        self._step_began = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        del args, state, control
        self._trainer.times.skip()
        if self.unlogged is not None:
            self._trainer.begin_logging(*self.unlogged)
        if self.proof is not None:
            self.proof(self._trainer.model)
        self._trainer.make_up_validation()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        del args, state, control
        self._step_began = time.monotonic()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        del args, state, control
        self._trainer.times.mark("other")

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        del args, control
        self._trainer.times.mark("optimizer")
        if self._trainer.accelerator.optimizer_step_was_skipped:
            self._skipped += 1
            self._skipped_in_a_row += 1
        else:
            self._taken += 1
            self._skipped_in_a_row = 0
        last = state.global_step + 1 >= state.max_steps
        if self._skipped_in_a_row >= MOST_SKIPPED or (last and not self._taken):
            self._trainer.diverged(
                f"the gradients of the last {self._skipped_in_a_row} steps were no numbers in float16, so "
                "that none of them changed the model (bfloat16 and float32 hold larger ones: model.dtype)"
            )
        if last and self._skipped:
            steps = self._taken + self._skipped
            self._trainer.recovery.say(
                f"{self._skipped} of {steps} optimizer steps changed nothing: gradients too large for float16"
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        self._trainer.times.step_done()
        self.advance(1)
        last, seconds = state.global_step >= state.max_steps, time.monotonic() - self._step_began
        if last and args.eval_strategy != "no":
            control.should_evaluate = True
        # Warm-up gives the first step a learning rate of 0, so the second is the first that must show.
        if self._taken >= 2 and not self._checked:
            self._checked = True
            prove_learning(others["model"])
        left = not last or control.should_evaluate
        if left and self._trainer.must_stop(seconds, control.should_evaluate):
            control.should_evaluate = False
            control.should_save = control.should_training_stop = True


def prove_learning(model: Any) -> None:
    """Raise MathreasonError when a LoRA-B matrix, which starts at zero, still is: no gradient reaches it."""
    dead = [
        name
        for name, parameter in model.named_parameters()
        if "lora_B" in name and parameter.requires_grad and not _whole(parameter).any()
    ]
    if dead:
        raise MathreasonError(f"no gradient reaches {len(dead)} adapter layers, such as {dead[0]}")


def _whole(parameter: Any) -> Any:
    """A parameter's values, of which ZeRO-3 leaves each rank a part. All ranks call it."""
    if not hasattr(parameter, "ds_id"):
        return parameter.detach()
    import deepspeed

    with deepspeed.zero.GatheredParameters([parameter]):
        return parameter.detach().clone()
