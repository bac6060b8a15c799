"""Ranks share an epoch evenly and see each block once."""

from __future__ import annotations

from typing import Any

import pytest
from torch.utils.data import BatchSampler, RandomSampler

from mathreason.data.generator import generate
from mathreason.data.packing import IGNORED
from mathreason.data.prompts import Prompter
from mathreason.training.batches import Blocks, Collator
from mathreason.training.shares import FILLER, Filled, is_filler


@pytest.mark.parametrize(
    ("blocks", "micro_batch", "ranks"), [(7, 2, 2), (5, 2, 2), (3, 4, 2), (9, 1, 4), (8, 2, 2)]
)
def test_every_block_comes_once_and_ranks_have_as_many_micro_batches(
    blocks: int, micro_batch: int, ranks: int
) -> None:
    filled = Filled(RandomSampler(range(blocks)), micro_batch, ranks)
    batches = list(BatchSampler(filled, micro_batch, drop_last=False))
    assert len(batches) % ranks == 0
    assert {len(batch) for batch in batches} == {micro_batch}
    indices = [index for batch in batches for index in batch]
    assert len(indices) == len(filled)
    assert sorted(index for index in indices if index < blocks) == list(range(blocks))
    assert len(batches) - -(-blocks // micro_batch) < ranks  # no more fillers than needed


def test_filler_beside_a_block_is_left_out_and_alone_has_no_label(tokenizer: Any) -> None:
    from mathreason.config import PromptConfig

    prompter = Prompter(PromptConfig(), tokenizer)
    data = Blocks([prompter.encode(problem) for problem in generate("train", count=2, seed=3)], [[0], [1]])
    mixed = Collator(0)([data[1], data[2]])
    assert mixed["blocks"].tolist() == [1]
    assert not is_filler(mixed)
    alone = Collator(0)([data[2], data[3]])
    assert alone["blocks"].tolist() == [FILLER]
    assert is_filler(alone)
    assert (alone["labels"] == IGNORED).all()
