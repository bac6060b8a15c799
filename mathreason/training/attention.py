"""Attention inside packed sequences, one causal attention a sequence and none between them.

    row of tokens   a a a a b b b c c c c c      lengths [4, 3, 5]

    with packed_attention(model):
        model(input_ids, position_ids, use_cache=False, **sequence_keywords([4, 3, 5], device))

The usual block-diagonal mask makes each token look at the whole row and throws most of it away: with ten
sequences in a row, nine tenths of the attention's arithmetic. Here each sequence is attended by itself, which
is the same result at the cost of the sequences alone. On a CPU, where a call costs little, the row is split.
On a GPU torch's own FlashAttention takes where each begins; it needs no flash-attn package. Its backward pass
is told to add up in a fixed order, or the same step would give other bits each time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from mathreason.training import causal

ATTENTION = "mathreason_packed"
LARGEST_HEAD = 256
"""Values of a head that FlashAttention 2 computes with, in multiples of 8."""


def can_attend(model: Any) -> bool:
    """Whether this module computes what the layers of `model` do, where it runs and in its dtype."""
    implementation = model.config._attn_implementation
    if model.device.type != "cuda":
        return bool(model.device.type == "cpu" and implementation == "sdpa")
    if implementation not in ("sdpa", "flash_attention_2"):
        return False
    config = model.config.get_text_config()
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return bool(
        model.dtype.itemsize == 2
        and size <= LARGEST_HEAD
        and size % 8 == 0
        and not getattr(config, "attention_dropout", 0.0)
        and torch.cuda.get_device_capability(model.device) >= (8, 0)
    )


def sequence_keywords(lengths: Sequence[int], device: torch.device) -> dict[str, Any]:
    """What the attention layers of a model on `device` need to know of a row of sequences of `lengths`."""
    if device.type != "cuda":
        return {"sequence_lengths": list(lengths)}
    starts = torch.tensor(list(accumulate(lengths, initial=0)), dtype=torch.int32)
    return {"sequence_starts": to_device(starts, device), "longest_sequence": max(lengths)}


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`, without waiting for what the device still has to do."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class Row:
    """Where the sequences of a packed row begin: `starts` [sequences + 1], int32 on the model's device."""

    starts: Tensor
    longest: int


def attend(q: Tensor, k: Tensor, v: Tensor, row: Row, scale: float) -> tuple[Tensor, Any]:
    """Causal attention of each sequence by itself, [tokens, heads, size]; and what its gradient needs.

    Keys and values may have fewer heads. On a CPU it is in plain torch, for tests.
    """
    if not q.is_cuda:
        with torch.enable_grad():
            inputs = [tensor.detach().requires_grad_() for tensor in (q, k, v)]
            query, key, value = (tensor.transpose(0, 1)[None] for tensor in inputs)
            mixed = _one_by_one(query, key, value, row.starts.diff().tolist(), scale, 0.0)
        return mixed[0].detach(), (inputs, mixed)
    mixed, sums, state, unused, _ = torch.ops.aten._flash_attention_forward(
        q, k, v, row.starts, row.starts, row.longest, row.longest, 0.0, True, False, scale=scale
    )
    return mixed, (sums, state, unused)


def attend_backward(
    slope: Tensor, q: Tensor, k: Tensor, v: Tensor, mixed: Tensor, kept: Any, row: Row, scale: float
) -> Sequence[Tensor]:
    """Gradients of q, k and v."""
    if not q.is_cuda:
        inputs, result = kept
        return cast(Sequence[Tensor], torch.autograd.grad(result, inputs, slope[None]))
    sums, state, unused = kept
    with in_a_fixed_order():
        gradients = torch.ops.aten._flash_attention_backward(
            slope, q, k, v, mixed, sums, row.starts, row.starts, row.longest, row.longest, 0.0, True,
            state, unused, scale=scale,
        )  # fmt: skip
    return cast(Sequence[Tensor], gradients)


@contextmanager
def in_a_fixed_order() -> Iterator[None]:
    """Ask torch's FlashAttention for the backward pass whose sums do not depend on chance."""
    deterministic: Any = torch.utils.deterministic
    before, fills = torch.are_deterministic_algorithms_enabled(), deterministic.fill_uninitialized_memory
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    deterministic.fill_uninitialized_memory = False
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only_warns)
        deterministic.fill_uninitialized_memory = fills


class _Attended(torch.autograd.Function):
    """`attend` for layers that autograd goes through, q, k and v [tokens, heads, size]."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, row: Row, scale: float) -> Tensor:
        mixed, (sums, state, unused) = attend(q, k, v, row, scale)
        ctx.save_for_backward(q, k, v, mixed, sums, state, unused)
        ctx.rest = row, scale
        return mixed

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Any, ...]:
        q, k, v, mixed, *kept = ctx.saved_tensors
        return (*attend_backward(slopes[0].contiguous(), q, k, v, mixed, kept, *ctx.rest), None, None)


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    sequence_lengths: Sequence[int] = (),
    sequence_starts: Tensor | None = None,
    longest_sequence: int = 0,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """What a model's attention layers call: queries [1, heads, tokens, size] to [1, tokens, heads, size]."""
    del attention_mask
    if sequence_starts is not None:
        row = Row(sequence_starts, longest_sequence)
        heads = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
        mixed = _Attended.apply(*heads, row, scaling)  # type: ignore[no-untyped-call]
        return mixed[None], None
    probability = dropout if module.training else 0.0
    return _one_by_one(query, key, value, list(sequence_lengths), scaling, probability), None


def _one_by_one(
    query: Tensor, key: Tensor, value: Tensor, lengths: list[int], scale: float, dropout: float
) -> Tensor:
    """Sequences of these lengths, [1, heads, tokens, size] to [1, tokens, heads, size]."""
    groups = query.shape[1] // key.shape[1]
    own = not dropout and causal.can_serve(query, key, value)
    if groups > 1 and not own:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    parts = zip(*(torch.split(tensor, lengths, 2) for tensor in (query, key, value)), strict=True)
    if own:
        mixed = [causal.causal_attention(queries, keys, values, scale) for queries, keys, values in parts]
        return torch.cat([part.transpose(1, 2) for part in mixed], dim=1)
    mixed = [
        functional.scaled_dot_product_attention(
            queries, keys, values, dropout_p=dropout, is_causal=True, scale=scale
        )
        for queries, keys, values in parts
    ]
    return torch.cat([part.transpose(1, 2) for part in mixed], dim=1)


@contextmanager
def packed_attention(model: Any) -> Iterator[None]:
    """Let the model's layers attend inside sequences only, by the keywords of `sequence_keywords`."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, _attention)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = base.config._attn_implementation
    base.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        base.set_attn_implementation(before)


@contextmanager
def own_attention(model: Any) -> Iterator[None]:
    """Inside of `packed_attention`, the attention it stands in for (sdpa), to generate with."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if base.config._attn_implementation != ATTENTION:
        yield
        return
    base.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        base.set_attn_implementation(ATTENTION)
