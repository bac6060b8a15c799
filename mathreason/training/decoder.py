"""A decoder layer as one step of autograd on a GPU: forward, recomputation and backward written out.

    with whole_layers(model):
        model(input_ids, position_ids, use_cache=False, **sequence_keywords(lengths, device))

    forward    x ─ norm ─ q k v ─ rotate ─ attend ─ o ─ + ─ norm ─ gate up ─ swiglu ─ down ─ +
    kept       x alone, with gradient checkpointing; else what the backward pass reads

autograd goes through a layer of transformers and peft in hundreds of small steps, each of which costs the
host more time than the GPU takes for it, and gradient checkpointing goes through them twice. Here the host
only starts the matrix products and the kernels between them (`kernels`). A recomputed layer leaves out its
last product, which nothing reads. Weights may be packed to 4 bits; they are unpacked for the one product that
needs them. Adapters compute in the model's dtype and keep their gradients in their own.

For layers built as Llama's, Mistral's and Qwen 2's are, with a frozen base and plain LoRA (`can_serve`).
Outside of packed rows, as in generation, the layer's own forward pass answers.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mathreason.training.attention import Row
from mathreason.training.kernel_plan import Noise

KINDS = ("LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer")
GROUPS = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))
"""Linear layers of a decoder layer; those of a group have the same input."""


@dataclass(frozen=True)
class Member:
    """One linear layer of a group; 4-bit weights have a `state`."""

    weight: Tensor
    bias: Tensor | None
    state: Any
    adapted: bool

    def whole(self, kernels: Any, dtype: torch.dtype) -> Tensor:
        """W [out, in], unpacked for as long as it is used."""
        return self.weight if self.state is None else kernels.unpack(self.weight, self.state, dtype)


@dataclass(frozen=True)
class Adapters:
    """Those of a group in the dtype of its products: A [adapters, rank, in], and B [out, rank] of each."""

    down: Tensor
    ups: Sequence[Tensor]


class Group:
    """Linear layers with the same input, forward and backward, with what adapters add to them.

    A large product comes after the small one and adds to it, so that the sum costs no pass of its own.
    """

    def __init__(self, modules: Sequence[Any], name: str) -> None:
        self.members = [_member(module) for module in modules]
        adapted = [module for module in modules if hasattr(module, "lora_A")]
        self.downs = [module.lora_A[name].weight for module in adapted]
        self.ups = [module.lora_B[name].weight for module in adapted]
        self.scale = adapted[0].scaling[name] if adapted else 0.0
        self.dropout = getattr(adapted[0].lora_dropout[name], "p", 0.0) if adapted else 0.0

    def forward(
        self, kernels: Any, x: Tensor, adapters: Adapters | None, noise: Any
    ) -> tuple[list[Tensor], Any]:
        """x [tokens, in] to each member's y [tokens, out], and s drop(x) Aᵀ [adapters, tokens, rank]."""
        low: Any = None if adapters is None else kernels.drop_down(x, adapters.down, noise, self.scale)
        small = iter([] if adapters is None else zip(low, adapters.ups, strict=True))
        ys = []
        for member in self.members:
            weight = member.whole(kernels, x.dtype)
            if not member.adapted:
                ys.append(functional.linear(x, weight, member.bias))
                continue
            part, up = next(small)
            y = part @ up.t()
            if member.bias is not None:
                y += member.bias
            ys.append(y.addmm_(x, weight.t()))
        return ys, low

    def backward(
        self,
        kernels: Any,
        slopes: Sequence[Tensor],
        x: Tensor,
        low: Any,
        adapters: Adapters | None,
        noise: Any,
    ) -> tuple[Tensor, list[Tensor]]:
        """Gradient of x, and in float32 those of each A and then of each B, from those of the members' y."""
        for_x, learned = None, []
        if adapters is not None:
            own = [slope for slope, member in zip(slopes, self.members, strict=True) if member.adapted]
            for_low = torch.empty_like(low)
            for slope, up, out in zip(own, adapters.ups, for_low, strict=True):
                torch.mm(slope, up, out=out)
            learned = list(kernels.down_gradient(for_low, x, noise, self.scale))
            learned += [(slope.t() @ part).float() for slope, part in zip(own, low, strict=True)]
            for_x = kernels.drop_up(for_low, adapters.down, noise, self.scale)
        for slope, member in zip(slopes, self.members, strict=True):
            weight = member.whole(kernels, x.dtype)
            for_x = slope @ weight if for_x is None else for_x.addmm_(slope, weight)
        return cast(Tensor, for_x), learned


class Layer:
    """What one decoder layer computes with: its products, norms and sizes, and the parameters it trains."""

    def __init__(self, layer: Any, name: str) -> None:
        self.groups = [Group(modules, name) for modules in _linear(layer)]
        self.parameters = [p for group in self.groups for p in (*group.downs, *group.ups)]
        self.norms = [layer.input_layernorm, layer.post_attention_layernorm]
        self.size = layer.self_attn.head_dim
        self.scaling = layer.self_attn.scaling

    def adapters(self, parameters: Sequence[Tensor], dtype: torch.dtype) -> list[Adapters | None]:
        """The adapters of each group in `dtype`, cast together."""
        flat = torch.cat([parameter.reshape(-1) for parameter in parameters]).to(dtype)
        found: list[Adapters | None] = []
        at = 0
        for group in self.groups:
            if not group.downs:
                found.append(None)
                continue
            size = sum(down.numel() for down in group.downs)
            down = flat[at : at + size].view(len(group.downs), *group.downs[0].shape)
            ups, at = [], at + size
            for up in group.ups:
                ups.append(flat[at : at + up.numel()].view_as(up))
                at += up.numel()
            found.append(Adapters(down, ups))
        return found


@dataclass
class Kept:
    """Of a forward pass, what its backward pass reads; [tokens, ...] each."""

    normed: Tensor
    rates: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    mixed: Tensor
    attention: Any
    middle: Tensor
    middle_normed: Tensor
    middle_rates: Tensor
    gate: Tensor
    up: Tensor
    active: Tensor
    lows: list[Any]


@dataclass(frozen=True)
class Pass:
    """One pass through one layer: the same noise and adapters forward and backward."""

    layer: Layer
    kernels: Any
    row: Row
    cos: Tensor
    sin: Tensor
    noises: list[Noise]

    def forward(self, x: Tensor, adapters: list[Adapters | None]) -> Kept:
        """All but the last product."""
        kernels, size = self.kernels, self.layer.size
        first, second = self.layer.norms
        normed, _, rates = kernels.norm(x, first.weight, first.variance_epsilon)
        (q, k, v), low = self.through(0, normed, adapters)
        q, k = (kernels.rotate(part, part.shape[1] // size, self.cos, self.sin) for part in (q, k))
        q, k, v = (part.view(len(x), -1, size) for part in (q, k, v))
        mixed, attention = kernels.attend(q, k, v, self.row, self.layer.scaling)
        [o], low_o = self.through(1, mixed.view(len(x), -1), adapters)
        middle_normed, middle, middle_rates = kernels.norm(o, second.weight, second.variance_epsilon, x)
        (gate, up), low_mlp = self.through(2, middle_normed, adapters)
        active = kernels.swiglu(gate, up)
        return Kept(
            normed, rates, q, k, v, mixed, attention,
            middle, middle_normed, middle_rates, gate, up, active, [low, low_o, low_mlp],
        )  # fmt: skip

    def finish(self, kept: Kept, adapters: list[Adapters | None]) -> Tensor:
        """The last product, and the layer's output."""
        [y], low = self.through(3, kept.active, adapters)
        kept.lows.append(low)
        y += kept.middle
        return y

    def finish_recomputed(self, kept: Kept, adapters: list[Adapters | None]) -> None:
        """Of the last product only what the backward pass reads."""
        own = adapters[3]
        scale, noise = self.layer.groups[3].scale, self.noises[3]
        kept.lows.append(None if own is None else self.kernels.drop_down(kept.active, own.down, noise, scale))

    def through(
        self, number: int, inputs: Tensor, adapters: list[Adapters | None]
    ) -> tuple[list[Tensor], Any]:
        """One group of products."""
        group = self.layer.groups[number]
        return group.forward(self.kernels, inputs, adapters[number], self.noises[number])

    def backward(
        self, slope: Tensor, x: Tensor, kept: Kept, adapters: list[Adapters | None]
    ) -> tuple[Tensor, list[Tensor]]:
        """Gradients of the layer's input and of the parameters, in order."""
        kernels, size, tokens = self.kernels, self.layer.size, len(x)
        first, second = self.layer.norms
        learned: list[list[Tensor]] = [[], [], [], []]

        def back(number: int, slopes: Sequence[Tensor], inputs: Tensor) -> Tensor:
            gradient, learned[number] = self.layer.groups[number].backward(
                kernels, slopes, inputs, kept.lows[number], adapters[number], self.noises[number]
            )
            return gradient

        for_active = back(3, [slope], kept.active)
        slopes = kernels.swiglu_backward(for_active, kept.gate, kept.up)
        del for_active, kept.active  # the largest tensors go as soon as they can
        inner = back(2, slopes, kept.middle_normed)
        del slopes, kept.gate, kept.up
        middle = kernels.norm_backward(inner, kept.middle, second.weight, kept.middle_rates, slope)
        for_mixed = back(1, [middle], kept.mixed.view(tokens, -1)).view_as(kept.mixed)
        q, k, v = kernels.attend_backward(
            for_mixed, kept.q, kept.k, kept.v, kept.mixed, kept.attention, self.row, self.layer.scaling
        )
        q, k, v = (part.reshape(tokens, -1) for part in (q, k, v))
        q, k = (kernels.rotate(part, part.shape[1] // size, self.cos, self.sin, True) for part in (q, k))
        inner = back(0, [q, k, v], kept.normed)
        outer = kernels.norm_backward(inner, x, first.weight, kept.rates, middle)
        return outer, [gradient for gradients in learned for gradient in gradients]


class _WholeLayer(torch.autograd.Function):
    """x [tokens, width] through a layer; its parameters are arguments, so that they get their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, one: Pass, recompute: bool, *parameters: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            adapters = one.layer.adapters(parameters, x.dtype)
            kept = one.forward(x, adapters)
            y = one.finish(kept, adapters)
        ctx.save_for_backward(x, *parameters)
        ctx.one, ctx.kept = one, None if recompute else kept
        return y

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Any, ...]:
        x, *parameters = ctx.saved_tensors
        one, kept = ctx.one, ctx.kept
        adapters = one.layer.adapters(parameters, x.dtype)
        if kept is None:
            kept = one.forward(x, adapters)
            one.finish_recomputed(kept, adapters)
        ctx.kept = None
        for_x, learned = one.backward(slopes[0].contiguous(), x, kept, adapters)
        learned = [gradient.to(p.dtype) for gradient, p in zip(learned, parameters, strict=True)]
        return (for_x, None, None, *learned)


# -- which layers, and how they are exchanged --------------------------------------------------------


def can_serve(model: Any) -> bool:
    """Whether this module computes what the layers of `model` do, where it runs."""
    if model.device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    return serves_layers(model)


def serves_layers(model: Any) -> bool:
    """Whether the layers of `model` are built in the one way that this module knows."""
    layers, name = _layers(model), _adapter(model)
    return bool(layers) and name is not None and all(_is_plain(layer, name) for layer in layers)


@contextmanager
def whole_layers(model: Any, kernels: Any = None) -> Iterator[None]:
    """Let the layers of `model`, which `serves_layers`, be one step each, with these kernels or the GPU's."""
    if kernels is None:
        from mathreason.training import kernels as gpu_kernels

        kernels = gpu_kernels
    layers, name = _layers(model), _adapter(model)
    for layer in layers:
        layer.forward = _forward_of(layer, str(name), kernels)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def not_recomputed(model: Any) -> list[nn.Module]:
    """The linear layers that gradient checkpointing leaves out of a recomputed whole layer."""
    last = [layer.mlp.down_proj for layer in _layers(model)]
    return [
        part
        for module in last
        for part in ([module.base_layer, module.lora_B] if hasattr(module, "lora_A") else [module])
    ]


def _forward_of(module: Any, name: str, kernels: Any) -> Any:
    own = type(module).forward
    layer_of = cache(Layer)  # at the first pass, when all tensors are where they will be

    def forward(
        hidden_states: Tensor,
        *args: Any,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        sequence_starts: Tensor | None = None,
        longest_sequence: int = 0,
        **rest: Any,
    ) -> Any:
        if sequence_starts is None or position_embeddings is None or rest.get("past_key_values") is not None:
            given = {"position_embeddings": position_embeddings, **rest}
            return own(module, hidden_states, *args, **given)
        layer = layer_of(module, name)
        probabilities = [group.dropout if module.training else 0.0 for group in layer.groups]
        cos, sin = (part[0].contiguous() for part in position_embeddings)
        row = Row(sequence_starts, longest_sequence)
        one = Pass(layer, kernels, row, cos, sin, kernels.drawn(probabilities))
        recompute = bool(module.gradient_checkpointing) or not torch.is_grad_enabled()
        y = _WholeLayer.apply(hidden_states[0], one, recompute, *layer.parameters)  # type: ignore[no-untyped-call]
        return y[None]

    return forward


def _layers(model: Any) -> Any:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(getattr(base, "model", None), "layers", ())


def _adapter(model: Any) -> str | None:
    """Name of the one adapter that the model trains."""
    names = getattr(model, "active_adapters", [])
    return str(names[0]) if isinstance(names, list) and len(names) == 1 else None


def _is_plain(layer: Any, name: str) -> bool:
    if type(layer).__name__ not in KINDS or type(layer.mlp.act_fn).__name__ not in ("SiLU", "SiLUActivation"):
        return False
    norms = (layer.input_layernorm, layer.post_attention_layernorm)
    frozen = not any(norm.weight.requires_grad for norm in norms)
    linear = [module for group in _linear(layer) for module in group]
    trained = any(hasattr(module, "lora_A") for module in linear)
    return frozen and trained and all(_is_served(module, name) for module in linear)


def _linear(layer: Any) -> list[list[Any]]:
    """The linear layers of a decoder layer, in groups."""
    return [
        [getattr(layer.self_attn, name, None) or getattr(layer.mlp, name) for name in group]
        for group in GROUPS
    ]


def _is_served(module: Any, name: str) -> bool:
    base = module.get_base_layer() if hasattr(module, "get_base_layer") else module
    if base.weight.requires_grad or not (type(base) is nn.Linear or type(base).__name__ == "Linear4bit"):
        return False
    if not hasattr(module, "lora_A"):
        return True
    plain = not (module.merged or module.lora_variant or module.disable_adapters)
    return plain and list(module.lora_A) == [name] and module.lora_B[name].bias is None


def _member(module: Any) -> Member:
    base = module.get_base_layer() if hasattr(module, "get_base_layer") else module
    state = getattr(base.weight, "quant_state", None)
    return Member(base.weight, base.bias, state, hasattr(module, "lora_A"))
