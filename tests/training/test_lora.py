"""The lean LoRA layers compute what peft's layers compute, and the dropout they draw is dropout."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from mathreason.training.lora import LeanLinear, dropout_mask, make_lean


class Two(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.up = nn.Linear(24, 40, bias=True, dtype=dtype)
        self.down = nn.Linear(40, 8, bias=False, dtype=dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.nn.functional.silu(self.up(x)))


def adapted(dropout: float = 0.0, dtype: torch.dtype = torch.float32, **options: object) -> nn.Module:
    torch.manual_seed(3)
    config = LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules=["up", "down"], **options)
    model = get_peft_model(Two(dtype), config)  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    return model.train()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_output_and_gradients_are_those_of_peft(dtype: torch.dtype) -> None:
    theirs = adapted(dtype=dtype)
    ours = copy.deepcopy(theirs)
    assert make_lean(ours) == 2
    x = torch.randn(5, 7, 24, dtype=dtype)
    grads = []
    for model in (theirs, ours):
        inputs = x.clone().requires_grad_()
        y = model(inputs)
        y.float().square().sum().backward()
        learned = [p.grad for p in model.parameters() if p.requires_grad]
        grads.append([y.detach().float(), inputs.grad.float(), *learned])  # type: ignore[union-attr]
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    for one, other in zip(*grads, strict=True):
        assert (one - other).abs().max() <= tolerance * one.abs().max()  # type: ignore[union-attr,operator]


def test_gradients_with_dropout_are_those_of_the_same_noise() -> None:
    model = adapted(dropout=0.4)
    make_lean(model)
    layer = model.base_model.model.up  # type: ignore[union-attr]
    x = torch.randn(6, 24, requires_grad=True)
    torch.manual_seed(11)
    y = layer(x)  # type: ignore[operator]
    y.square().sum().backward()
    torch.manual_seed(11)
    keep, factor = dropout_mask(x.shape, 0.4, x.device)
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight  # type: ignore[union-attr,index]
    plain = x.detach().clone().requires_grad_()
    base = layer.base_layer  # type: ignore[union-attr]
    expected = base(plain) + ((plain * keep * factor) @ down.t()) @ up.t() * 2  # type: ignore[operator,union-attr]
    found = [layer.lora_A["default"].weight.grad.clone(), layer.lora_B["default"].weight.grad.clone()]  # type: ignore[union-attr,index]
    model.zero_grad()
    expected.square().sum().backward()
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(x.grad, plain.grad)
    torch.testing.assert_close(found[0], down.grad)  # type: ignore[union-attr]
    torch.testing.assert_close(found[1], up.grad)  # type: ignore[union-attr]


def test_dropout_keeps_the_wanted_part_and_the_mean() -> None:
    torch.manual_seed(0)
    keep, factor = dropout_mask(torch.Size([1000, 1001]), 0.1, torch.device("cpu"))
    # 5 standard errors of a share of 0.1 in 1 001 000 draws
    assert abs((keep == 0).double().mean().item() - 0.1) < 5 * (0.1 * 0.9 / 1_001_000) ** 0.5
    assert factor == pytest.approx(1 / 0.9, rel=1e-4)
    for shift in (1, 2, 3, 4, 1001):  # neighbours in memory are four parts of one random number
        flat = keep.flatten().double() - 0.9
        assert abs((flat[shift:] * flat[:-shift]).mean() / 0.09) < 5 / 1000


def test_the_same_random_state_gives_the_same_noise() -> None:
    masks = []
    for _ in range(2):
        torch.manual_seed(5)
        masks.append(dropout_mask(torch.Size([33, 7]), 0.3, torch.device("cpu"))[0])
    assert torch.equal(*masks)
    assert not torch.equal(masks[0], dropout_mask(torch.Size([33, 7]), 0.3, torch.device("cpu"))[0])


def test_without_training_or_without_adapter_peft_answers() -> None:
    model = adapted(dropout=0.5)
    before = copy.deepcopy(model).eval()
    make_lean(model)
    model.eval()
    x = torch.randn(3, 24)
    assert torch.equal(model(x), before(x))
    with model.disable_adapter(), before.disable_adapter():  # type: ignore[operator]
        assert torch.equal(model(x), before(x))
    assert not torch.equal(model(x), Two()(x))


def test_dora_is_left_to_peft() -> None:
    model = adapted(use_dora=True)
    reference = copy.deepcopy(model)
    make_lean(model)
    x = torch.randn(3, 24)
    assert torch.equal(model(x), reference(x))


def test_a_trained_base_is_left_to_peft() -> None:
    model = adapted()
    model.base_model.model.up.base_layer.weight.requires_grad_(True)  # type: ignore[union-attr]
    assert make_lean(model) == 1
    assert not isinstance(model.base_model.model.up, LeanLinear)  # type: ignore[union-attr]
