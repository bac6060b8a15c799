"""An adapter's weights added to those of its base model, with proof that nothing was lost or left out.

    model, check = merge(apply_adapter(base, run.adapter), prompts)
    check["verdict"]      # "carried", or "below rounding": the dtype is too coarse for so weak an adapter

Three things are looked at, since rounding to 16 bit can move the logits as far as a weak adapter does and
logits alone would let a model without any adapter pass:

    each layer    merged in 32 bit, its output is that of the layer with its adapter on
    the weights   rounded once to the model's dtype: how much of the adapter's change is left in them
    the logits    merged against adapter on, and against the base: clearly closer to the first
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mathreason.errors import MathreasonError
from mathreason.models import LoadedModel

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}
"""Largest difference of logits, as a share of the logits, that rounding the merged weights explains."""
MARGIN = 2.0
"""How much closer to the adapter than to the base the merged logits must be for the adapter to be carried."""
KEPT_AT_LEAST = 0.01
"""Share of the adapter's change that must be left in the rounded weights; with less it is the base model."""
LAYER_TOLERANCE = 1e-2
"""Largest difference of a merged layer's output in 32 bit, as a share of what its adapter changes."""
LAYER_ROUNDING = 5e-6
"""The same for an adapter that changes next to nothing, as a share of the layer's output."""
PROBE_ROWS = 16
LAST_TOKENS = 64
"""Of each prompt, those whose logits are compared: the solution stands at its end."""

Logits = list["torch.Tensor"]


def merge(tuned: LoadedModel, prompts: list[list[int]]) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The merged model and what the comparison with adapter and base found on the token ids of `prompts`.

    `effect`, `difference` and `distance_from_base` are those of the logits (`distance`): adapter on from
    base, merged from adapter on, merged from base. `kept_in_weights` is the share of the adapter's change
    of the weights that is left after rounding. Raises MathreasonError when a layer or the logits differ
    from the adapter's by more than rounding explains, or when rounding leaves nothing of the adapter.
    """
    peft_model: Any = tuned.model
    dtype = str(tuned.model.dtype).removeprefix("torch.")
    adapted = logits_of(peft_model, prompts)
    with peft_model.disable_adapter():
        base = logits_of(peft_model, prompts)
    _untie(peft_model.get_base_model())
    layers = _merge_layers(peft_model.get_base_model(), dtype)
    merged = peft_model.unload().eval()
    _require_merged(merged, layers)
    found = logits_of(merged, prompts)
    check = {
        "layers": len(layers),
        "largest_layer_difference": max(layer.difference for layer in layers.values()),
        "kept_in_weights": _kept(layers, dtype),
        "tokens": sum(map(len, adapted)),
        "effect": distance(adapted, base),
        "difference": distance(adapted, found),
        "distance_from_base": distance(base, found),
        "same_next_token": same_next_token(adapted, found),
        "tolerance": TOLERANCE[dtype],
    }
    return merged, {**check, "verdict": _verdict(check, dtype)}


def _verdict(check: dict[str, Any], dtype: str) -> str:
    difference = check["difference"]
    if not difference <= TOLERANCE[dtype]:
        advice = "" if dtype == "float32" else "; try --dtype float32"
        raise MathreasonError(
            f"the merged logits differ from the adapter's by {difference:.1e} of their size, more than "
            f"rounding to {dtype} explains ({TOLERANCE[dtype]:.0e}){advice}"
        )
    carried = MARGIN * difference <= min(check["effect"], check["distance_from_base"])
    return "carried" if carried else "below rounding"


# -- logits ----------------------------------------------------------------------------------------


def logits_of(model: Any, prompts: list[list[int]]) -> Logits:
    """Logits of the last tokens of each prompt, (tokens, vocabulary) in 32 bit on the CPU.

    Each token's mean is taken off, which no probability depends on.
    """
    import torch

    def one(ids: list[int]) -> torch.Tensor:
        batch = torch.tensor([ids], device=model.device)
        logits: torch.Tensor = model(input_ids=batch, use_cache=False).logits[0, -LAST_TOKENS:].float().cpu()
        return logits - logits.mean(-1, keepdim=True)

    with torch.inference_mode():
        return [one(ids) for ids in prompts]


def distance(expected: Logits, found: Logits) -> float:
    """Root mean square of the difference as a share of the expected logits' own."""
    off = sum(float((a - b).square().sum()) for a, b in zip(expected, found, strict=True))
    return float((off / sum(float(a.square().sum()) for a in expected)) ** 0.5)


def same_next_token(expected: Logits, found: Logits) -> int:
    """Tokens after which both would write the same one."""
    return sum(int((a.argmax(-1) == b.argmax(-1)).sum()) for a, b in zip(expected, found, strict=True))


# -- layers ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _MergedLayer:
    """A layer after merging: its rounded weights, the proof, and what rounding left of the change."""

    weight: torch.Tensor
    difference: float
    change: float
    kept: float


def _untie(model: Any) -> None:
    """Give output head and embedding weights of their own where one of them is adapted and they share.

    What is added to one must not reach the other, where the adapter never was.
    """
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    adapted = [layer for layer in (head, embedding) if isinstance(layer, BaseTunerLayer)]
    if not adapted or head.weight is not embedding.weight:
        return
    layer = adapted[0].get_base_layer()
    layer.weight = torch.nn.Parameter(layer.weight.detach().clone(), requires_grad=False)
    for config in {id(c): c for c in (model.config, model.config.get_text_config())}.values():
        config.tie_word_embeddings = False


def _merge_layers(model: Any, dtype: str) -> dict[str, _MergedLayer]:
    """Merge every adapted layer in place; what came of each, by its name."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = {name: layer for name, layer in model.named_modules() if isinstance(layer, BaseTunerLayer)}
    return {name: _merge_layer(name, layer, dtype) for name, layer in adapted.items()}


def _merge_layer(name: str, layer: Any, dtype: str) -> _MergedLayer:
    import torch

    base = layer.get_base_layer()
    stored = base.weight.dtype
    layer.float()
    rows = _probe(layer, base)
    with torch.no_grad():
        before = base.weight.detach().clone()
        on, off = layer(rows), base(rows)
        layer.merge(safe_merge=True)
        difference, effect = float((base(rows) - on).norm()), float((on - off).norm())
        if not difference <= LAYER_TOLERANCE * effect + LAYER_ROUNDING * float(on.norm()):
            raise MathreasonError(
                f"the merged layer {name} differs from the layer with its adapter on by {difference:.1e}, "
                f"and the adapter changes it by {effect:.1e}: it was not merged as it was trained"
            )
        change = base.weight - before
        base.to(stored)
        if not bool(base.weight.isfinite().all()):
            raise MathreasonError(
                f"the merged layer {name} has weights beyond the range of {dtype}; "
                "use --dtype bfloat16 or float32"
            )
        left = base.weight.float() - before
    return _MergedLayer(
        weight=base.weight,
        difference=difference / effect if effect else 0.0,
        change=float(change.square().sum()),
        kept=float((left * change).sum()),
    )


def _probe(layer: Any, base: Any) -> torch.Tensor:
    """Fixed random input of a layer: vectors, or tokens where it is an embedding."""
    import torch

    random = torch.Generator().manual_seed(0)
    if isinstance(base, torch.nn.Embedding):
        rows = torch.randint(base.num_embeddings, (PROBE_ROWS,), generator=random)
    else:
        rows = torch.randn(PROBE_ROWS, layer.in_features, generator=random)
    return rows.to(base.weight.device)


def _require_merged(model: Any, layers: dict[str, _MergedLayer]) -> None:
    """Refuse a model that lost, on the way out of peft, what was merged into it."""
    for name, layer in layers.items():
        if model.get_submodule(name).weight.data_ptr() != layer.weight.data_ptr():
            raise MathreasonError(f"the merged layer {name} is not in the model that would be written")


def _kept(layers: dict[str, _MergedLayer], dtype: str) -> float:
    """Share of the adapter's change left in the rounded weights: their projection on it."""
    change = sum(layer.change for layer in layers.values())
    kept = sum(layer.kept for layer in layers.values()) / change if change else 0.0
    if not kept >= KEPT_AT_LEAST:
        raise MathreasonError(
            f"rounding the merged weights to {dtype} leaves {kept:.1%} of the adapter, whose changes are "
            "smaller than half a step of that format; use --dtype float32"
        )
    return kept
