"""Layers that are one step of autograd compute what transformers' and peft's layers compute."""

import copy
from itertools import accumulate
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from small_models import SHAPE, adapted
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from mathreason.training import kernels
from mathreason.training.attention import Row, packed_attention
from mathreason.training.decoder import Adapters, Group, serves_layers, whole_layers
from mathreason.training.kernel_plan import LEVELS, Noise, Shapes

LENGTHS = [6, 4, 9]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
KINDS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, head_dim=16)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
}


def model_of(plain: Any, targets: list[str] | None = None, dropout: float = 0.0) -> Any:
    """With norms and biases that are not those a new model has."""
    model = adapted(plain, targets or ALL, lora_dropout=dropout)
    for name, parameter in model.named_parameters():
        if "bias" in name:
            torch.nn.init.normal_(parameter, std=0.2)
        if "norm" in name:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.2)
    return model


def logits(model: Any, ids: Tensor, **keywords: Any) -> Tensor:
    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    found: Tensor = model(input_ids=ids, position_ids=positions, use_cache=False, **keywords).logits
    return found


def row_of(lengths: list[int]) -> Row:
    return Row(torch.tensor([0, *accumulate(lengths)], dtype=torch.int32), max(lengths))


def gradients(model: Any) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    return found


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_gradients_are_the_models(kind: str, recomputed: bool) -> None:
    torch.manual_seed(4)
    model = model_of(KINDS[kind]())
    assert serves_layers(model)
    ids = torch.randint(0, 60, (1, sum(LENGTHS)))
    weights = torch.randn(1, sum(LENGTHS), 60)
    with packed_attention(model):
        expected = logits(model, ids, sequence_lengths=LENGTHS)
        (expected * weights).sum().backward()
        wanted = gradients(model)
        if recomputed:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        row = row_of(LENGTHS)
        with whole_layers(model):
            found = logits(model, ids, sequence_starts=row.starts, longest_sequence=row.longest)
            (found * weights).sum().backward()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-4, msg=name)


def test_layers_without_an_adapter_in_some_places_are_served() -> None:
    torch.manual_seed(4)
    model = model_of(KINDS["llama"](), ["q_proj", "down_proj"])
    ids = torch.randint(0, 60, (1, sum(LENGTHS)))
    with packed_attention(model):
        logits(model, ids, sequence_lengths=LENGTHS).square().sum().backward()
        wanted = gradients(model)
        row = row_of(LENGTHS)
        with whole_layers(model):
            keywords = {"sequence_starts": row.starts, "longest_sequence": row.longest}
            logits(model, ids, **keywords).square().sum().backward()
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-4, msg=name)


def test_a_recomputed_layer_draws_the_same_noise() -> None:
    """With dropout the recomputation and the kept activations give the same gradients."""
    torch.manual_seed(4)
    model = model_of(KINDS["llama"](), dropout=0.3)
    ids = torch.randint(0, 60, (1, sum(LENGTHS)))
    row = row_of(LENGTHS)
    found = []
    for recomputed in (False, True):
        if recomputed:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        torch.manual_seed(7)
        with packed_attention(model), whole_layers(model):
            keywords = {"sequence_starts": row.starts, "longest_sequence": row.longest}
            logits(model, ids, **keywords).square().sum().backward()
        found.append(gradients(model))
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name])
        assert gradient.any()


def test_dropout_is_off_in_evaluation_and_the_layers_are_restored() -> None:
    torch.manual_seed(4)
    model = model_of(KINDS["llama"](), dropout=0.5)
    ids = torch.randint(0, 60, (1, sum(LENGTHS)))
    row = row_of(LENGTHS)
    with packed_attention(model), torch.no_grad():
        expected = logits(model.eval(), ids, sequence_lengths=LENGTHS)
        with whole_layers(model):
            keywords = {"sequence_starts": row.starts, "longest_sequence": row.longest}
            torch.testing.assert_close(logits(model, ids, **keywords), expected, rtol=1e-4, atol=1e-5)
            # Without a packed row, as in generation, the layers' own forward pass answers.
            assert torch.equal(logits(model, ids, sequence_lengths=LENGTHS), expected)
    assert all("forward" not in vars(layer) for layer in model.get_base_model().model.layers)


def linear(inputs: int, outputs: int, rank: int = 4, dropout: float = 0.3) -> Any:
    layer = torch.nn.Sequential(torch.nn.Linear(inputs, outputs))
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=dropout, target_modules=["0"])
    model: Any = get_peft_model(layer, config)  # type: ignore[arg-type]
    module = model.base_model.model[0]
    torch.nn.init.normal_(module.lora_B["default"].weight)
    return module


@pytest.mark.parametrize("count", [1, 2, 3])
def test_products_with_noise_are_those_of_the_kept_values(count: int) -> None:
    torch.manual_seed(4)
    group = Group([linear(150, 40 + number) for number in range(count)], "default")
    x = torch.randn(70, 150)
    [noise] = kernels.drawn([0.3])
    leaves = [tensor.detach().clone().requires_grad_() for tensor in (x, *group.downs, *group.ups)]
    expected = []
    for number, member in enumerate(group.members):
        own = Noise(noise.seed + number, noise.below)
        keep = kernels.kept((70, 150), own) * own.factor
        low = (leaves[0] * keep) @ leaves[1 + number].t()
        expected.append(
            leaves[0] @ member.weight.t() + member.bias + 2.0 * low @ leaves[1 + count + number].t()
        )
    slopes = [torch.randn_like(y) for y in expected]
    wanted = torch.autograd.grad(expected, leaves, slopes)
    adapters = Adapters(torch.stack(list(group.downs)).detach(), [up.detach() for up in group.ups])
    with torch.no_grad():
        ys, low = group.forward(kernels, x, adapters, noise)
        for y, known in zip(ys, expected, strict=True):
            torch.testing.assert_close(y, known, rtol=1e-4, atol=1e-3)
        for_x, learned = group.backward(kernels, slopes, x, low, adapters, noise)
    for found, known in zip((for_x, *learned), wanted, strict=True):
        torch.testing.assert_close(found, known, rtol=1e-3, atol=5e-3)


def test_noise_drops_the_wanted_part_without_a_pattern() -> None:
    probability, shape = 0.1, (700, 1100)
    noise = Noise(12345, round(probability * LEVELS))
    dropped = ~kernels.kept(shape, noise)
    spread = (probability * (1 - probability)) ** 0.5
    # 5 standard errors, of everything, of the worst row and of the worst column
    assert abs(dropped.double().mean() - probability) < 5 * spread / (shape[0] * shape[1]) ** 0.5
    for dim, count in ((0, shape[0]), (1, shape[1])):
        assert (dropped.double().mean(dim=dim) - probability).abs().max() < 5 * spread / count**0.5
    centred = dropped.double() - probability
    pairs = [
        (centred[1:], centred[:-1]),  # the row above
        (centred[:, 1:], centred[:, :-1]),
        (centred[1:, 1:], centred[:-1, :-1]),
        (centred, (~kernels.kept(shape, Noise(12346, noise.below))).double() - probability),
    ]
    for one, other in pairs:
        assert abs((one * other).mean() / spread**2) < 5 / one.numel() ** 0.5


def test_other_layers_and_adapters_are_left_to_the_model() -> None:
    assert not serves_layers(
        model_of(Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8)))
    )  # norms in attention
    assert not serves_layers(LlamaForCausalLM(LlamaConfig(**SHAPE)))
    assert not serves_layers(model_of(LlamaForCausalLM(LlamaConfig(**SHAPE, hidden_act="gelu"))))
    model = model_of(KINDS["llama"]())
    model.get_base_model().model.layers[1].mlp.down_proj.base_layer.weight.requires_grad_(True)
    assert not serves_layers(model)
    dora = LoraConfig(r=4, target_modules=ALL, use_dora=True)
    assert not serves_layers(get_peft_model(KINDS["llama"](), dora))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("shape", [(48, 64), (37, 128)])
def test_4_bit_weights_are_unpacked_as_bitsandbytes_does(shape: tuple[int, int], nested: bool) -> None:
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    torch.manual_seed(4)
    packed, state = quantize_4bit(
        torch.randn(shape), blocksize=64, compress_statistics=nested, quant_type="nf4"
    )
    found = kernels.unpack(packed, state, torch.float32)
    torch.testing.assert_close(found, dequantize_4bit(packed, state), rtol=1e-6, atol=1e-7)


def test_layers_are_copied_with_their_adapters_untouched() -> None:
    model = model_of(KINDS["llama"]())
    before = copy.deepcopy(model.state_dict())
    with packed_attention(model), whole_layers(model):
        pass
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def described(found: Any) -> Any:
    if isinstance(found, Tensor):
        return found.shape, found.dtype
    return [described(each) for each in found] if isinstance(found, tuple | list) else None


def test_stand_ins_for_planning_give_what_the_kernels_give() -> None:
    torch.manual_seed(4)
    noise, row = Noise(3, 6554), row_of(LENGTHS)
    tokens, width, rank = sum(LENGTHS), 150, 4
    x, down, slope = torch.randn(tokens, width), torch.randn(2, rank, width), torch.randn(2, tokens, rank)
    q, k = torch.randn(tokens, 4, 8), torch.randn(tokens, 2, 8)
    calls: dict[str, Any] = {
        "drop_down": (x, down, noise, 1.0),
        "drop_up": (slope, down, noise, 1.0),
        "down_gradient": (slope, x, noise, 1.0),
        "norm": (x, x[0], 1e-6, x),
        "norm_backward": (x, x, x[0], x[:, 0].contiguous(), x),
        "swiglu": (x, x),
        "swiglu_backward": (x, x.clone(), x.clone()),
        "rotate": (q.view(tokens, -1), 4, torch.ones(tokens, 8), torch.zeros(tokens, 8)),
    }
    for name, arguments in calls.items():
        found = getattr(kernels, name)(*arguments)
        assert described(getattr(Shapes, name)(*arguments)) == described(found), name
    mixed, kept = kernels.attend(q, k, k, row, 1.0)
    assert described(Shapes.attend(q, k, k, row, 1.0)[0]) == described(mixed)
    rest = (mixed, q, k, k, mixed, kept, row, 1.0)
    assert described(Shapes.attend_backward(*rest)) == described(tuple(kernels.attend_backward(*rest)))
