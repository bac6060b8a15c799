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
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Subset
from transformers import PrinterCallback, Trainer, TrainerControl

from mathreason.data.packing import IGNORED, block_features
from mathreason.data.prompts import Example
from mathreason.errors import MathreasonError
from mathreason.results import RunDir, append_jsonl, now, to_json, write_text
from mathreason.training import checkpoints, ranks, stopping
from mathreason.training.accounting import StepTimes
from mathreason.training.divergence import Trend
from mathreason.training.forward import Forward, sequence_lengths
from mathreason.training.recovery import Batch, Recovery, StepStart
from mathreason.training.storage import storing
from mathreason.training.watch import Watch

STATE = "mathreason.json"
"""File of a checkpoint with what transformers does not keep: micro-batch, losses, the loss not yet logged."""
SHOWN_IDS = 8
"""Problem ids in a message; log.jsonl has all of them."""


class Blocks(Dataset[dict[str, list[int]]]):
    """Packed blocks as features; `blocks` holds indices into `examples`, whose problems are `ids`."""

    def __init__(
        self, examples: Sequence[Example], blocks: Sequence[Sequence[int]], ids: Sequence[str] = ()
    ) -> None:
        self._examples = examples
        self._blocks = blocks
        self._ids = ids or [f"example {number}" for number in range(len(examples))]

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        features = block_features([self._examples[i] for i in self._blocks[index]])
        return {**features, "block": [index]}

    def ids(self, index: int) -> list[str]:
        """Ids of the problems in a block."""
        return [self._ids[i] for i in self._blocks[index]]


class Collator:
    """Rows of one micro-batch, padded on the right to the longest.

    The padding is a sequence of its own (its position ids start at 0) without labels, and there is no
    attention mask: the model derives the block-diagonal mask from the position ids only when
    `attention_mask` is None and `use_cache` is False.
    """

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, rows: list[dict[str, list[int]]]) -> Batch:
        length = max(len(row["input_ids"]) for row in rows)
        batch: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "position_ids": []}
        for row in rows:
            short = length - len(row["input_ids"])
            batch["input_ids"].append(row["input_ids"] + [self._pad_id] * short)
            batch["labels"].append(row["labels"] + [IGNORED] * short)
            batch["position_ids"].append(row["position_ids"] + list(range(short)))
        tensors = {name: torch.tensor(values, dtype=torch.long) for name, values in batch.items()}
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        return {**tensors, "lengths": lengths, "blocks": torch.tensor([row["block"][0] for row in rows])}


class MathTrainer(Trainer):  # type: ignore[misc]
    """Trainer for completion-only loss on packed blocks, with atomic checkpoints and log.jsonl."""

    loss_is_scaled_for_ga = True
    control: TrainerControl

    def __init__(
        self, run: RunDir, keep_last: int, recovery: Recovery, forward: Forward, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.forward = forward
        self.times = StepTimes(self.args.device)
        self.lengths: list[int] = []  # of the sequences of the steps that `times` measured
        self.model_accepts_loss_kwargs = True  # asks for num_items_in_batch; the loss is computed here
        self.run = run
        self.keep_last = keep_last
        self.tokens = 0
        self.supervised_tokens = 0
        self.aside_seconds = 0.0  # validation and checkpoints, which are no training throughput
        self.recovery = recovery
        self.trend = Trend()
        self.stop_code = 0
        self.watch = Watch(self)
        self._step: list[Batch] = []  # the micro-batches of the optimizer step under way
        self._done = 0  # how many of them
        self._start: StepStart
        self._checkpoint_seconds = 0.0
        self.remove_callback(PrinterCallback)
        self.add_callback(self.watch)

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
        """Validation loss: the mean over all supervised tokens of all ranks, not a mean of batch means."""
        started = time.monotonic()
        self.times.mark("other")
        total, tokens = 0.0, 0
        dataset = eval_dataset if eval_dataset is not None else self.eval_dataset
        own = Subset(dataset, range(self.args.process_index, len(dataset), self.args.world_size))
        self.model.eval()
        for batch in DataLoader(own, self.args.per_device_eval_batch_size, collate_fn=self.data_collator):
            total += self.recovery.attempt(lambda batch=batch: self._validate(batch), lambda: None)  # type: ignore[misc]
            tokens += int((batch["labels"] != IGNORED).sum())
        total, tokens = (sum(values) for values in zip(*ranks.gathered([total, tokens]), strict=True))
        metrics = {"validation_loss": total / tokens}
        self.aside_seconds += time.monotonic() - started
        self.times.skip()
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _validate(self, batch: Batch) -> float:
        total = 0.0
        for piece in self.recovery.pieces(batch):
            with torch.no_grad(), self.compute_loss_context_manager():
                total += self.forward.summed_loss(self.model, self._prepare_inputs(piece)).item()
        return total

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
        everyone = ranks.gathered([mine, self.recovery.micro_batch])
        self.recovery.shrink(int(min(micro_batch for _, micro_batch in everyone)))
        lengths = [length for batch in self._step for length in sequence_lengths(batch)]
        self.lengths = [*self.lengths, *lengths] if self.times.warm else []
        self.tokens += sum(lengths)
        self.supervised_tokens += sum(int((batch["labels"] != IGNORED).sum()) for batch in self._step)
        step = self.state.global_step + 1
        wrong = self.trend.note(step, sum(value for value, _ in everyone) / len(everyone), self._problem_ids)
        if wrong:
            self._diverged(step, wrong)

    def _problem_ids(self) -> list[str]:
        blocks = [int(block) for batch in self._step for block in batch["blocks"]]
        return ranks.gathered_names([name for block in blocks for name in self.train_dataset.ids(block)])

    def _diverged(self, step: int, wrong: str) -> None:
        names = self.trend.problem_ids
        if self.is_world_process_zero():
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
            if "grad_norm" in line:
                line["gradient_norm"] = line.pop("grad_norm")
            with storing("log.jsonl", self.run.path):
                append_jsonl(self.run.log, [{**line, "time": now()}])

    def best(self) -> tuple[int, float] | None:
        """(step, validation loss) of the lowest validation loss so far; the earliest of equals."""
        seen = [(e["validation_loss"], e["step"]) for e in self.state.log_history if "validation_loss" in e]
        if not seen:
            return None
        loss, step = min(seen)
        return step, loss

    def _get_output_dir(self, trial: Any) -> str:
        """Checkpoints are written beside their place and moved there when they are whole."""
        return str(Path(super()._get_output_dir(trial)) / checkpoints.WRITING)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        started = time.monotonic()
        self.times.mark("other")
        writing = self.run.checkpoints / checkpoints.WRITING
        unlogged = [loss for (loss,) in ranks.gathered([self._tr_loss.item()])]
        try:
            with storing(f"the checkpoint of step {self.state.global_step}", self.run.checkpoints):
                super()._save_checkpoint(model, trial)
                ranks.barrier()
                if self.is_world_process_zero():
                    self._commit(writing / f"checkpoint-{self.state.global_step}", unlogged)
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
            "unlogged_loss": sum(unlogged) / len(unlogged),
            "last_logged": self._globalstep_last_logged,
            "trend": self.trend.state(),
        }
        write_text(written / STATE, to_json(state) + "\n")
        checkpoints.commit(written, self.run.checkpoints)
        best = self.best()
        checkpoints.prune(self.run.checkpoints, self.keep_last, best[0] if best else None)

    def restore(self, checkpoint: Path) -> None:
        """Take over what `STATE` of a checkpoint says; transformers restores the rest."""
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        self.recovery.restore(state["micro_batch"])
        self.trend.restore(state["trend"])
        self.watch.unlogged = (state["unlogged_loss"], state["last_logged"])

    def begin_logging(self, loss: float, last_logged: int) -> None:
        """Go on with the mean loss of the steps since the last line of the log."""
        self._tr_loss.fill_(loss)
        self._globalstep_last_logged = last_logged

    def must_stop(self, step_seconds: float) -> bool:
        """Whether the ranks agree to stop now; in time for a checkpoint before a deadline."""
        request = stopping.current()
        if request is not None:
            request.margin = step_seconds + 2 * self._checkpoint_seconds
        self.stop_code = stopping.agreed(request)
        return self.stop_code != 0
