"""The last layer without its unread tokens gives the same logits and gradients, and is whole again after."""

import copy
from typing import Any

import pytest
import torch
from small_models import SHAPE, adapted
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from mathreason.training.last_layer import trimmable, trimmed

IDS = torch.arange(3, 15)[None]
KEPT = torch.tensor([4, 5, 9, 11])


@pytest.fixture(params=["llama", "qwen3"])
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(1)
    if request.param == "llama":
        plain: Any = LlamaForCausalLM(LlamaConfig(**SHAPE))
    else:
        plain = Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8))
    return adapted(plain, ["q_proj", "k_proj", "o_proj", "up_proj"])


def logits(model: Any, **keywords: Any) -> torch.Tensor:
    output: torch.Tensor = model(input_ids=IDS, use_cache=False, logits_to_keep=KEPT, **keywords).logits
    return output


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("checkpointed", [False, True])
def test_logits_and_gradients_are_those_of_the_whole_layer(model: Any, checkpointed: bool) -> None:
    reference = copy.deepcopy(model)
    expected = logits(reference)
    expected.square().sum().backward()
    if checkpointed:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    with trimmed(model):
        found = logits(model, supervised=KEPT)
        found.square().sum().backward()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    theirs = gradients(reference)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-5)


def test_only_the_positions_asked_for_are_computed(model: Any) -> None:
    rows: list[int] = []
    mlp = trimmable(model)[-1]
    with trimmed(model), torch.no_grad():
        mlp.up_proj.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0].shape[1]))  # type: ignore[union-attr,operator]
        logits(model, supervised=KEPT)
        logits(model)
    assert rows == [len(KEPT), IDS.shape[1]]


def test_the_layer_is_whole_again_afterwards(model: Any) -> None:
    with torch.no_grad():
        before = logits(model)
        with trimmed(model):
            logits(model, supervised=torch.tensor([11]))
        assert torch.equal(logits(model), before)


def test_a_model_built_otherwise_is_not_trimmed() -> None:
    config = GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=60)
    assert trimmable(GPT2LMHeadModel(config)) == []
