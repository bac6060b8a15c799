"""The chunked cross-entropy of a frozen head is torch's, in value and gradient."""

import pytest
import torch
from torch.nn import functional

from mathreason.training.loss import CHUNK, linear_cross_entropy


@pytest.mark.parametrize("tokens", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_value_and_gradient_are_those_of_torch(tokens: int) -> None:
    torch.manual_seed(tokens)
    hidden = torch.randn(tokens, 16, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(50, 16, dtype=torch.float64)
    targets = torch.randint(0, 50, (tokens,))
    ours = linear_cross_entropy(hidden, weight, targets)
    (ours * 0.25).backward()
    found, hidden.grad = hidden.grad, None
    theirs = functional.cross_entropy(hidden @ weight.t(), targets, reduction="sum")
    (theirs * 0.25).backward()
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-6, atol=0)
    torch.testing.assert_close(found, hidden.grad, rtol=1e-5, atol=1e-6)


def test_large_logits_stay_finite() -> None:
    hidden = torch.full((2, 4), 100.0, requires_grad=True)
    weight = torch.stack([torch.full((4,), 5.0), torch.full((4,), -5.0)])
    loss = linear_cross_entropy(hidden, weight, torch.tensor([0, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(4000.0)
    assert hidden.grad is not None
    assert torch.isfinite(hidden.grad).all()


def test_no_supervised_token_is_no_loss() -> None:
    hidden = torch.zeros(0, 4, requires_grad=True)
    loss = linear_cross_entropy(hidden, torch.randn(3, 4), torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0.0
    assert hidden.grad is not None
