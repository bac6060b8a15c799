"""Attention over a prefix that all prompts share and a slot of memory for each response under way.

    prompt 1   Q: … A: … Q: … A: … | Q: Tom has 5 …  A: He      one row of the batch: slot 0
    prompt 2   (the same tokens)   | Q: A train …    A: 60 km   slot 1
               prefix, held once     own tokens, held in the slot

    prefix = compute_prefix(model, ids)                 # once for all prompts
    slots = Slots(model, prefix, rows=16, capacity=640)
    with slot_attention(model):
        logits = slots.fill([3], [[4, 8, 15]])          # read a prompt's own tokens into slot 3
        logits = slots.step(tokens)                     # one more token for every slot

Each step multiplies the queries of all rows with the prefix's keys in one matrix product, so the prefix is
read from memory once a step and not once a row (Juravsky et al. 2024, Hydragen, arXiv 2402.05099); one
softmax over both parts keeps it exact. The batch has the same shape in every step and a prompt is read by
itself, so that a response does not depend on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ATTENTION = "mathreason_slots"
LENGTH_STEP = 64
"""Slots are looked at in whole multiples of this many tokens."""


@dataclass(frozen=True)
class Prefix:
    """Keys and values of the shared tokens, one (key-value heads, tokens, head size) tensor a layer."""

    length: int
    keys: list[Tensor]
    values: list[Tensor]


class _Reading:
    """Stands in for a transformers cache while prompts of equal start are read: rows × new tokens."""

    def __init__(self, prefix: Prefix | None, rows: int, new: int, device: torch.device) -> None:
        self._prefix = prefix
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self._mask = None
        if prefix is not None and prefix.length:
            past = torch.ones(new, prefix.length, dtype=torch.bool, device=device)
            self._mask = torch.cat(
                [past, torch.ones(new, new, dtype=torch.bool, device=device).tril()], dim=1
            )
        self._rows = rows

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.keys.append(keys)
        self.values.append(values)
        if self._prefix is None or not self._prefix.length:
            return keys, values
        before = self._prefix.keys[layer], self._prefix.values[layer]
        joined = [
            torch.cat([part.expand(self._rows, *part.shape), new], dim=2)
            for part, new in zip(before, (keys, values), strict=True)
        ]
        return joined[0], joined[1]

    def get_seq_length(self, *_: Any) -> int:
        return self._prefix.length if self._prefix is not None else 0

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
        """Causal attention of (rows, heads, new, size) queries; later tokens only see earlier ones."""
        del layer
        groups = query.shape[1] // keys.shape[1]
        if groups > 1:
            keys, values = keys.repeat_interleave(groups, dim=1), values.repeat_interleave(groups, dim=1)
        return torch.nn.functional.scaled_dot_product_attention(
            query, keys, values, attn_mask=self._mask, is_causal=self._mask is None, scale=scaling
        )


class Slots:
    """The memory of `rows` responses, `capacity` tokens each beside the shared prefix."""

    def __init__(self, model: Any, prefix: Prefix, rows: int, capacity: int) -> None:
        self._model = model
        self._prefix = prefix
        self._capacity = capacity
        self.lengths = torch.zeros(rows, dtype=torch.long)
        self._device = model.device
        shapes = [(rows, keys.shape[0], capacity, keys.shape[2]) for keys in prefix.keys]
        self._keys = [keys.new_zeros(shape) for keys, shape in zip(prefix.keys, shapes, strict=True)]
        self._values = [
            values.new_zeros((*shape[:3], values.shape[2]))
            for values, shape in zip(prefix.values, shapes, strict=True)
        ]
        self._all = torch.arange(rows, device=self._device)
        self._at: Tensor = self.lengths
        self._seen = 0
        self._mask: Tensor = self.lengths

    @property
    def rows(self) -> int:
        return len(self.lengths)

    @property
    def shared(self) -> int:
        """Tokens of the shared prefix."""
        return self._prefix.length

    def fill(self, rows: Sequence[int], prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read the own tokens of `prompts` into the slots `rows`; logits (rows, vocabulary) after each.

        Shorter prompts are padded at their end, where causal attention keeps the padding from being seen.
        """
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts])
        last = torch.tensor([len(prompt) - 1 for prompt in prompts])
        kept, places = torch.unique(last, return_inverse=True)
        reading = _Reading(self._prefix, len(prompts), longest, self._device)
        logits = _forward(self._model, ids, self._prefix.length + torch.arange(longest)[None], reading, kept)
        for layer, (keys, values) in enumerate(zip(reading.keys, reading.values, strict=True)):
            self._keys[layer][list(rows), :, :longest] = keys
            self._values[layer][list(rows), :, :longest] = values
        for row, prompt in zip(rows, prompts, strict=True):
            self.lengths[row] = len(prompt)
        return logits[torch.arange(len(prompts)), places]

    def free(self, row: int) -> None:
        """Make slot `row` idle; it stays in the batch, so that the batch keeps its shape."""
        self.lengths[row] = 0

    def step(self, tokens: Tensor) -> Tensor:
        """Append `tokens` (rows,), one to a slot; logits (rows, vocabulary), meaningless for idle slots."""
        longest = int(self.lengths.max()) + 1
        self._seen = min(self._capacity, -(-longest // LENGTH_STEP) * LENGTH_STEP)
        self._at = self.lengths.to(self._device)
        seen = torch.arange(self._seen, device=self._device)[None] <= self._at[:, None]
        dtype = self._keys[0].dtype
        self._mask = torch.zeros(seen.shape, dtype=dtype, device=self._device).masked_fill(~seen, -torch.inf)
        self._mask = self._mask[:, None, None]
        positions = (self._prefix.length + self.lengths)[:, None]
        logits = _forward(self._model, tokens[:, None], positions, self, 1)
        self.lengths += self.lengths > 0
        return logits[:, -1]

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Called by the model's attention with the new token's keys and values."""
        self._keys[layer][self._all, :, self._at] = keys[:, :, 0]
        self._values[layer][self._all, :, self._at] = values[:, :, 0]
        return self._keys[layer][:, :, : self._seen], self._values[layer][:, :, : self._seen]

    def get_seq_length(self, *_: Any) -> int:
        return self._prefix.length + self._seen

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
        """Attention of one query a row, (rows, heads, 1, size), to the prefix and to its own slot."""
        rows, heads, _, size = query.shape
        kv_heads, shared = keys.shape[1], self._prefix.length
        groups = heads // kv_heads
        queries = query.view(rows, kv_heads, groups, size)
        own = torch.matmul(queries, keys.transpose(-1, -2)) * scaling + self._mask
        if not shared:
            weights = torch.softmax(own, dim=-1, dtype=torch.float32).to(query.dtype)
            return torch.matmul(weights, values).view(rows, heads, 1, -1)
        together = queries.transpose(0, 1).reshape(kv_heads, rows * groups, size)
        of_prefix = torch.matmul(together, self._prefix.keys[layer].transpose(-1, -2)) * scaling
        of_prefix = of_prefix.view(kv_heads, rows, groups, shared).transpose(0, 1)
        weights = torch.softmax(torch.cat([of_prefix, own], dim=-1), dim=-1, dtype=torch.float32)
        weights = weights.to(query.dtype)
        to_prefix = weights[..., :shared].transpose(0, 1).reshape(kv_heads, rows * groups, shared)
        from_prefix = torch.matmul(to_prefix, self._prefix.values[layer])
        from_prefix = from_prefix.view(kv_heads, rows, groups, -1).transpose(0, 1)
        mixed = torch.matmul(weights[..., shared:], values) + from_prefix
        return mixed.reshape(rows, heads, 1, -1)


def compute_prefix(model: Any, ids: Sequence[int]) -> Prefix:
    """Keys and values of the tokens that all prompts begin with; without tokens, empty ones."""
    reading = _Reading(None, 1, max(1, len(ids)), model.device)
    tokens = torch.tensor([list(ids) or [0]])
    _forward(model, tokens, torch.arange(tokens.shape[1])[None], reading, 1)
    keys = [part[0, :, : len(ids)].contiguous() for part in reading.keys]
    values = [part[0, :, : len(ids)].contiguous() for part in reading.values]
    return Prefix(len(ids), keys, values)


def bytes_per_token(prefix: Prefix) -> int:
    """Memory of one token's keys and values over all layers."""
    return sum(part.shape[0] * part.shape[2] * part.element_size() for part in (*prefix.keys, *prefix.values))


def _forward(model: Any, ids: Tensor, positions: Tensor, memory: Any, keep: Any) -> Tensor:
    if isinstance(keep, Tensor):
        keep = keep.to(model.device)
    output = model(
        input_ids=ids.to(model.device),
        position_ids=positions.expand_as(ids).to(model.device),
        past_key_values=memory,
        use_cache=True,
        logits_to_keep=keep,
        slot_memory=memory,
    )
    logits: Tensor = output.logits
    return logits


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    slot_memory: _Reading | Slots,
    **_: Any,
) -> tuple[Tensor, None]:
    """What a model's attention layers call under `slot_attention`; masks are `slot_memory`'s own affair."""
    del attention_mask
    mixed = slot_memory.attend(module.layer_idx, query, key, value, scaling)
    return mixed.transpose(1, 2).contiguous(), None


@contextmanager
def slot_attention(model: Any) -> Iterator[None]:
    """Let the model's attention layers work on `Slots`; afterwards they are as before."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, _attention)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = base.config._attn_implementation
    base.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        base.set_attn_implementation(before)
