"""What the kernels of `kernels` are given, and what they allocate, without Triton and without a GPU.

noise = Noise.drawn([0.1, 0.0])           # what dropout drops
partition(tokens=16384, width=4096)       # tokens that one program adds up

with whole_layers(model, Shapes):         # kernels that only allocate, for planning memory
    ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mathreason.training.attention import Row

LEVELS = 1 << 16
"""Dropout's probability is rounded to a multiple of 1/65536."""
ROWS, COLUMNS = 64, 128
"""Of a large operand in one tile."""
MULTIPROCESSORS = 132
"""Of a large GPU, an H100."""
PROGRAMS = 4 * MULTIPROCESSORS
"""Blocks that keep it busy."""
ATTENTION_TILE = 128
"""Tokens by which FlashAttention 2 fills up each sequence in its sums."""


@dataclass(frozen=True)
class Noise:
    """What of x is dropped: `below` of LEVELS levels, by a hash with `seed` (31 bits)."""

    seed: int = 0
    below: int = 0

    @property
    def factor(self) -> float:
        """By which what is kept is multiplied, so that the mean stays."""
        return LEVELS / (LEVELS - self.below)


def drawn(probabilities: Sequence[float]) -> list[Noise]:
    """Fresh noise of these probabilities, from torch's generator of the CPU, which checkpoints keep."""
    seeds = torch.randint(1 << 31, (len(probabilities),)).tolist()
    return [Noise(seed, round(p * LEVELS)) for seed, p in zip(seeds, probabilities, strict=True)]


def partition(tokens: int, width: int) -> tuple[int, int]:
    """Tokens that one program of `down_gradient` adds up, whole tiles, and how many programs share them."""
    tiles = -(-width // COLUMNS)
    part = -(-tokens // max(1, PROGRAMS // tiles) // ROWS) * ROWS
    return part, -(-tokens // part)


class Shapes:
    """Stands in for the module `kernels` where tensors have no content; see there."""

    @staticmethod
    def drawn(probabilities: Sequence[float]) -> list[Noise]:
        return [Noise(0, round(p * LEVELS)) for p in probabilities]

    @staticmethod
    def drop_down(x: Tensor, down: Tensor, noise: Noise, scale: float) -> Tensor:
        del noise, scale
        return x.new_empty(len(down), len(x), down.shape[1])

    @staticmethod
    def drop_up(slope: Tensor, down: Tensor, noise: Noise, scale: float) -> Tensor:
        del noise, scale
        return slope.new_empty(slope.shape[1], down.shape[2])

    @staticmethod
    def down_gradient(slope: Tensor, x: Tensor, noise: Noise, scale: float) -> Tensor:
        del noise, scale
        (adapters, tokens, rank), width = slope.shape, x.shape[1]
        parts = partition(tokens, width)[1]
        sums = x.new_empty(parts, adapters, rank, width, dtype=torch.float32)
        return sums[0] if parts == 1 else sums.sum(dim=0)

    @staticmethod
    def unpack(packed: Tensor, state: Any, dtype: torch.dtype) -> Tensor:
        return packed.new_empty(state.shape, dtype=dtype)

    @staticmethod
    def norm(
        x: Tensor, weight: Tensor, eps: float, plus: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        del weight, eps
        total = x if plus is None else torch.empty_like(x)
        return torch.empty_like(x), total, x.new_empty(len(x), dtype=torch.float32)

    @staticmethod
    def norm_backward(slope: Tensor, *_: Any) -> Tensor:
        return slope

    @staticmethod
    def swiglu(gate: Tensor, up: Tensor) -> Tensor:
        del up
        return torch.empty_like(gate)

    @staticmethod
    def swiglu_backward(slope: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
        del slope
        return gate, up

    @staticmethod
    def rotate(x: Tensor, *_: Any) -> Tensor:
        return x

    @staticmethod
    def attend(q: Tensor, k: Tensor, v: Tensor, row: Row, scale: float) -> tuple[Tensor, Any]:
        del k, v, row, scale
        return torch.empty_like(q), q.new_empty(q.shape[1], q.shape[0], dtype=torch.float32)

    @staticmethod
    def attend_backward(
        slope: Tensor, q: Tensor, k: Tensor, v: Tensor, mixed: Tensor, kept: Any, row: Row, scale: float
    ) -> Sequence[Tensor]:
        del slope, mixed, kept, scale
        sequences = len(row.starts) - 1
        filled_up = len(q) + ATTENTION_TILE * sequences
        # For a fixed order of adding up, blocks that share a head of a sequence have sums of their own.
        parts = -(-MULTIPROCESSORS // (sequences * q.shape[1]))
        sums = q.new_empty(parts, filled_up, *q.shape[1:], dtype=torch.float32)
        # Keys' and values' gradients for each head of the queries, before those of a group are added up.
        spread = [torch.empty_like(q) for _ in range(2)] if k.shape[1] != q.shape[1] else []
        del sums, spread
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
