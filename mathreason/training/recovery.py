"""Going on after memory ran out: the same optimizer step again, in smaller micro-batches.

    recovery = Recovery(job, reporter, fallbacks)
    loss = recovery.attempt(lambda: forward_and_backward(recovery.pieces(batch)), start.restore)

The data loader goes on giving the micro-batches that the job asks for; they are cut into pieces here. So
the blocks of every optimizer step, of an epoch's last, shorter one too, the schedule and the place where a
resumed run goes on are those of an undisturbed run, and only the size of one forward pass changes.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from mathreason.config import JobConfig
from mathreason.errors import MathreasonError
from mathreason.memory import is_out_of_memory
from mathreason.progress import Reporter

Batch = dict[str, torch.Tensor]
Result = TypeVar("Result")


class Recovery:
    """The micro-batch in use, which halves when memory runs out.

    Each change is said and appended to `fallbacks`. With `sharded` parameters (ZeRO-3, FSDP) the forward
    pass itself needs all ranks, so that one alone cannot go back: there memory running out ends the run.
    """

    def __init__(self, job: JobConfig, reporter: Reporter, fallbacks: list[str], sharded: bool) -> None:
        self.micro_batch = job.training.rows
        self._job = job
        self._reporter = reporter
        self._fallbacks = fallbacks
        self.sharded = sharded

    def pieces(self, batch: Batch) -> list[Batch]:
        """`batch` in rows of at most `micro_batch`, each cut to its own longest row."""
        rows = len(batch["input_ids"])
        if rows <= self.micro_batch:
            return [batch]
        return [_rows(batch, slice(at, at + self.micro_batch)) for at in range(0, rows, self.micro_batch)]

    def attempt(self, work: Callable[[], Result], rewind: Callable[[], None]) -> Result:
        """The result of `work`, done again after `rewind` for as long as memory runs out and can be saved.

        Raises MathreasonError when a micro-batch of 1 is too much.
        """
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.micro_batch == 1 or self.sharded:
                    raise MathreasonError(self._hopeless()) from error
            # Only here, after the error is gone, nothing holds the tensors of the failed attempt any more.
            self.shrink(self.micro_batch // 2)
            rewind()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def shrink(self, micro_batch: int) -> None:
        """Use `micro_batch` from now on; said when it is a change."""
        if micro_batch >= self.micro_batch:
            return
        training = self._job.training
        accumulation = training.gradient_accumulation * -(-training.rows // micro_batch)
        said = (
            f"memory ran out at micro-batch {self.micro_batch}; going on at micro-batch {micro_batch} and "
            f"gradient accumulation {accumulation}, the same global batch"
        )
        self.micro_batch = micro_batch
        self.say(said)

    def say(self, said: str) -> None:
        """Warn, and keep it for train.json."""
        self._reporter.warn(said)
        self._fallbacks.append(said)

    def restore(self, micro_batch: int) -> None:
        """Go on with the micro-batch of a checkpoint."""
        if micro_batch < self.micro_batch:
            self.micro_batch = micro_batch
            self.say(f"micro-batch {micro_batch}, at which the run went on after memory ran out")

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Raise MathreasonError for memory that runs out inside, where no smaller micro-batch would help."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            ways = [f"lower lora.r (now {self._job.lora.r})"] if self._job.training.approach == "lora" else []
            raise MathreasonError(
                "memory ran out outside the passes of a step (gradients, optimizer states, validation or a "
                f"checkpoint): {_any_of(ways + self._larger())}"
            ) from error

    def _hopeless(self) -> str:
        job = self._job
        ways = [f"lower data.max_length (now {job.data.max_length})"]
        if self.sharded and self.micro_batch > 1:
            ways.insert(0, f"lower training.micro_batch (now {self.micro_batch})")
        if not job.training.gradient_checkpointing:
            ways.append("set training.gradient_checkpointing: true")
        return f"memory ran out at micro-batch {self.micro_batch}: {_any_of(ways + self._larger())}"

    def _larger(self) -> list[str]:
        """What helps wherever memory ran out."""
        job = self._job
        smaller = job.model.quantization == "none" and job.training.approach == "lora"
        return [*(["set model.quantization: nf4"] if smaller else []), "take a device with more memory"]


def _any_of(ways: list[str]) -> str:
    return ", or ".join(ways)


def _rows(batch: Batch, part: slice) -> Batch:
    longest = int(batch["lengths"][part].max())
    return {
        name: values[part, :longest] if values.dim() > 1 else values[part] for name, values in batch.items()
    }


class StepStart:
    """What an optimizer step changes before its end, to begin it again: gradients, random states, loss."""

    def __init__(self, model: Any, running_loss: torch.Tensor) -> None:
        self._model = model
        self._in_use = running_loss
        self.running_loss = running_loss.clone()
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None

    def restore(self) -> None:
        """Back to the start of the step."""
        self._model.zero_grad(set_to_none=True)
        self._in_use.copy_(self.running_loss)
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda)
