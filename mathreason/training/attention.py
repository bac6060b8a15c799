"""Attention inside packed sequences, one causal attention a sequence and none between them.

    row of tokens   a a a a b b b c c c c c      lengths [4, 3, 5]

    with packed_attention(model):
        model(input_ids, position_ids, use_cache=False, sequence_lengths=[4, 3, 5])

The usual block-diagonal mask makes each token look at the whole row and throws most of it away: with ten
sequences in a row, nine tenths of the attention's arithmetic. Here the row is split and each sequence
attended by itself, which is the same result at the cost of the sequences alone. Meant for the CPU, where a
call costs little; a GPU has kernels that take the lengths themselves (FlashAttention's varlen).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

ATTENTION = "mathreason_packed"


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    sequence_lengths: Sequence[int],
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """What a model's attention layers call: queries [1, heads, tokens, size] to [1, tokens, heads, size]."""
    del attention_mask
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    lengths = list(sequence_lengths)
    parts = zip(*(torch.split(tensor, lengths, 2) for tensor in (query, key, value)), strict=True)
    probability = dropout if module.training else 0.0
    mixed = [
        functional.scaled_dot_product_attention(
            queries, keys, values, dropout_p=probability, is_causal=True, scale=scaling
        )
        for queries, keys, values in parts
    ]
    return torch.cat([part.transpose(1, 2) for part in mixed], dim=1), None


@contextmanager
def packed_attention(model: Any) -> Iterator[None]:
    """Let the model's layers attend inside sequences only, by the keyword `sequence_lengths`."""
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
