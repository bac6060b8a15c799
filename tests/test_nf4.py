"""Quantizing in pieces gives bitsandbytes' own bytes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mathreason import nf4
from mathreason.nf4 import in_pieces


def quantize(weights: torch.Tensor) -> tuple[torch.Tensor, Any]:
    import bitsandbytes.functional

    packed, state = bitsandbytes.functional.quantize_4bit(weights, quant_type="nf4", compress_statistics=True)
    return packed, state


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(96, 64), (1000, 640), (3, 128)])
def test_same_bytes_as_in_one_go(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    weights[0] = 0
    weights[1] *= 1e-4
    expected, state = quantize(weights)
    with in_pieces():
        found, other = quantize(weights)
    assert torch.equal(found, expected)
    assert torch.equal(other.absmax, state.absmax)
    assert torch.equal(other.state2.absmax, state.state2.absmax)
    assert torch.equal(other.offset, state.offset)


def test_only_a_piece_is_ever_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    plain = torch.zeros

    def noted(count: int, **options: Any) -> torch.Tensor:
        sizes.append(count)
        return plain(count, **options)

    monkeypatch.setattr(torch, "zeros", noted)
    with in_pieces():
        quantize(torch.randn(1024, 1024))
    assert max(sizes) == nf4.PIECE
    assert sum(sizes) == 1024 * 1024


def test_what_it_does_not_serve_is_left_to_bitsandbytes() -> None:
    weights = torch.randn(5, 7)
    expected, _ = quantize(weights)
    with in_pieces():
        found, _ = quantize(weights)
    assert torch.equal(found, expected)
