"""Where the time of an optimizer step goes, and which share of the machine's arithmetic it reaches.

    times = StepTimes(device)
    times.mark("data")        # the time since the last mark went into getting the batch
    times.mark("forward")     # ... and since then into the forward pass
    times.skip()              # ... and since then into something that is no training (validation)
    times.step_done()

    Arithmetic.of(model).flops(lengths, supervised, True)     # of a step, to divide by its time
    matmul_flops(device, dtype)                               # what this machine reaches at most

The first step of a start is left out: it allocates, compiles and warms up.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import nn

PHASES = ("data", "forward", "backward", "optimizer", "other")


class StepTimes:
    """Seconds of each phase, summed over the steps after the first.

    On a GPU these are seconds of the GPU between the places in its queue where the marks were set: work runs
    behind the program, and waiting for it at each mark would take longer than what is measured.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.steps = 0
        self.warm = False
        self._marks: list[tuple[str, float | torch.cuda.Event]] = [("", self._now())]

    def mark(self, phase: str) -> None:
        """Count the time since the last mark to `phase`."""
        self._marks.append((phase, self._now()))

    def skip(self) -> None:
        """Count the time since the last mark to nothing."""
        self._marks.append(("", self._now()))

    def step_done(self) -> None:
        """An optimizer step ended."""
        self.mark("other")
        self._add_up()
        if self.warm:
            self.steps += 1
        else:
            self.warm = True
            self.seconds = dict.fromkeys(PHASES, 0.0)

    def per_step(self) -> dict[str, float]:
        """Mean seconds of each phase in a step; empty before the second step ended."""
        if not self.steps:
            return {}
        return {phase: round(seconds / self.steps, 5) for phase, seconds in self.seconds.items()}

    def _add_up(self) -> None:
        if self._on_gpu:
            torch.cuda.synchronize()
        for (_, before), (phase, now) in pairwise(self._marks):
            if phase:
                self.seconds[phase] += _seconds_between(before, now)
        del self._marks[:-1]

    def _now(self) -> float | torch.cuda.Event:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


def _seconds_between(before: float | torch.cuda.Event, now: float | torch.cuda.Event) -> float:
    if isinstance(before, torch.cuda.Event) and isinstance(now, torch.cuda.Event):
        return float(before.elapsed_time(now)) / 1000  # of milliseconds
    return now - before  # type: ignore[operator]


@dataclass
class Work:
    """What the measured steps of one rank computed: tokens of each sequence, and how many have a loss."""

    lengths: list[int] = field(default_factory=list)
    supervised: int = 0

    def add(self, lengths: Sequence[int], supervised: int) -> None:
        """Count a step."""
        self.lengths += lengths
        self.supervised += supervised


@dataclass(frozen=True)
class Arithmetic:
    """Multiplications of one token: in frozen and trained layers, in a frozen head, in attention."""

    frozen: int
    trained: int
    head: int
    attention: int
    """Times the square of a sequence's length: the two products of its causal half."""
    frozen_at_loss: int = 0
    trained_at_loss: int = 0
    """Of `frozen` and `trained`, what is computed at supervised tokens only (`last_layer`)."""
    once: int = 0
    """Of both, what gradient checkpointing does not compute again (`decoder`)."""

    @classmethod
    def of(cls, model: Any, at_loss: Sequence[nn.Module] = (), once: Sequence[nn.Module] = ()) -> Arithmetic:
        """What the linear layers of a transformers model with or without an adapter multiply.

        The modules `at_loss` compute at supervised tokens only, those `once` are not recomputed.
        """
        head = model.get_output_embeddings()
        in_head = 0 if head is None or head.weight.requires_grad else head.in_features * head.out_features
        frozen, trained = _multiplications(model)
        parts = [_multiplications(module) for module in at_loss]
        config = model.config.get_text_config()
        width = config.num_attention_heads * (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        return cls(
            frozen - in_head,
            trained,
            in_head,
            config.num_hidden_layers * width,
            sum(part for part, _ in parts),
            sum(part for _, part in parts),
            sum(sum(_multiplications(module)) for module in once),
        )

    def flops(self, lengths: list[int], supervised: int, recomputed: bool) -> float:
        """Floating point operations to train on sequences of `lengths`, with a loss at `supervised` tokens.

        A multiply and add are two. A frozen layer is passed forward and backward to its input, a trained one
        also to its weight, and with gradient checkpointing (`recomputed`) every layer forward once more
        (Chowdhery et al. 2022, PaLM, arXiv 2204.02311, appendix B, adapted to frozen weights).
        """
        again = 1 if recomputed else 0
        at_loss = self.frozen_at_loss * (2 + again) + self.trained_at_loss * (3 + again)
        layers = self.frozen * (2 + again) + self.trained * (3 + again) - at_loss - self.once * again
        attention = self.attention * (3 + again) * sum(length**2 for length in lengths)
        return 2.0 * (sum(lengths) * layers + supervised * (at_loss + self.head * 2) + attention)


def _multiplications(module: nn.Module) -> tuple[int, int]:
    """Of one token in the linear layers of `module` with frozen and with trained weights."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    sizes = [(layer.in_features * layer.out_features, layer.weight.requires_grad) for layer in layers]
    return sum(size for size, train in sizes if not train), sum(size for size, train in sizes if train)


def matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Floating point operations a second of the best of five square matrix products on `device`.

    Of two, where they take longer than a second. 1024 would not do on a CPU: with matrix instructions (AMX)
    it reaches half the rate of 2048, and a step would seem to come close to a peak that is none.
    """
    size = 8192 if device.type == "cuda" else 2048
    left = torch.randn(size, size, device=device).to(dtype)
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) < 5 and sum(seconds) < 1.0):
        begun = time.perf_counter()
        left @ left
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return 2.0 * size**3 / min(seconds)


def step_account(
    arithmetic: Arithmetic,
    model: Any,
    times: StepTimes,
    work: Work,
    recomputed: bool,
) -> dict[str, Any]:
    """For train.json: where a step's time goes, and its arithmetic beside the machine's matrix product."""
    seconds = times.per_step()
    if not seconds:
        return {"measured_steps": 0}
    flops = arithmetic.flops(work.lengths, work.supervised, recomputed)
    rate = flops / times.steps / sum(seconds.values())
    possible = matmul_flops(model.device, model.dtype)
    return {
        "measured_steps": times.steps,
        "seconds": seconds,
        "flops_per_second": round(rate),
        "matmul_flops_per_second": round(possible),
        "share_of_matmul": round(rate / possible, 3),
    }
