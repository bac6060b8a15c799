"""The transformers Trainer with this project's loss, validation, log and checkpoints.

Loss: cross-entropy summed over the supervised tokens and divided by their number in the whole optimizer
step, over all micro-batches, so 4 x 1 and 1 x 4 give the same gradient. Logits are computed only where
there is a label. Blocks hold several examples; `prove_packing` shows before training that none of them
sees another.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from mathreason.data.packing import IGNORED, block_features
from mathreason.data.prompts import Example
from mathreason.errors import MathreasonError
from mathreason.results import RunDir, append_jsonl, now
from mathreason.training import checkpoints

Batch = dict[str, torch.Tensor]


class Blocks(Dataset[dict[str, list[int]]]):
    """Packed blocks as features; `blocks` holds indices into `examples`."""

    def __init__(self, examples: Sequence[Example], blocks: Sequence[Sequence[int]]) -> None:
        self._examples = examples
        self._blocks = blocks

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return block_features([self._examples[i] for i in self._blocks[index]])


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
        return {**tensors, "lengths": torch.tensor([len(row["input_ids"]) for row in rows])}


def summed_loss(model: Any, batch: Batch) -> torch.Tensor:
    """Cross-entropy in nats summed over the labels of `batch`, which the token before each predicts.

    `batch` holds input_ids, labels and position_ids of shape [rows, tokens]. Logits are computed at the
    positions before a label only, [rows, kept, vocabulary].
    """
    if "attention_mask" in batch:
        raise MathreasonError("packed blocks and an attention mask exclude each other")
    targets = batch["labels"][:, 1:]
    kept = (targets != IGNORED).any(dim=0).nonzero().squeeze(-1)
    logits = model(
        input_ids=batch["input_ids"],
        position_ids=batch["position_ids"],
        use_cache=False,
        logits_to_keep=kept,
    ).logits
    return functional.cross_entropy(
        logits.float().flatten(0, 1), targets[:, kept].flatten(), ignore_index=IGNORED, reduction="sum"
    )


def prove_packing(model: Any, first: Example, second: Example) -> None:
    """Show that in a block of two examples the second cannot see the first; MathreasonError if it does.

    The first example's tokens are exchanged for others. With the block-diagonal mask their weight in the
    second example's attention is exactly zero, so its logits stay the same.
    """
    features = block_features([first, second])
    other = [(token + 1) % model.config.vocab_size for token in first.ids]
    logits = []
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for ids in (features["input_ids"], other + second.ids):
            logits.append(
                model(
                    input_ids=torch.tensor([ids], device=model.device),
                    position_ids=torch.tensor([features["position_ids"]], device=model.device),
                    use_cache=False,
                    logits_to_keep=torch.arange(len(first.ids), len(ids), device=model.device),
                ).logits.float()
            )
    model.train(was_training)
    difference = (logits[0] - logits[1]).abs().max().item()
    if not difference <= 1e-4 * max(1.0, logits[0].abs().max().item()):
        raise MathreasonError(
            f"packing is not safe with this model and attention '{model.config._attn_implementation}': "
            f"examples of one block see each other (logits differ by {difference:.3g}). "
            "Set training.packing: false."
        )


class MathTrainer(Trainer):  # type: ignore[misc]
    """Trainer for completion-only loss on packed blocks, with atomic checkpoints and log.jsonl."""

    loss_is_scaled_for_ga = True
    control: TrainerControl

    def __init__(self, run: RunDir, keep_last: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.model_accepts_loss_kwargs = True  # asks for num_items_in_batch; the loss is computed here
        self.run = run
        self.keep_last = keep_last
        self.tokens = 0
        self.supervised_tokens = 0
        self.aside_seconds = 0.0  # validation and checkpoints, which are no training throughput
        self.watch = Watch()
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
        self.tokens += int(inputs["lengths"].sum())
        self.supervised_tokens += int((inputs["labels"] != IGNORED).sum())
        loss = summed_loss(model, inputs) / num_items_in_batch
        # The gradients of ranks are averaged, and num_items_in_batch counts the tokens of all ranks.
        scaled: torch.Tensor = loss * self.accelerator.num_processes
        return scaled

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,  # noqa: ARG002 - the Trainer's signature
        metric_key_prefix: str = "eval",  # noqa: ARG002
    ) -> dict[str, float]:
        """Validation loss: the mean over all supervised tokens, not a mean of batch means."""
        started = time.monotonic()
        total, tokens = 0.0, 0
        model = self.model
        model.eval()
        for batch in self.get_eval_dataloader(eval_dataset):
            batch = self._prepare_inputs(batch)  # noqa: PLW2901 - the same batch, on the device
            with torch.no_grad(), self.compute_loss_context_manager():
                total += summed_loss(model, batch).item()
            tokens += int((batch["labels"] != IGNORED).sum())
        if self.args.world_size > 1:
            sums = torch.tensor([[total, float(tokens)]], dtype=torch.float64, device=self.args.device)
            total, tokens = (v.item() for v in self.accelerator.gather(sums).sum(dim=0))
        metrics = {"validation_loss": total / tokens}
        self.aside_seconds += time.monotonic() - started
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Keep the line in the trainer's state and append it to log.jsonl; a loss that is no number stops."""
        super().log(logs, start_time)
        for key in ("loss", "validation_loss"):
            if key in logs and not math.isfinite(logs[key]):
                raise MathreasonError(
                    f"the {key.replace('_', ' ')} at step {self.state.global_step} is {logs[key]}: training "
                    "diverged. Lower training.learning_rate; the last checkpoint is kept."
                )
        if self.is_world_process_zero() and ("loss" in logs or "validation_loss" in logs):
            line = {"step": self.state.global_step, "epoch": round(self.state.epoch or 0.0, 4), **logs}
            if "grad_norm" in line:
                line["gradient_norm"] = line.pop("grad_norm")
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
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            name = f"checkpoint-{self.state.global_step}"
            checkpoints.commit(self.run.checkpoints / checkpoints.WRITING / name, self.run.checkpoints)
            best = self.best()
            checkpoints.prune(self.run.checkpoints, self.keep_last, best[0] if best else None)
        self.accelerator.wait_for_everyone()
        self.aside_seconds += time.monotonic() - started


class Watch(TrainerCallback):  # type: ignore[misc]
    """Shows progress, validates at the last step, and checks that the adapter learns at all."""

    def __init__(self) -> None:
        self.advance: Callable[[int], None] = lambda _: None
        self._checked = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        self.advance(1)
        if state.global_step >= state.max_steps and args.eval_strategy != "no":
            control.should_evaluate = True
        # Warm-up gives the first step a learning rate of 0, so the second is the first that must show.
        if state.global_step >= 2 and not self._checked:
            self._checked = True
            prove_learning(others["model"])


def prove_learning(model: Any) -> None:
    """Raise MathreasonError when a LoRA-B matrix, which starts at zero, still is: no gradient reaches it."""
    dead = [
        name
        for name, parameter in model.named_parameters()
        if "lora_B" in name and parameter.requires_grad and not parameter.detach().any()
    ]
    if dead:
        raise MathreasonError(f"no gradient reaches {len(dead)} adapter layers, such as {dead[0]}")
