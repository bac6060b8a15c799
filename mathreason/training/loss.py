"""Cross-entropy of the supervised tokens alone, without ever holding all their logits.

    loss = linear_cross_entropy(hidden, head.weight, targets)      # summed, in nats

The logits of 500 tokens over a vocabulary of 32 000 are 64 MB in float32, and the usual path holds several
such tensors until the backward pass. Here a chunk of positions is multiplied with the head, its loss and
its gradient with respect to the hidden states are computed at once, and its logits are gone (Wijmans et
al. 2025, Cut Cross-Entropy, arXiv 2411.09009; Hsu et al. 2024, Liger Kernel, arXiv 2410.10989). It is for a
frozen head, which is what an adapter leaves; there the arithmetic is the same as without it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 256
"""Positions whose logits exist at once."""


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        gradient = torch.empty_like(hidden)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(targets), CHUNK):
            part = slice(start, start + CHUNK)
            logits = (hidden[part] @ weight.t()).float()
            wanted = targets[part, None]
            logarithms = torch.log_softmax(logits, dim=-1)
            total -= logarithms.gather(-1, wanted).sum()
            slope = logarithms.exp_()
            slope.scatter_add_(-1, wanted, slope.new_full(wanted.shape, -1.0))
            gradient[part] = slope.to(hidden.dtype) @ weight
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * slopes[0].to(gradient.dtype), None, None


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy in nats of `hidden` [tokens, width] times a frozen head [vocabulary, width].

    `targets` [tokens] holds no ignored positions. The head gets no gradient.
    """
    total: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
    return total


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy in nats of `logits` [tokens, vocabulary], for a head that is trained."""
    return functional.cross_entropy(logits.float(), targets, reduction="sum")
