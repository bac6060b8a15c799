"""Attention of split sequences is the block-diagonal attention of transformers."""

import pytest
import torch
from small_models import SHAPE
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from mathreason.training.attention import in_a_fixed_order, packed_attention

LENGTHS = [5, 1, 9, 4]


@pytest.fixture(params=["llama", "mistral"])
def model(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(1)
    if request.param == "llama":
        return LlamaForCausalLM(LlamaConfig(**SHAPE))
    return MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=None))


def packed(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    return torch.randint(0, 60, (1, sum(lengths))), positions


def test_logits_and_gradients_equal_each_sequence_alone(model: torch.nn.Module) -> None:
    ids, positions = packed(LENGTHS)
    weight = torch.randn(sum(LENGTHS), 60)
    parameter = model.model.layers[0].self_attn.k_proj.weight  # type: ignore[union-attr,index]
    with packed_attention(model):
        together = model(
            input_ids=ids, position_ids=positions, use_cache=False, sequence_lengths=LENGTHS
        ).logits[0]
        (together * weight).sum().backward()
    found, parameter.grad = parameter.grad, None  # type: ignore[union-attr]
    alone = torch.cat(
        [model(input_ids=part, use_cache=False).logits[0] for part in ids.split(LENGTHS, dim=1)]
    )
    (alone * weight).sum().backward()
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, parameter.grad, rtol=1e-3, atol=1e-4)  # type: ignore[union-attr]


def test_afterwards_the_model_attends_as_before(model: torch.nn.Module) -> None:
    before = model.config._attn_implementation
    with packed_attention(model):
        assert model.config._attn_implementation != before
    assert model.config._attn_implementation == before
    ids, _ = packed([7])
    assert torch.isfinite(model(input_ids=ids, use_cache=False).logits).all()


@pytest.mark.parametrize("before", [False, True])
def test_a_fixed_order_is_asked_for_only_while_it_is_needed(before: bool) -> None:
    try:
        torch.use_deterministic_algorithms(before, warn_only=before)
        with in_a_fixed_order():
            assert torch.are_deterministic_algorithms_enabled()
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
            assert torch.utils.deterministic.fill_uninitialized_memory is False
        assert torch.are_deterministic_algorithms_enabled() is before
        assert torch.is_deterministic_algorithms_warn_only_enabled() is before
        assert torch.utils.deterministic.fill_uninitialized_memory is True
    finally:
        torch.use_deterministic_algorithms(False)
