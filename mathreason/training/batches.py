"""Packed blocks as the trainer takes them, and the rows of a micro-batch as tensors.

dataset = Blocks(examples, pack(...), ids)        # one block an item
batch = Collator(pad_id)([dataset[0], dataset[1]])
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils.data import Dataset

from mathreason.data.packing import IGNORED, block_features
from mathreason.data.prompts import Example
from mathreason.training.forward import Batch
from mathreason.training.shares import FILLER, filler, is_filler


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
        if index >= len(self._blocks):
            return filler(self._examples[0].ids[0])
        features = block_features([self._examples[i] for i in self._blocks[index]])
        return {**features, "block": [index]}

    def ids(self, index: int) -> list[str]:
        """Ids of the problems in a block."""
        return [self._ids[i] for i in self._blocks[index]]


class Collator:
    """Rows of one micro-batch, padded on the right to the longest.

    The padding is a sequence of its own (its position ids start at 0) without labels, and there is no
    attention mask: the model derives the block-diagonal mask from the position ids only when
    `attention_mask` is None and `use_cache` is False. Fillers beside blocks are left out.
    """

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, rows: list[dict[str, list[int]]]) -> Batch:
        rows = [row for row in rows if row["block"] != [FILLER]] or rows[:1]
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


def labelled(batch: Batch) -> Batch:
    """`batch`, or a filler with labels, so that its pass goes through all layers; its loss does not count."""
    return {**batch, "labels": batch["input_ids"]} if is_filler(batch) else batch
