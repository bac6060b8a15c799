"""The transformers Trainer with this project's loss, validation, log and checkpoints.

Loss: cross-entropy summed over the supervised tokens and divided by their number in the whole optimizer
step, over all micro-batches, so 4 x 1 and 1 x 4 give the same gradient; `forward` computes it. After each
optimizer step it looks for a wrong loss and for a request to stop; when memory runs out in a step, the
step is done again in smaller micro-batches.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset
from transformers import PrinterCallback, Trainer, TrainerControl

from mathreason.data.packing import IGNORED
from mathreason.errors import InputError, MathreasonError
from mathreason.ownership import Overtaken, require_ours
from mathreason.results import RunDir, Shard, append_jsonl, now, to_json, write_text
from mathreason.training import checkpoints, launch, ranks, selection, stopping
from mathreason.training.accounting import StepTimes, Work
from mathreason.training.attention import own_attention
from mathreason.training.batches import labelled
from mathreason.training.divergence import Trend
from mathreason.training.forward import Forward, sequence_lengths
from mathreason.training.recovery import Batch, Recovery, StepStart
from mathreason.training.selection import Choice, Exam, undisturbed_chance
from mathreason.training.shares import fill_up, is_filler
from mathreason.training.storage import storing
from mathreason.training.watch import Watch

STATE = "mathreason.json"
"""File of a checkpoint with what transformers does not keep: micro-batch, losses, the loss not yet logged."""
SHOWN_IDS = 8
"""Problem ids in a message; log.jsonl has all of them."""


class MathTrainer(Trainer):  # type: ignore[misc]
    """Trainer for completion-only loss on packed blocks, with atomic checkpoints and log.jsonl."""

    loss_is_scaled_for_ga = True
    control: TrainerControl

    def __init__(
        self,
        run: RunDir,
        keep_last: int,
        recovery: Recovery,
        forward: Forward,
        exam: Exam | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.forward = forward
        self.exam = exam
        self.times = StepTimes(self.args.device)
        self.measured = Work()  # of this rank, in the steps that `times` measured
        self.model_accepts_loss_kwargs = True  # asks for num_items_in_batch; the loss is computed here
        self.run = run
        self.keep_last = keep_last
        self.tokens = 0  # of all ranks since the last start, and of them
        self.supervised_tokens = 0
        self._unlogged_tokens = 0  # supervised, of all ranks, since the last line of the log
        self.aside_seconds = 0.0  # validation and checkpoints, which are no training throughput
        self.recovery = recovery
        self.trend = Trend()
        self.stop_code = 0
        self.watch = Watch(self)
        self._step: list[Batch] = []  # the micro-batches of the optimizer step under way
        self._done = 0  # how many of them
        self._start: StepStart
        self._checkpoint_seconds = 0.0  # the longest so far
        self._validation_seconds = 0.0
        self.remove_callback(PrinterCallback)
        self.add_callback(self.watch)

    def _prepare_inputs(self, inputs: Batch) -> Batch:
        """A batch as it is: `forward` brings to the device what it needs there."""
        return inputs

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """This micro-batch's share of the optimizer step's mean loss, in nats per supervised token."""
        if return_outputs or num_items_in_batch is None:
            raise MathreasonError(
                "the loss needs the number of supervised tokens of the whole optimizer step"
            )
        self.times.mark("other")
        if ranks.world_size() > 1 and is_filler(inputs):
            # A label that does not count: the pass goes through all layers, and its gradient is zero.
            return self.forward.summed_loss(model, labelled(inputs)) * 0.0
        loss = self.forward.summed_loss(model, inputs) / num_items_in_batch
        self.times.mark("forward")
        # The gradients of ranks are averaged, and num_items_in_batch counts the tokens of all ranks.
        scaled: torch.Tensor = loss * self.accelerator.num_processes
        return scaled

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,  # noqa: ARG002 - the Trainer's signature
        metric_key_prefix: str = "eval",  # noqa: ARG002
    ) -> dict[str, float]:
        """Validation loss: the mean over all supervised tokens of all ranks, not a mean of batch means.

        With an exam also how many held-out problems the model solves. Where it is stopped, nothing of it is
        kept; it is made up for when training goes on (`make_up_validation`). Training draws the random
        numbers that it would have drawn without.
        """
        started = time.monotonic()
        self.times.mark("other")
        with undisturbed_chance():
            loss = self._validation_loss(eval_dataset or self.eval_dataset)
            solved = self._examine() if loss is not None else None
        self.aside_seconds += time.monotonic() - started
        self.times.skip()
        if loss is None or solved is None:
            self.control.should_evaluate = False
            self.control.should_save = self.control.should_training_stop = True
            return {}
        self._validation_seconds = max(self._validation_seconds, time.monotonic() - started)
        metrics = {"validation_loss": loss, **solved}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _validation_loss(self, dataset: Any) -> float | None:
        """Nats per supervised token of `dataset`; None when it was asked to stop before its end."""
        total, tokens = 0.0, 0
        request = stopping.current()
        size, world = self.args.per_device_eval_batch_size, self.args.world_size
        # Every rank takes as many passes: where parameters are in parts, a pass needs all of them.
        even = range(self.args.process_index, -(-len(dataset) // (size * world)) * size * world, world)
        self.model.eval()
        for batch in DataLoader(Subset(dataset, even), size, collate_fn=self.data_collator):
            self.stop_code = stopping.agreed(request)
            if self.stop_code:
                return None
            total += self.recovery.attempt(lambda batch=batch: self._validate(batch), lambda: None)  # type: ignore[misc]
            tokens += int((batch["labels"] != IGNORED).sum())
        everyone = ranks.gathered([total, tokens])
        return sum(total for total, _ in everyone) / sum(tokens for _, tokens in everyone)

    def _validate(self, batch: Batch) -> float:
        total = 0.0
        for piece in self.recovery.pieces(batch):
            with torch.no_grad(), self.compute_loss_context_manager():
                loss = self.forward.summed_loss(self.model, labelled(piece)).item()
            total += 0.0 if is_filler(piece) else loss
        return total

    def _examine(self) -> dict[str, float] | None:
        """Held-out problems solved, each rank answering its share; None when it was asked to stop."""
        if self.exam is None:
            return {}
        share = Shard(self.args.process_index + 1, self.args.world_size)
        request, code = stopping.current(), 0

        def stopped() -> bool:
            nonlocal code
            code = request.code() if request is not None else 0
            return code != 0

        with own_attention(self.model):
            mine = self.exam.correct(share, stopped)
        everyone = ranks.gathered([code, 0] if mine is None else [0, mine])
        self.stop_code = max(int(code) for code, _ in everyone)
        if self.stop_code:
            return None
        correct = sum(int(solved) for _, solved in everyone)
        return {
            selection.CORRECT: correct,
            selection.ITEMS: self.exam.items,
            "validation_accuracy": correct / self.exam.items,
        }

    def lacks_validation(self) -> bool:
        """Whether a stop kept the step that `state` is at from being validated."""
        step = self.state.global_step
        due = step > 0 and (step % self.args.eval_steps == 0 or step >= self.args.max_steps)
        known = {found["step"] for found in selection.validations(self.state.log_history)}
        return self.args.eval_strategy != "no" and due and step not in known

    def make_up_validation(self) -> None:
        """Validate the checkpoint that training goes on from, where a stop had kept it from that."""
        request = stopping.current()
        if self.lacks_validation() and not self.evaluate() and request is not None:
            raise request.obey(self.stop_code)

    def _run_epoch(self, **named: Any) -> None:
        """Nothing where only the validation of the last step was left to be made up for."""
        if self.state.global_step < self.args.max_steps:
            super()._run_epoch(**named)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The blocks in the order of a single process, dealt to the ranks (`shares`)."""
        loader: DataLoader[Any] = super().get_train_dataloader()
        if self.args.world_size > 1:
            fill_up(loader, self.args.per_device_train_batch_size, self.args.world_size)
        loader.device = None  # accelerate would move batches, which stay where they are (`_prepare_inputs`)
        return loader

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[Batch], torch.Tensor | int | None]:
        """The micro-batches of one optimizer step, remembered for the case that it must be done again."""
        self.times.mark("other")
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.times.mark("data")
        self._step, self._done = batches, 0
        return batches, items

    def training_step(
        self, model: Any, inputs: Batch, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Loss and gradients of the step's next micro-batch; when memory runs out, of all so far again."""
        if self._done == 0:
            self._start = StepStart(model, self._tr_loss)
        waiting = [inputs]

        def rewind() -> None:
            self._start.restore()
            waiting[:] = self._step[: self._done + 1]

        def work() -> torch.Tensor:
            losses = []
            for piece in (piece for batch in waiting for piece in self.recovery.pieces(batch)):
                losses.append(super(MathTrainer, self).training_step(model, piece, num_items_in_batch))
                self.times.mark("backward")
            return torch.stack(losses).sum()

        # Ranks may need different numbers of passes, so their gradients meet only when all are through. With
        # sharded parameters the launcher's own engine brings them together.
        with nullcontext() if self.recovery.sharded else self.accelerator.no_sync(model):
            loss = self.recovery.attempt(work, rewind)
        self._done += 1
        if self._done == len(self._step):
            self._step_computed(model, loss)
        return loss

    def _step_computed(self, model: Any, loss: torch.Tensor) -> None:
        """The gradients of a step are there: agree with the other ranks, and look at the loss."""
        if not self.recovery.sharded:
            ranks.average_gradients(model)
        # The running loss begins anew after each line of the log; what the step added to it is its loss.
        mine = (self._tr_loss - self._start.running_loss + loss).item()
        supervised = sum(int((batch["labels"] != IGNORED).sum()) for batch in self._step)
        real = [batch for batch in self._step if not is_filler(batch)]
        lengths = [length for batch in real for length in sequence_lengths(batch)]
        everyone = ranks.gathered([mine, self.recovery.micro_batch, supervised, sum(lengths)])
        self.recovery.shrink(int(min(micro_batch for _, micro_batch, *_ in everyone)))
        if self.times.warm:
            self.measured.add(lengths, supervised)
        self.tokens += int(sum(tokens for *_, tokens in everyone))
        self.supervised_tokens += int(sum(tokens for _, _, tokens, _ in everyone))
        self._unlogged_tokens += int(sum(tokens for _, _, tokens, _ in everyone))
        step = self.state.global_step + 1
        wrong = self.trend.note(step, sum(value for value, *_ in everyone) / len(everyone), self._problem_ids)
        if wrong:
            self._diverged(step, wrong, self.trend.problem_ids)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Norm of the step's gradients before clipping; one that is no number stops before it does harm.

        Not in float16, whose loss is scaled up as far as gradients allow: there it makes the step be skipped
        and the scale halve (`Watch`).
        """
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if norm is not None and not self.args.fp16 and not math.isfinite(norm):
            self.diverged(f"the gradient norm of step {self.state.global_step + 1} is {float(norm)}")
        return norm

    def _problem_ids(self) -> list[str]:
        blocks = [int(block) for batch in self._step if not is_filler(batch) for block in batch["blocks"]]
        return ranks.gathered_names([name for block in blocks for name in self.train_dataset.ids(block)])

    def diverged(self, wrong: str) -> None:
        """Stop for what the micro-batches of the step under way did. All ranks call it."""
        self._diverged(self.state.global_step + 1, wrong, self._problem_ids())

    def _diverged(self, step: int, wrong: str, names: list[str]) -> None:
        if self.is_world_process_zero():
            require_ours(now=False)
            with storing("log.jsonl", self.run.path):
                line = {"step": step, "diverged": wrong, "problem_ids": names, "time": now()}
                append_jsonl(self.run.log, [line])
        shown = ", ".join(names[:SHOWN_IDS]) + (
            f" and {len(names) - SHOWN_IDS} more" if names[SHOWN_IDS:] else ""
        )
        raise MathreasonError(
            f"training diverged: {wrong}; the problems of that step are {shown} (all in {self.run.log}). "
            "Lower training.learning_rate or look at them; the checkpoints before are kept."
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Keep the line in the trainer's state and append it to log.jsonl; a loss that is no number stops."""
        super().log(logs, start_time)
        if not math.isfinite(logs.get("validation_loss", 0.0)):
            raise MathreasonError(
                f"training diverged: the validation loss at step {self.state.global_step} is "
                f"{logs['validation_loss']}. Lower training.learning_rate; the last checkpoint is kept."
            )
        if self.is_world_process_zero() and ("loss" in logs or "validation_loss" in logs):
            line = {"step": self.state.global_step, "epoch": round(self.state.epoch or 0.0, 4), **logs}
            if "loss" in logs:
                line["supervised_tokens"], self._unlogged_tokens = self._unlogged_tokens, 0
            if "grad_norm" in line:
                norm = line.pop("grad_norm")
                line["gradient_norm"] = norm if math.isfinite(norm) else None
            with storing("log.jsonl", self.run.path):
                append_jsonl(self.run.log, [{**line, "time": now()}])

    def best(self, steps: Collection[int] | None = None) -> Choice | None:
        """The best validated step so far, or the best of `steps`; None when there is none."""
        return selection.choose(self.state.log_history, steps)

    def _get_output_dir(self, trial: Any) -> str:
        """Checkpoints are written beside their place and moved there when they are whole."""
        return str(Path(super()._get_output_dir(trial)) / checkpoints.WRITING)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        started = time.monotonic()
        self.times.mark("other")
        writing = self.run.checkpoints / checkpoints.WRITING
        if self.is_world_process_zero():
            require_ours()
        unlogged = [loss for (loss,) in ranks.gathered([self._tr_loss.item()])]
        try:
            with storing(f"the checkpoint of step {self.state.global_step}", self.run.checkpoints):
                super()._save_checkpoint(model, trial)
                ranks.barrier()
                if self.is_world_process_zero():
                    self._commit(writing / f"checkpoint-{self.state.global_step}", unlogged)
        except Overtaken:
            raise
        except MathreasonError:
            shutil.rmtree(writing, ignore_errors=True)  # makes room for saying what failed
            raise
        ranks.barrier()
        self._checkpoint_seconds = max(self._checkpoint_seconds, time.monotonic() - started)
        self.aside_seconds += time.monotonic() - started
        self.times.skip()

    def _commit(self, written: Path, unlogged: list[float]) -> None:
        state = {
            "micro_batch": self.recovery.micro_batch,
            "unlogged_loss": unlogged,
            "unlogged_supervised_tokens": self._unlogged_tokens,
            "last_logged": self._globalstep_last_logged,
            "trend": self.trend.state(),
            "processes": ranks.world_size(),
            "distribution": launch.current().name,
        }
        write_text(written / STATE, to_json(state) + "\n")
        require_ours()
        checkpoints.commit(written, self.run.checkpoints)
        best = self.best(checkpoints.steps(self.run.checkpoints))
        checkpoints.prune(self.run.checkpoints, self.keep_last, best.step if best else None)

    def restore(self, checkpoint: Path) -> None:
        """Take over what `STATE` of a checkpoint says; transformers restores the rest."""
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        self._require_same_ranks(checkpoint, state)
        self.recovery.restore(state["micro_batch"])
        self.trend.restore(state["trend"])
        self._unlogged_tokens = state.get("unlogged_supervised_tokens", 0)
        self.watch.unlogged = (_of_this_rank(state["unlogged_loss"]), state["last_logged"])

    def _require_same_ranks(self, checkpoint: Path, state: dict[str, Any]) -> None:
        """Raise InputError where other ranks than these cannot go on; say what is lost where they can.

        Plain ranks all hold the same, and each optimizer step sees the same blocks whatever their number:
        only the random states of dropout are a rank's own. DeepSpeed and FSDP write parts.
        """
        here = launch.current()
        then, kind = state.get("processes", here.processes), state.get("distribution", here.name)
        if (then, kind) == (here.processes, here.name):
            return
        parts = "zero", "fsdp"
        if kind.startswith(parts) or here.name.startswith(parts):
            raise InputError(
                f"{checkpoint} was written by {then} process(es) with distribution '{kind}', and these are "
                f"{here.processes} with '{here.name}'; what DeepSpeed and FSDP write in parts only the same "
                "can put together again. Go on with those, or start a new run."
            )
        self.recovery.say(
            f"going on with {here.processes} process(es) from a checkpoint of {then}: same blocks, weights "
            "and optimizer, but dropout draws other numbers than in an undisturbed run"
        )

    def begin_logging(self, loss: float, last_logged: int) -> None:
        """Go on with the mean loss of the steps since the last line of the log."""
        self._tr_loss.fill_(loss)
        self._globalstep_last_logged = last_logged

    def must_stop(self, step_seconds: float, validates: bool) -> bool:
        """Whether the ranks agree to stop now; in time for a checkpoint before a deadline.

        `validates`: a validation is next, and is left to the run that goes on if there is no time for it.
        """
        request, ending = stopping.current(), step_seconds + 2 * self._checkpoint_seconds
        if request is not None:
            request.margin = ending + (self._validation_seconds if validates else 0.0)
        self.stop_code = stopping.agreed(request)
        if request is not None:
            request.margin = ending
        return self.stop_code != 0


def _of_this_rank(losses: list[float] | float) -> float:
    """A rank's own running loss, so that sums round as in an undisturbed run; of other ranks the mean.

    Checkpoints of earlier versions hold the mean alone.
    """
    if isinstance(losses, float):
        return losses
    return losses[ranks.rank()] if len(losses) == ranks.world_size() else sum(losses) / len(losses)
