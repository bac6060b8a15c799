"""Quantizing to nf4 on a CPU in little memory: bitsandbytes' result, piece by piece.

    with in_pieces():
        model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=...)

bitsandbytes quantizes a matrix on the CPU in one go, with some twenty bytes of scratch for each value: over a
gigabyte for one of Mistral-7B's, written to memory and read again by every operation. Blocks of 64 values do
not depend on each other, so pieces that fit the processor's cache give the same bytes without that, on
several threads; and sixteen levels are few enough to compare with each, many values at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

PIECE = 3 << 13
"""Values quantized at once: few enough that torch works on them with one thread (below 32 768), since
threads that meet after every operation lose more than they gain; a multiple of two of the largest blocks."""


def quantized(weights: Any, midpoints: list[float], block: int) -> tuple[Any, Any]:
    """Two 4-bit codes to a byte, [values / 2, 1], and the largest magnitude of each block of `weights`.

    A code is the number of `midpoints` between the 16 levels that lie below value / magnitude (Dettmers et
    al. 2023, QLoRA, section 3). The number of values must be a multiple of 2 · `block`.
    """
    import torch

    flat = weights.reshape(-1)
    packed = torch.empty(flat.numel() // 2, dtype=torch.uint8)
    largest = torch.empty(flat.numel() // block)

    def work(first: int, end: int) -> None:
        for start in range(first, end, PIECE):
            values = flat[start : min(start + PIECE, end)].float().view(-1, block)
            magnitudes = values.abs().amax(dim=-1)
            scaled = (values * (1.0 / magnitudes.clamp(min=1e-38))[:, None]).clamp_(-1, 1).view(-1)
            codes = torch.zeros(scaled.numel(), dtype=torch.uint8)
            above = torch.empty(scaled.numel(), dtype=torch.bool)
            for midpoint in midpoints:
                codes += torch.gt(scaled, midpoint, out=above).view(torch.uint8)
            packed[start // 2 : (start + values.numel()) // 2] = (codes[::2] << 4) | codes[1::2]
            largest[start // block : (start + values.numel()) // block] = magnitudes

    threads = torch.get_num_threads()
    share = -(-flat.numel() // (threads * PIECE)) * PIECE
    with ThreadPoolExecutor(threads) as pool:
        firsts = range(0, flat.numel(), share)
        list(pool.map(work, firsts, (min(first + share, flat.numel()) for first in firsts)))
    return packed[:, None], largest


@contextmanager
def in_pieces() -> Iterator[None]:
    """Let bitsandbytes quantize to nf4 on the CPU as this module does."""
    import bitsandbytes.functional
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    operation = torch.ops.bitsandbytes.quantize_4bit.default
    levels = bitsandbytes.functional.get_4bit_type("nf4", device="cpu")
    midpoints = ((levels[:-1] + levels[1:]) / 2).tolist()

    class Pieces(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            del types
            if func is operation and _served(*args):
                return quantized(args[0], midpoints, args[1])
            return func(*args, **(kwargs or {}))

    with Pieces():  # type: ignore[no-untyped-call]
        yield


def _served(weights: Any, block: int, kind: str, storage: Any) -> bool:
    import torch

    whole = weights.numel() % (2 * block) == 0
    return whole and kind == "nf4" and storage == torch.uint8 and weights.device.type == "cpu"
