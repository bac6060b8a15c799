"""Packing: examples of different length into blocks of at most `max_length` tokens, with little waste.

    lengths  700 300 900 100   (max_length 1000)
    blocks   [900 100] [700 300]

Best-fit decreasing: longest example first, each into the fullest block it still fits. Inside a block the
position ids start again at 0 for each example, which is how the model keeps them apart.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

from mathreason.data.prompts import Example

IGNORED = -100  # label of a token without loss, torch's default ignore_index


def pack(lengths: Sequence[int], max_length: int) -> list[list[int]]:
    """Blocks of example indices whose lengths sum to at most `max_length`; deterministic.

    Raises ValueError when a length is above `max_length`.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    blocks: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (tokens left, block), sorted
    for index in order:
        if lengths[index] > max_length:
            raise ValueError(
                f"example {index} has {lengths[index]} tokens, more than max_length {max_length}"
            )
        position = bisect_left(free, (lengths[index], -1))
        if position == len(free):
            blocks.append([index])
            left, block = max_length - lengths[index], len(blocks) - 1
        else:
            left, block = free.pop(position)
            blocks[block].append(index)
            left -= lengths[index]
        insort(free, (left, block))
    return blocks


def block_features(examples: Sequence[Example]) -> dict[str, list[int]]:
    """One block's `input_ids`, `labels` and `position_ids`, each a list of its total length.

    Labels are built from lengths, never from token values: the prompt is ignored, the completion and its
    EOS are trained, also when the padding token is the EOS token.
    """
    input_ids: list[int] = []
    labels: list[int] = []
    position_ids: list[int] = []
    for example in examples:
        input_ids += example.ids
        labels += [IGNORED] * example.prompt_tokens + example.ids[example.prompt_tokens :]
        position_ids += range(len(example.ids))
    return {"input_ids": input_ids, "labels": labels, "position_ids": position_ids}
