"""Causal attention in 16 bit on a CPU, with a backward pass of batched matrix products.

    causal_attention(q, k, v, scale)      # [1, heads, tokens, size]; k and v may have fewer heads

torch's own backward pass multiplies blocks of 64 keys for each head, thousands of products too small for a
processor with matrix instructions. Here all heads of a block of queries are multiplied at once: weights and
the softmax's gradient in float32 as there, the three products that lead to q, k and v in 16 bit (Dao et al.
2022, FlashAttention, arXiv 2205.14135, algorithm 4). The forward pass is torch's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BLOCK = 64
"""Queries of a block: their weights for 32 heads and 300 keys take 2.4 MB, which caches hold."""


def can_serve(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether `causal_attention` is for these: 32-bit products are as fast in torch's own backward pass."""
    return q.device.type == "cpu" and q.dtype.itemsize == 2 and q.shape[-1] == k.shape[-1] == v.shape[-1]


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Each token attends to itself and to those before it: [1, heads, tokens, size], as q."""
    mixed: Tensor = _Causal.apply(q, k, v, scale)  # type: ignore[no-untyped-call]
    return mixed


class _Causal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        groups = q.shape[1] // k.shape[1]
        mixed, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1), 0.0, True, scale=scale
        )
        ctx.save_for_backward(q, k, v, mixed, sums)
        ctx.scale = scale
        return mixed  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mixed, sums = (tensor[0] for tensor in ctx.saved_tensors)
        slope = slopes[0][0]
        heads, tokens, size = q.shape
        grouped = (k.shape[0], heads // k.shape[0])
        # The sum over a row of weight times gradient; sums: logarithm of a row's summed exponentials.
        means = (slope.float() * mixed).sum(-1, keepdim=True)
        wide_keys, wide_values = k.float().transpose(1, 2), v.float().transpose(1, 2)
        for_q = torch.empty_like(q)
        for_k, for_v = torch.zeros_like(k, dtype=torch.float32), torch.zeros_like(v, dtype=torch.float32)
        for start in range(0, tokens, BLOCK):
            end = min(start + BLOCK, tokens)
            rows = slice(start, end)
            # All query heads that share a key head are rows of one product.
            queries, slopes_here = (x[:, rows].reshape(k.shape[0], -1, size) for x in (q, slope))
            block = (*grouped, end - start, end)
            scores = (queries.float() @ wide_keys[..., :end]).mul_(ctx.scale).view(block)
            weights = scores.sub_(sums[:, rows].reshape(*grouped, -1, 1)).exp_().tril_(start)
            parts = (slopes_here.float() @ wide_values[..., :end]).view(block)
            parts = parts.sub_(means[:, rows].reshape(*grouped, -1, 1)).mul_(weights).mul_(ctx.scale)
            narrow = parts.to(q.dtype).flatten(1, 2)
            for_q[:, rows] = (narrow @ k[:, :end]).view(heads, -1, size)
            for_k[:, :end] += narrow.transpose(1, 2) @ queries
            for_v[:, :end] += weights.to(q.dtype).flatten(1, 2).transpose(1, 2) @ slopes_here
        return for_q[None], for_k.to(k.dtype)[None], for_v.to(v.dtype)[None], None
