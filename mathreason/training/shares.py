"""Equal shares of an epoch for ranks, without giving a block twice.

accelerate deals the micro-batches of an epoch to the ranks in turn, and where they do not come out even it
begins the epoch again to fill up: these blocks would be trained on twice, and the loss would not be that of
a single process. `Filled` fills up with fillers instead, which hold no label:

    blocks 7, micro-batch 2, 2 ranks       rank 0: [a b] [e f]      rank 1: [c d] [g -]
    blocks 5, micro-batch 2, 2 ranks       rank 0: [a b] [e -]      rank 1: [c d] [- -]

A filler beside blocks is dropped; one alone goes through the model, since with DeepSpeed and FSDP every pass
is the work of all ranks, and adds nothing to loss and gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Sampler

from mathreason.data.packing import IGNORED

FILLER = -1
"""Number of a block that is none."""


def filler(token: int) -> dict[str, list[int]]:
    """Features of a row that trains nothing."""
    return {"input_ids": [token] * 2, "labels": [IGNORED] * 2, "position_ids": [0, 1], "block": [FILLER]}


def is_filler(batch: dict[str, Any]) -> bool:
    """Whether a micro-batch holds nothing to train on."""
    return int(batch["blocks"][0]) == FILLER


class Filled(Sampler[int]):
    """The indices of `sampler`, then as many past them as even out `ranks` shares of whole micro-batches."""

    def __init__(self, sampler: Any, micro_batch: int, ranks: int) -> None:
        self._sampler: Any = sampler
        self._unit = micro_batch * ranks

    def __len__(self) -> int:
        return -(-len(self._sampler) // self._unit) * self._unit

    def __iter__(self) -> Iterator[int]:
        yield from self._sampler
        yield from range(len(self._sampler), len(self))

    def set_epoch(self, epoch: int) -> None:
        """Shuffle as for `epoch`."""
        self._sampler.set_epoch(epoch)


def fill_up(loader: DataLoader[Any], micro_batch: int, ranks: int) -> None:
    """Let the micro-batches that accelerate deals out of `loader` come out even."""
    dealt: Any = loader.batch_sampler  # accelerate's BatchSamplerShard around torch's BatchSampler
    whole = dealt.batch_sampler
    sampler = whole.sampler
    whole.sampler = Filled(sampler, micro_batch, ranks)
