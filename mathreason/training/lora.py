"""LoRA layers that keep less for the backward pass and touch memory less often than peft's own.

    y = W x + s B A drop(x)

    peft, for each layer     noise and drop(x) in full, B A x, s B A x and the sum as tensors of their own
    here                     one byte of noise a value; B A x is added to W x in place

Same mathematics, same parameters, same files: `make_lean` only exchanges the forward pass of peft's linear
layers that it can serve exactly (one adapter, a frozen unquantized base without DoRA) while they train.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.nn import functional

LEVELS = 1 << 16
"""Dropout's probability is rounded to a multiple of 1/65536: four decisions from one 64-bit random number."""


def dropout_mask(shape: torch.Size, probability: float, device: torch.device) -> tuple[Tensor, float]:
    """Which values to keep, 1 or 0 in int8, and the factor that keeps their mean, from torch's generator."""
    count = shape.numel()
    below = round(probability * LEVELS)
    numbers = torch.empty(-(-count // 4), dtype=torch.int64, device=device)
    # All 64 bits; random_() without bounds would leave the sign bit alone.
    numbers.random_(-(1 << 63), None)
    keep = numbers.view(torch.int16)[:count].view(shape) >= below - LEVELS // 2
    # torch multiplies by int8 four times as fast as by bool, and twice as fast as by a copy in x's dtype.
    return keep.view(torch.int8), LEVELS / (LEVELS - below)


class _LoraProduct(torch.autograd.Function):
    """x [tokens, in] to x Wᵀ + bias + s drop(x) Aᵀ Bᵀ [tokens, out], in the dtype of W."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
        probability: float,
    ) -> Tensor:
        keep, factor = dropout_mask(x.shape, probability, x.device) if probability else (None, 1.0)
        low = (x if keep is None else x * keep) @ down.to(x.dtype).t()
        y = functional.linear(x, weight, bias).addmm_(low, up.to(x.dtype).t(), alpha=scale * factor)
        ctx.save_for_backward(x, weight, down, up, low, keep)
        ctx.scale = scale * factor
        return y

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, down, up, low, keep = ctx.saved_tensors
        slope = slopes[0]
        for_low = (slope @ up.to(x.dtype)).mul_(ctx.scale)
        for_up = (slope.t() @ low).mul_(ctx.scale)
        for_down = for_low.t() @ (x if keep is None else x * keep)
        for_x = None
        if ctx.needs_input_grad[0]:
            for_x = for_low @ down.to(x.dtype)
            if keep is not None:
                for_x *= keep
            for_x.addmm_(slope, weight)
        return for_x, None, None, for_down.to(down.dtype), for_up.to(up.dtype), None, None


class LeanLinear(Linear):  # type: ignore[misc]
    """peft's LoRA layer with the forward pass of this module while it trains one plain adapter."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """x [..., in] to [..., out]; whatever this module does not serve goes to peft."""
        names = self.active_adapters
        plain = self.training and not (self.disable_adapters or self.merged or self.lora_variant)
        if not plain or len(names) != 1 or names[0] not in self.lora_A or args or kwargs:
            result: Tensor = super().forward(x, *args, **kwargs)
            return result
        name = names[0]
        base = self.get_base_layer()
        dropout = self.lora_dropout[name]
        y: Tensor = _LoraProduct.apply(  # type: ignore[no-untyped-call]
            x.reshape(-1, x.shape[-1]).to(base.weight.dtype),
            base.weight,
            base.bias,
            self.lora_A[name].weight,
            self.lora_B[name].weight,
            self.scaling[name],
            getattr(dropout, "p", 0.0),
        )
        return y.view(*x.shape[:-1], -1)


def make_lean(model: Any) -> int:
    """Give every layer of `model` that this module can serve its forward pass; how many there are."""
    lean = [module for module in model.modules() if _can_be_lean(module)]
    for module in lean:
        module.__class__ = LeanLinear
    return len(lean)


def _can_be_lean(module: Any) -> bool:
    if type(module) is not Linear or type(module.get_base_layer()) is not nn.Linear:
        return False
    return not module.get_base_layer().weight.requires_grad
