"""The 16-bit attention of a CPU is torch's, and its gradients are nearer to the exact ones."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mathreason.training import causal
from mathreason.training.attention import _one_by_one

SCALE = 0.3


def inputs(tokens: int, heads: int, kv_heads: int, size: int, dtype: torch.dtype) -> list[Tensor]:
    """Queries, keys and values as a model's layer has them: heads are a view of the tokens' rows."""
    torch.manual_seed(tokens)
    return [
        torch.randn(1, tokens, count, size).to(dtype).transpose(1, 2).requires_grad_()
        for count in (heads, kv_heads, kv_heads)
    ]


def torchs(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    groups = q.shape[1] // k.shape[1]
    k, v = (tensor.repeat_interleave(groups, 1) for tensor in (k, v))
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=SCALE)


def relative_error(found: Tensor, exact: Tensor) -> float:
    return ((found.double() - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("tokens", "heads", "kv_heads", "size"),
    [(2, 4, 4, 8), (63, 4, 2, 16), (64, 8, 1, 16), (65, 6, 3, 8), (200, 4, 2, 32)],
)
def test_output_is_torchs_and_gradients_are_at_least_as_exact(
    tokens: int, heads: int, kv_heads: int, size: int, dtype: torch.dtype
) -> None:
    ours = inputs(tokens, heads, kv_heads, size, dtype)
    slope = torch.randn(1, heads, tokens, size).to(dtype)
    mixed = causal.causal_attention(*ours, SCALE)
    assert torch.equal(mixed, torchs(*ours))
    found = torch.autograd.grad(mixed, ours, slope)
    usual = torch.autograd.grad(torchs(*ours), ours, slope)
    exact_inputs = [tensor.detach().double().requires_grad_() for tensor in ours]
    exact = torch.autograd.grad(torchs(*exact_inputs), exact_inputs, slope.double())
    for mine, torch_s, wanted in zip(found, usual, exact, strict=True):
        assert mine.dtype == dtype
        assert relative_error(mine, wanted) <= 1.1 * relative_error(torch_s, wanted) + 1e-3


def test_a_token_gets_no_gradient_from_those_before_it() -> None:
    q, k, v = inputs(100, 2, 2, 8, torch.bfloat16)
    slope = torch.zeros(1, 2, 100, 8, dtype=torch.bfloat16)
    slope[:, :, :70] = 1.0
    for gradient in torch.autograd.grad(causal.causal_attention(q, k, v, SCALE), (q, k, v), slope):
        assert gradient[:, :, :70].any()
        assert not gradient[:, :, 70:].any()


@pytest.mark.parametrize(
    ("dtype", "dropout", "serves"),
    [(torch.bfloat16, 0.0, True), (torch.bfloat16, 0.5, False), (torch.float32, 0.0, False)],
)
def test_it_serves_16_bit_without_dropout(
    dtype: torch.dtype, dropout: float, serves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def noted(q: Tensor, *rest: object) -> Tensor:
        calls.append(q.shape[2])
        return causal._Causal.apply(q, *rest)  # type: ignore[no-any-return,no-untyped-call]

    monkeypatch.setattr(causal, "causal_attention", noted)
    mixed = _one_by_one(*inputs(12, 4, 2, 8, dtype), [5, 7], SCALE, dropout)
    assert mixed.shape == (1, 12, 4, 8)
    assert calls == ([5, 7] if serves else [])
