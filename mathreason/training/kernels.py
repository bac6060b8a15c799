"""GPU kernels for what lies between the matrix products of a decoder layer, in Triton.

    low = drop_down(x, A, noise, s)                       LoRA's s drop(x) Aᵀ, of up to three adapters of x
    weight = unpack(packed, state, dtype)                 4-bit weights
    normed  = norm(x, weight, eps)                        RMSNorm
    m       = swiglu(gate, up)
    rotate(q, heads, cos, sin)                            rotary embedding, in place

Written out in torch each of these reads and writes its tensors several times, which on a GPU takes as long as
the matrix products between them. Dropout's noise is never written to memory: whether a value is kept is a
function of a seed, its row and its column (`kept`), worked out where it is needed, forward and backward.
Intermediate values are rounded to the tensors' dtype where transformers' own layers round them. Sums are
added up in an order that depends on shapes alone, so the same call gives the same bits.

Needs a GPU, or TRITON_INTERPRET=1, with which Triton runs on a CPU, slowly, for tests.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from mathreason.training.attention import attend, attend_backward
from mathreason.training.kernel_plan import COLUMNS, ROWS, Noise, drawn, partition

__all__ = [
    "attend", "attend_backward", "down_gradient", "drawn", "drop_down", "drop_up", "kept", "norm",
    "norm_backward", "rotate", "swiglu", "swiglu_backward", "unpack",
]  # fmt: skip

SMALLEST_RANK = 16
"""Of a tensor core's matrix product; smaller ranks are filled up with zeros."""
ELEMENTS = 1024
"""Of one block in elementwise kernels."""


# -- LoRA ------------------------------------------------------------------------------------------


@triton.jit
def _mixed(x):  # type: ignore[no-untyped-def]
    """A bijection of 32 bits in which every bit of x moves half of the others (MurmurHash3's fmix32)."""
    x ^= x >> 16
    x *= 0x85EBCA6B
    x ^= x >> 13
    x *= 0xC2B2AE35
    return x ^ (x >> 16)


@triton.jit
def _kept(seed, rows, columns, below):  # type: ignore[no-untyped-def]
    """Whether the value at each of `rows` [R] and `columns` [C] is kept, [R, C]."""
    key = _mixed(rows.to(tl.uint32) ^ _mixed(seed.to(tl.uint32)))
    other = _mixed(key + 0x9E3779B9)
    x = key[:, None] ^ (columns.to(tl.uint32) * 0x9E3779B1)[None, :]
    x ^= x >> 16
    x *= 0x85EBCA6B
    x ^= other[:, None]  # or rows whose keys lie close would have the same noise, shifted
    x ^= x >> 13
    x *= 0xC2B2AE35
    return ((x ^ (x >> 16)) >> 16) >= below.to(tl.uint32)


def kept(shape: tuple[int, int], noise: Noise) -> Tensor:
    """The same decisions in plain torch, boolean [rows, columns] on the CPU; what the kernels are held to."""

    def mixed(x: Tensor) -> Tensor:
        x = x ^ x >> 16
        x = x * 0x85EBCA6B & 0xFFFFFFFF
        x = x ^ x >> 13
        x = x * 0xC2B2AE35 & 0xFFFFFFFF
        return x ^ x >> 16

    rows, columns = torch.arange(shape[0]), torch.arange(shape[1])
    key = mixed(rows ^ mixed(torch.tensor(noise.seed)))
    other = mixed(key + 0x9E3779B9 & 0xFFFFFFFF)
    x = key[:, None] ^ (columns * 0x9E3779B1 & 0xFFFFFFFF)[None]
    x = x ^ x >> 16
    x = x * 0x85EBCA6B & 0xFFFFFFFF
    x = x ^ other[:, None]
    x = x ^ x >> 13
    x = x * 0xC2B2AE35 & 0xFFFFFFFF
    return (x ^ x >> 16) >> 16 >= noise.below


@triton.jit(do_not_specialize=["seed", "below", "tokens"])  # type: ignore[untyped-decorator]
def _drop_down(  # type: ignore[no-untyped-def]
    x, down, low, scale, tokens, width, rank, seed, below,
    adapters: tl.constexpr, drops: tl.constexpr, padded_rank: tl.constexpr, block_rows: tl.constexpr,
    block_columns: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    ranks = tl.arange(0, padded_rank)
    first = tl.zeros((block_rows, padded_rank), dtype=tl.float32)
    second, third = first, first
    for start in range(0, width, block_columns):
        columns = start + tl.arange(0, block_columns)
        inside = (rows[:, None] < tokens) & (columns[None, :] < width)
        values = tl.load(x + rows[:, None].to(tl.int64) * width + columns[None, :], mask=inside, other=0.0)
        places = down + ranks[None, :] * width + columns[:, None]
        there = (ranks[None, :] < rank) & (columns[:, None] < width)
        first = _with_dropped(values, places, there, first, seed, rows, columns, below, drops)
        if adapters > 1:
            places += rank * width
            second = _with_dropped(values, places, there, second, seed + 1, rows, columns, below, drops)
        if adapters > 2:
            places += rank * width
            third = _with_dropped(values, places, there, third, seed + 2, rows, columns, below, drops)
    there = (rows[:, None] < tokens) & (ranks[None, :] < rank)
    places = low + rows[:, None].to(tl.int64) * rank + ranks[None, :]
    tl.store(places, (first * scale).to(low.dtype.element_ty), mask=there)
    if adapters > 1:
        places += tokens.to(tl.int64) * rank
        tl.store(places, (second * scale).to(low.dtype.element_ty), mask=there)
    if adapters > 2:
        places += tokens.to(tl.int64) * rank
        tl.store(places, (third * scale).to(low.dtype.element_ty), mask=there)


@triton.jit  # type: ignore[untyped-decorator]
def _with_dropped(values, places, there, total, seed, rows, columns, below, drops: tl.constexpr):  # type: ignore[no-untyped-def]
    """total + drop(values) times what lies at `places`."""
    if drops:
        values = tl.where(_kept(seed, rows, columns, below), values, 0.0)
    weights = tl.load(places, mask=there, other=0.0)
    return tl.dot(values.to(weights.dtype), weights, total, input_precision="ieee")


@triton.jit(do_not_specialize=["seed", "below", "tokens"])  # type: ignore[untyped-decorator]
def _drop_up(  # type: ignore[no-untyped-def]
    slope, down, out, scale, tokens, width, rank, seed, below,
    adapters: tl.constexpr, drops: tl.constexpr, padded_rank: tl.constexpr, block_rows: tl.constexpr,
    block_columns: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    columns = tl.program_id(1) * block_columns + tl.arange(0, block_columns)
    ranks = tl.arange(0, padded_rank)
    total = tl.zeros((block_rows, block_columns), dtype=tl.float32)
    for adapter in tl.static_range(adapters):
        slopes = tl.load(
            slope + (adapter * tokens + rows[:, None]).to(tl.int64) * rank + ranks[None, :],
            mask=(rows[:, None] < tokens) & (ranks[None, :] < rank),
            other=0.0,
        )
        weights = tl.load(
            down + (adapter * rank + ranks[:, None]) * width + columns[None, :],
            mask=(ranks[:, None] < rank) & (columns[None, :] < width),
            other=0.0,
        )
        values = tl.dot(slopes, weights, input_precision="ieee")
        if drops:
            values = tl.where(_kept(seed + adapter, rows, columns, below), values, 0.0)
        total += values
    tl.store(
        out + rows[:, None].to(tl.int64) * width + columns[None, :],
        (total * scale).to(out.dtype.element_ty),
        mask=(rows[:, None] < tokens) & (columns[None, :] < width),
    )


@triton.jit(do_not_specialize=["seed", "below", "tokens", "part"])  # type: ignore[untyped-decorator]
def _down_gradient(  # type: ignore[no-untyped-def]
    slope, x, out, scale, tokens, width, rank, part, seed, below,
    adapters: tl.constexpr, drops: tl.constexpr, padded_rank: tl.constexpr, block_rows: tl.constexpr,
    block_columns: tl.constexpr,
):  # fmt: skip
    columns = tl.program_id(0) * block_columns + tl.arange(0, block_columns)
    ranks = tl.arange(0, padded_rank)
    begin = tl.program_id(1) * part
    first = tl.zeros((padded_rank, block_columns), dtype=tl.float32)
    second, third = first, first
    for start in range(0, part, block_rows):
        rows = begin + start + tl.arange(0, block_rows)
        inside = (rows[:, None] < tokens) & (columns[None, :] < width)
        values = tl.load(x + rows[:, None].to(tl.int64) * width + columns[None, :], mask=inside, other=0.0)
        places = slope + rows[None, :].to(tl.int64) * rank + ranks[:, None]
        there = (rows[None, :] < tokens) & (ranks[:, None] < rank)
        first = _onto_dropped(values, places, there, first, seed, rows, columns, below, drops)
        if adapters > 1:
            places += tokens.to(tl.int64) * rank
            second = _onto_dropped(values, places, there, second, seed + 1, rows, columns, below, drops)
        if adapters > 2:
            places += tokens.to(tl.int64) * rank
            third = _onto_dropped(values, places, there, third, seed + 2, rows, columns, below, drops)
    there = (ranks[:, None] < rank) & (columns[None, :] < width)
    places = out + (tl.program_id(1) * adapters * rank + ranks[:, None]) * width + columns[None, :]
    tl.store(places, first * scale, mask=there)
    if adapters > 1:
        tl.store(places + rank * width, second * scale, mask=there)
    if adapters > 2:
        tl.store(places + 2 * rank * width, third * scale, mask=there)


@triton.jit  # type: ignore[untyped-decorator]
def _onto_dropped(values, places, there, total, seed, rows, columns, below, drops: tl.constexpr):  # type: ignore[no-untyped-def]
    """total + what lies at `places` times drop(values)."""
    if drops:
        values = tl.where(_kept(seed, rows, columns, below), values, 0.0)
    slopes = tl.load(places, mask=there, other=0.0)
    return tl.dot(slopes, values.to(slopes.dtype), total, input_precision="ieee")


def drop_down(x: Tensor, down: Tensor, noise: Noise, scale: float) -> Tensor:
    """scale · drop(x) Aᵀ [adapters, tokens, rank] of x [tokens, in] and up to three A [adapters, rank, in].

    Each adapter has noise of its own: adapter i that of the seed plus i.
    """
    (tokens, width), (adapters, rank) = x.shape, down.shape[:2]
    low = x.new_empty(adapters, tokens, rank)
    _drop_down[(triton.cdiv(tokens, ROWS),)](
        x, down, low, scale * noise.factor, tokens, width, rank, noise.seed, noise.below,
        **_tile(adapters, rank, noise),
    )  # fmt: skip
    return low


def drop_up(slope: Tensor, down: Tensor, noise: Noise, scale: float) -> Tensor:
    """scale · Σ drop(slope A) [tokens, in] of slope [adapters, tokens, rank] and A [adapters, rank, in]."""
    (adapters, tokens, rank), width = slope.shape, down.shape[2]
    out = slope.new_empty(tokens, width)
    _drop_up[(triton.cdiv(tokens, ROWS), triton.cdiv(width, COLUMNS))](
        slope, down, out, scale * noise.factor, tokens, width, rank, noise.seed, noise.below,
        **_tile(adapters, rank, noise),
    )  # fmt: skip
    return out


def down_gradient(slope: Tensor, x: Tensor, noise: Noise, scale: float) -> Tensor:
    """scale · slopeᵀ drop(x) [adapters, rank, in] in float32.

    Of slope [adapters, tokens, rank] and x [tokens, in].
    """
    (tokens, width), (adapters, _, rank) = x.shape, slope.shape
    # Tokens are shared out over programs, whose sums are then added in a fixed order.
    part, parts = partition(tokens, width)
    sums = torch.empty(parts, adapters, rank, width, dtype=torch.float32, device=x.device)
    _down_gradient[(triton.cdiv(width, COLUMNS), parts)](
        slope, x, sums, scale * noise.factor, tokens, width, rank, part, noise.seed, noise.below,
        **_tile(adapters, rank, noise),
    )  # fmt: skip
    return sums[0] if parts == 1 else sums.sum(dim=0)


def _tile(adapters: int, rank: int, noise: Noise) -> dict[str, Any]:
    return {
        "adapters": adapters,
        "drops": noise.below > 0,
        "padded_rank": max(SMALLEST_RANK, triton.next_power_of_2(rank)),
        "block_rows": ROWS,
        "block_columns": COLUMNS,
    }


# -- 4-bit weights ---------------------------------------------------------------------------------


@triton.jit  # type: ignore[untyped-decorator]
def _unpack(  # type: ignore[no-untyped-def]
    packed, levels, scales, scale_levels, outer, offset, out, count,
    size: tl.constexpr, outer_size: tl.constexpr, nested: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    pairs = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = 2 * pairs < count
    codes = tl.load(packed + pairs, mask=inside, other=0).to(tl.int32)
    blocks = 2 * pairs // size  # both values of a byte lie in one block
    if nested:
        inner = tl.load(scales + blocks, mask=inside, other=0).to(tl.int32)
        factors = tl.load(scale_levels + inner) * tl.load(
            outer + blocks // outer_size, mask=inside, other=0.0
        )
        factors += tl.load(offset)
    else:
        factors = tl.load(scales + blocks, mask=inside, other=0.0)
    high = tl.load(levels + (codes >> 4)) * factors
    low = tl.load(levels + (codes & 15)) * factors
    tl.store(out + 2 * pairs, high.to(out.dtype.element_ty), mask=inside)
    tl.store(out + 2 * pairs + 1, low.to(out.dtype.element_ty), mask=inside & (2 * pairs + 1 < count))


def unpack(packed: Tensor, state: Any, dtype: torch.dtype) -> Tensor:
    """The weights [out, in] of a bitsandbytes 4-bit tensor with its quantization state, in `dtype`.

    What bitsandbytes' own function gives, in one kernel instead of three.
    """
    out = torch.empty(state.shape, dtype=dtype, device=packed.device)
    nested = state.nested
    inner = state.state2 if nested else state
    _unpack[(triton.cdiv(triton.cdiv(out.numel(), 2), ELEMENTS),)](
        packed, state.code, state.absmax, inner.code, inner.absmax, state.offset if nested else state.absmax,
        out, out.numel(), size=state.blocksize, outer_size=inner.blocksize, nested=nested, block=ELEMENTS,
    )  # fmt: skip
    return out


# -- norm, activation, rotation --------------------------------------------------------------------


@triton.jit  # type: ignore[untyped-decorator]
def _norm(x, plus, total, weight, out, rates, eps, width, adds: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)
    inside = columns < width
    values = tl.load(x + row * width + columns, mask=inside, other=0.0)
    if adds:
        added = values.to(tl.float32) + tl.load(plus + row * width + columns, mask=inside, other=0.0).to(
            tl.float32
        )
        values = added.to(total.dtype.element_ty)
        tl.store(total + row * width + columns, values, mask=inside)
    wide = values.to(tl.float32)
    rate = 1.0 / tl.sqrt(tl.sum(wide * wide) / width + eps)
    tl.store(rates + row, rate)
    normed = (wide * rate).to(out.dtype.element_ty).to(tl.float32)
    scaled = normed * tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + columns, scaled.to(out.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _norm_backward(slope, x, weight, rates, plus, out, width, block: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)
    inside = columns < width
    rate = tl.load(rates + row)
    normed = tl.load(x + row * width + columns, mask=inside, other=0.0).to(tl.float32) * rate
    slopes = tl.load(slope + row * width + columns, mask=inside, other=0.0).to(tl.float32)
    slopes *= tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    result = rate * (slopes - normed * (tl.sum(slopes * normed) / width))
    result += tl.load(plus + row * width + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + columns, result.to(out.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _swiglu(gate, up, out, count, block: tl.constexpr):  # type: ignore[no-untyped-def]
    places = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = places < count
    gates = tl.load(gate + places, mask=inside, other=0.0).to(tl.float32)
    active = (gates * tl.sigmoid(gates)).to(out.dtype.element_ty).to(tl.float32)
    ups = tl.load(up + places, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + places, (active * ups).to(out.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _swiglu_backward(slope, gate, up, count, block: tl.constexpr):  # type: ignore[no-untyped-def]
    places = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = places < count
    slopes = tl.load(slope + places, mask=inside, other=0.0).to(tl.float32)
    gates = tl.load(gate + places, mask=inside, other=0.0).to(tl.float32)
    ups = tl.load(up + places, mask=inside, other=0.0).to(tl.float32)
    share = tl.sigmoid(gates)
    tl.store(up + places, (slopes * gates * share).to(up.dtype.element_ty), mask=inside)
    for_gate = slopes * ups * share * (1.0 + gates * (1.0 - share))
    tl.store(gate + places, for_gate.to(gate.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _rotate(x, cos, sin, sign, heads, half, padded_heads: tl.constexpr, padded_half: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, padded_half)
    numbers = tl.arange(0, padded_heads)
    in_half = columns < half
    cosines = tl.load(cos + row * 2 * half + columns, mask=in_half, other=0.0).to(tl.float32)[None, :]
    sines = tl.load(sin + row * 2 * half + columns, mask=in_half, other=0.0).to(tl.float32)[None, :] * sign
    places = x + row * heads * 2 * half + numbers[:, None] * 2 * half + columns[None, :]
    inside = (numbers[:, None] < heads) & in_half[None, :]
    left = tl.load(places, mask=inside, other=0.0).to(tl.float32)
    right = tl.load(places + half, mask=inside, other=0.0).to(tl.float32)
    tl.store(places, (left * cosines - right * sines).to(x.dtype.element_ty), mask=inside)
    tl.store(places + half, (right * cosines + left * sines).to(x.dtype.element_ty), mask=inside)


def norm(x: Tensor, weight: Tensor, eps: float, plus: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """RMSNorm of x + plus, both [tokens, width]: the result, the sum itself, and 1 / rms [tokens]."""
    out = torch.empty_like(x)
    total = x if plus is None else torch.empty_like(x)
    rates = torch.empty(len(x), dtype=torch.float32, device=x.device)
    _norm[(len(x),)](
        x, x if plus is None else plus, total, weight, out, rates, eps, x.shape[1],
        adds=plus is not None, **_line(x),
    )  # fmt: skip
    return out, total, rates


def norm_backward(slope: Tensor, x: Tensor, weight: Tensor, rates: Tensor, plus: Tensor) -> Tensor:
    """Gradient of the norm's input from `slope`, added to `plus`, the gradient past the norm; in `slope`."""
    _norm_backward[(len(x),)](slope, x, weight, rates, plus, slope, x.shape[1], **_line(x))
    return slope


def _line(x: Tensor) -> dict[str, Any]:
    block = triton.next_power_of_2(x.shape[1])
    return {"block": block, "num_warps": min(16, max(1, block // 512))}


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) · up, elementwise."""
    out = torch.empty_like(gate)
    _swiglu[(triton.cdiv(gate.numel(), ELEMENTS),)](gate, up, out, gate.numel(), block=ELEMENTS)
    return out


def swiglu_backward(slope: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of gate and up, written over them."""
    _swiglu_backward[(triton.cdiv(gate.numel(), ELEMENTS),)](slope, gate, up, gate.numel(), block=ELEMENTS)
    return gate, up


def rotate(x: Tensor, heads: int, cos: Tensor, sin: Tensor, back: bool = False) -> Tensor:
    """Rotary embedding of x [tokens, heads · size] in place, by cos and sin [tokens, size], or back again."""
    half = cos.shape[1] // 2
    _rotate[(len(x),)](
        x, cos, sin, -1.0 if back else 1.0, heads, half,
        padded_heads=triton.next_power_of_2(heads), padded_half=triton.next_power_of_2(half),
    )  # fmt: skip
    return x
