"""Packing: every example once, no block too long, labels from lengths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathreason.data.packing import IGNORED, block_features, pack
from mathreason.data.prompts import Example


@given(st.lists(st.integers(1, 100), max_size=200))
def test_every_example_is_packed_once_and_no_block_is_too_long(lengths: list[int]) -> None:
    blocks = pack(lengths, 100)
    assert sorted(index for block in blocks for index in block) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in block) <= 100 for block in blocks)


def test_best_fit_fills_the_fullest_block() -> None:
    assert pack([700, 300, 900, 100], 1000) == [[2, 3], [0, 1]]


def test_too_long_example_is_refused() -> None:
    with pytest.raises(ValueError, match="example 1 has 11 tokens"):
        pack([5, 11], 10)


def test_prompt_is_ignored_and_eos_is_trained_also_when_it_is_the_padding_token() -> None:
    eos = 2
    features = block_features([Example([5, 6, 7, eos], 2), Example([8, eos, 9, eos], 3)])
    assert features["input_ids"] == [5, 6, 7, eos, 8, eos, 9, eos]
    assert features["labels"] == [IGNORED, IGNORED, 7, eos, IGNORED, IGNORED, IGNORED, eos]
    assert features["position_ids"] == [0, 1, 2, 3, 0, 1, 2, 3]
