"""Bytes that a training step needs, counted by carrying it out on tensors without content.

    step        forward                      backward                    optimizer
    live bytes  ▁▂▃▄▅▆▇ (kept by each layer)  ▇▆▅▄▃▂▁ (and gradients)      ▂

    peaks = trace_step(model, optimizer, Shape(tokens=2048, sequences=8, supervised=1200), ...)

The model is built on torch's meta device and its tensors become fake ones: they have a shape, a dtype and a
device, and no memory. The project's own step runs on them (its LoRA layers, attention, loss, gradient
checkpointing, optimizer), and every storage that appears and goes is counted. So the count knows what an
architecture, DoRA, 4-bit weights or a target layer do without a formula for any of them.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from mathreason.data.packing import IGNORED
from mathreason.training.forward import Forward

NF4_BLOCK, NF4_SCALES = 64, 256
"""Weights to one 8-bit scale, and scales to one 32-bit scale (Dettmers et al. 2023, QLoRA)."""
SEGMENTS = ("forward", "loss", "top", "below_top", "above_bottom", "bottom", "optimizer")
"""Parts of a step. A layer's backward pass needs most at the top (all is kept) or at the bottom (all
gradients are there), so between layers nothing more has to be told apart."""


@dataclass(frozen=True)
class Shape:
    """One forward pass: tokens in all its blocks, the sequences they hold, tokens with a loss."""

    tokens: int
    sequences: int
    supervised: int

    def batch(self) -> dict[str, Tensor]:
        """A batch of this shape in one row."""
        lengths = [self.tokens // self.sequences] * self.sequences
        lengths[-1] += self.tokens - sum(lengths)
        labels = torch.full((1, self.tokens), IGNORED)
        labels[:, self.tokens - self.supervised :] = 1
        positions = torch.cat([torch.arange(length) for length in lengths])[None]
        return {
            "input_ids": torch.zeros(1, self.tokens, dtype=torch.long),
            "labels": labels,
            "position_ids": positions,
            "lengths": torch.tensor([self.tokens]),
        }


class OnGpu(Forward):
    """A forward pass as a GPU takes it, for tensors that are said to be on the CPU."""

    def keywords(self, position_ids: Tensor, device: torch.device) -> dict[str, Any]:
        """See `Forward`."""
        del device
        starts = [*(position_ids[0] == 0).nonzero().flatten().tolist(), position_ids.shape[1]]
        longest = max(end - start for start, end in pairwise(starts))
        return {"sequence_starts": torch.tensor(starts, dtype=torch.int32), "longest_sequence": longest}


class Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that exist, and their peak since the last `mark`."""

    def __init__(self, fake: FakeTensorMode) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0
        self.peaks: dict[str, int] = {}
        self._peak = 0
        self._fake = fake
        self._seen: dict[int, weakref.ref[Any]] = {}

    def mark(self, name: str) -> None:
        """What was needed at most since the last mark belongs to `name`."""
        self.peaks[name] = max(self._peak, self.peaks.get(name, 0))
        self._peak = self.bytes

    def count(self, tensor: Tensor) -> None:
        """Count the storage of `tensor` for as long as it exists."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._seen:
            return
        size = storage.nbytes()

        def gone(_: Any) -> None:
            self.bytes -= size
            del self._seen[key]

        self._seen[key] = weakref.ref(storage, gone)
        self.bytes += size
        self._peak = max(self._peak, self.bytes)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if tensors and not any(isinstance(tensor, FakeTensor) for tensor in tensors):
            with unset_fake_temporarily():  # the batch itself is real: its values decide shapes
                return func(*args, **kwargs)
        args, kwargs = tree_map_only(Tensor, self._as_fake, (args, kwargs))
        if func.name() == "bitsandbytes::gemm_4bit":
            with self:  # one operator to look at, but its 16-bit weights exist while it runs
                result = _multiplied_4bit(*args, **kwargs)
        else:
            result = func(*args, **kwargs)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.count(leaf)
        return result

    def _as_fake(self, tensor: Tensor) -> Tensor:
        return tensor if isinstance(tensor, FakeTensor) else self._fake.from_tensor(tensor)


def make_fake(model: nn.Module, fake: FakeTensorMode) -> None:
    """Exchange the meta tensors of `model` for fake ones on the CPU; shared ones stay shared."""
    known: dict[int, Tensor] = {}

    def exchanged(tensor: Tensor) -> Tensor:
        if id(tensor) not in known:
            new = FakeTensor(fake, tensor.detach(), torch.device("cpu"))
            trained = isinstance(tensor, nn.Parameter)
            known[id(tensor)] = nn.Parameter(new, tensor.requires_grad) if trained else new
        return known[id(tensor)]

    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = exchanged(tensor)  # type: ignore[assignment]


def _multiplied_4bit(
    x: Tensor,
    packed: Tensor,
    shape: Any,
    absmax: Tensor,
    blocksize: int,
    quant_type: str,
    bias: Tensor | None = None,
    absmax_8bit: Tensor | None = None,
    absmax_code: Tensor | None = None,
    absmax_offset: Any = None,
) -> Tensor:
    """What bitsandbytes does where it has no kernel that multiplies packed weights: unpack, then multiply."""
    operators = torch.ops.bitsandbytes
    if absmax_8bit is not None:
        absmax = operators.dequantize_blockwise(absmax_8bit, absmax, absmax_code, 256, torch.float32)
        absmax = absmax + absmax_offset
    weight = operators.dequantize_4bit(packed, absmax, blocksize, quant_type, shape, x.dtype)
    return nn.functional.linear(x, weight, bias)


def quantize_fake(model: nn.Module, fake: FakeTensorMode, dtype: torch.dtype) -> None:
    """Give the 4-bit layers of a meta model their packed weights and scales, as fake tensors."""
    from bitsandbytes.functional import QuantState
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if not isinstance(module, Linear4bit):
            continue
        shape = torch.Size((module.out_features, module.in_features))
        blocks = -(-shape.numel() // NF4_BLOCK)
        with fake:
            packed = torch.empty((shape.numel() + 1) // 2, 1, dtype=torch.uint8)
            state = QuantState(
                absmax=torch.empty(blocks, dtype=torch.uint8),
                shape=shape,
                code=torch.empty(16),
                blocksize=NF4_BLOCK,
                quant_type="nf4",
                dtype=dtype,
                offset=torch.empty(()),
                state2=QuantState(
                    absmax=torch.empty(-(-blocks // NF4_SCALES)),
                    code=torch.empty(256),
                    blocksize=NF4_SCALES,
                    dtype=torch.float32,
                ),
            )
        weight = nn.Parameter(packed, requires_grad=False)
        weight.__class__ = _Packed  # type: ignore[assignment]
        weight.quant_state = state  # type: ignore[attr-defined]
        module._parameters["weight"] = weight


class _Packed(FakeTensor):
    """A fake weight that peft takes for a bitsandbytes one, by its name."""


_Packed.__name__ = "Params4bit"


@dataclass(frozen=True)
class StepPeaks:
    """Bytes of one process's tensors: what stays from step to step, and the peak of each segment."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    kept: int
    """By the forward pass for the backward pass."""
    segments: dict[str, int]

    @property
    def peak(self) -> int:
        """Of the whole step."""
        return max(self.segments.values())

    def with_layers(self, other: StepPeaks, layers: int) -> StepPeaks:
        """These peaks, of three equal layers, and those of four extrapolated to `layers` more than three."""

        def at(first: int, second: int) -> int:
            return first + (second - first) * layers

        own = {"below_top": self.segments["above_bottom"], **self.segments}  # of three layers one is both
        segments = {name: at(own[name], other.segments[name]) for name in SEGMENTS}
        parts = {
            name: at(getattr(self, name), getattr(other, name))
            for name in ("weights", "adapter", "gradients", "optimizer", "kept")
        }
        return StepPeaks(**parts, segments=segments)


def trace_step(
    model: Any, layers: nn.ModuleList, forward: Forward, shape: Shape, dtype: torch.dtype, setup: Setup
) -> StepPeaks:
    """Peaks of an optimizer step of the peft `model`, whose tensors are on the meta device.

    `layers` are its decoder layers; mixed precision is used with a 16-bit `dtype`.
    """
    fake = FakeTensorMode()
    make_fake(model, fake)
    quantize_fake(model, fake, dtype)
    model.train()
    batch = shape.batch()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    mixed = _mixed_precision(model, dtype) if dtype.itemsize == 2 else nullcontext()
    with fake, Live(fake) as live, mixed, _marked(layers, live):
        weights, adapter = _count_weights(model, live)
        optimizer = torch.optim.AdamW(trained, foreach=setup.foreach)
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter)
        gradients = live.bytes - weights - adapter
        optimizer.step()
        states = live.bytes - weights - adapter - gradients
        if not setup.accumulates:
            optimizer.zero_grad()
        before = live.bytes
        live.mark("start")
        loss = forward.summed_loss(model, batch)
        kept = live.bytes - before
        loss.backward()  # type: ignore[no-untyped-call]
        live.mark("bottom")
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        live.mark("optimizer")
    del live.peaks["start"]
    return StepPeaks(weights, adapter, gradients, states, kept, live.peaks)


@dataclass(frozen=True)
class Setup:
    """How an optimizer step is done: gradients of several passes added up, parameters updated together."""

    accumulates: bool
    foreach: bool


def _count_weights(model: nn.Module, live: Live) -> tuple[int, int]:
    """Bytes of frozen tensors, with the scales of 4-bit weights, and of trained ones."""
    for tensor in (*model.parameters(), *model.buffers()):
        if not tensor.requires_grad:
            live.count(tensor)
            state = getattr(tensor, "quant_state", None)
            if state is not None:
                for scale in (state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code):
                    live.count(scale)
    weights = live.bytes
    for parameter in model.parameters():
        live.count(parameter)
    return weights, live.bytes - weights


@contextmanager
def _mixed_precision(model: Any, dtype: torch.dtype) -> Iterator[None]:
    """The forward pass as accelerate makes it: computed in `dtype`, its output in float32."""
    plain = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast("cpu", dtype=dtype):
            output = plain(*args, **kwargs)
        output.logits = output.logits.float()
        return output

    model.forward = forward
    try:
        yield
    finally:
        del model.forward


@contextmanager
def _marked(layers: nn.ModuleList, live: Live) -> Iterator[None]:
    """Mark the segments of a step where the pass reaches and leaves the layers."""
    last = len(layers) - 1

    def passed(index: int) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            hidden = output if isinstance(output, Tensor) else output[0]
            if "loss" in live.peaks or not hidden.requires_grad:  # gradient checkpointing passes again
                return
            if index == last:
                live.mark("forward")
            # The gradient of a layer's output arrives where the backward pass of the layer above ends.
            hidden.register_hook(lambda _: live.mark(_above(index, last)))

        return hook

    handles = [layer.register_forward_hook(passed(index)) for index, layer in enumerate(layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _above(index: int, last: int) -> str:
    """The segment whose end is the gradient of the output of layer `index`."""
    places = ((last, "loss"), (last - 1, "top"), (0, "above_bottom"), (last - 2, "below_top"))
    return next((name for place, name in places if place == index), "between")
