"""The last decoder layer only where a loss is read: elsewhere nobody looks at what it gives.

    with trimmed(model):
        model(input_ids, position_ids, logits_to_keep=kept, supervised=kept)

Every earlier layer is needed at all tokens, because later tokens attend to them. In the last one a token
passes on its keys and values only; its query, its output projection and its MLP lead to logits that
`logits_to_keep` drops. They are left out here, forward and backward, which changes neither loss nor
gradients: with two thirds of the tokens in prompts, two thirds of that layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


def trimmable(model: Any) -> list[nn.Module]:
    """Query, output projection and MLP of the last decoder layer; empty when it is built otherwise."""
    layer = _last_layer(model)
    attention = getattr(layer, "self_attn", None)
    names = ((attention, "q_proj"), (attention, "o_proj"), (layer, "mlp"))
    found = [getattr(owner, name, None) for owner, name in names]
    return [module for module in found if module is not None] if None not in found else []


def _last_layer(model: Any) -> Any:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    layers = getattr(getattr(base, "model", None), "layers", None)
    return layers[-1] if isinstance(layers, nn.ModuleList) and len(layers) else None


@contextmanager
def trimmed(model: Any) -> Iterator[None]:
    """Let the last layer, which must be `trimmable`, obey the keyword `supervised`: positions [kept].

    The output at other positions is not the model's. The attention module is what a layer hands its keywords
    to, also when gradient checkpointing computes the layer a second time; the MLP follows it.
    """
    attention, modules = _last_layer(model).self_attn, trimmable(model)
    wanted: list[Tensor] = []
    attend = attention.forward

    def forward(*args: Any, supervised: Tensor | None = None, **kwargs: Any) -> Any:
        wanted[:] = [] if supervised is None else [supervised]
        return attend(*args, **kwargs)

    attention.forward = forward
    for module in modules:
        module.forward = _only_at(module.forward, wanted, module is modules[-1])
    try:
        yield
    finally:
        for module in (attention, *modules):
            del module.forward


def _only_at(whole: Callable[..., Tensor], wanted: list[Tensor], is_last: bool) -> Callable[..., Tensor]:
    """`whole` as a map of [rows, tokens, in] to [rows, tokens, out] at `wanted`, with zeros elsewhere."""

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not wanted:
            return whole(x, *args, **kwargs)
        positions = wanted[0]
        if is_last:
            wanted.clear()
        y = whole(x.index_select(1, positions), *args, **kwargs)
        return y.new_zeros(*x.shape[:2], y.shape[-1]).index_copy(1, positions, y)

    return forward
