"""The lean forward pass gives the plain loss and gradients, and gives way where it would not."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_models import SHAPE, adapted
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
)

from mathreason.data.packing import IGNORED, block_features
from mathreason.data.prompts import Example
from mathreason.errors import MathreasonError
from mathreason.models import attention_window
from mathreason.training.forward import Forward, _in_force, forward_of, plain_forward, prove_packing
from mathreason.training.last_layer import trimmable
from mathreason.training.loss import linear_cross_entropy

EXAMPLES = [
    Example(ids=[3, 8, 20, 41, 7, 2], prompt_tokens=2),
    Example(ids=[5, 9, 33, 2], prompt_tokens=3),
    Example(ids=[11, 17, 18, 19, 21, 50, 2], prompt_tokens=4),
]

LONGEST = max(len(example.ids) for example in EXAMPLES)


def model_of(targets: list[str] | None = None, model: Any = None) -> Any:
    torch.manual_seed(4)
    model = model or LlamaForCausalLM(LlamaConfig(**SHAPE))
    return adapted(model, targets or ["q_proj", "v_proj", "down_proj"])


def batch_of(examples: list[Example]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([values]) for name, values in block_features(examples).items()}


def gradients(model: Any) -> list[torch.Tensor]:
    found = [p.grad.clone() for p in model.parameters() if p.requires_grad]
    model.zero_grad()
    return found


def test_loss_and_gradients_are_those_of_each_example_alone() -> None:
    model = model_of()
    reference = copy.deepcopy(model)
    plain = sum(Forward().summed_loss(reference, batch_of([example])) for example in EXAMPLES)
    plain.backward()  # type: ignore[union-attr]
    with forward_of(model, EXAMPLES[0], LONGEST) as forward:
        assert forward.by_sequence
        assert forward.head is not None
        loss = forward.summed_loss(model, batch_of(EXAMPLES))
        loss.backward()
    torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-5)
    for one, other in zip(gradients(model), gradients(reference), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("trims", [False, True])
def test_a_row_that_is_filled_up_gives_the_same_loss_and_gradients(trims: bool) -> None:
    model = model_of()
    at_loss = tuple(trimmable(model)) if trims else ()
    exact = Forward(model.get_output_embeddings(), by_sequence=True, at_loss=at_loss)
    found = []
    for multiple in (1, 8, 64):  # 17 tokens and 8 labels; in 64 there are fewer others than would be needed
        with _in_force(model, replace(exact, multiple=multiple)):
            loss = replace(exact, multiple=multiple).summed_loss(model, batch_of(EXAMPLES))
            loss.backward()
        found.append((loss.detach(), gradients(model)))
    for loss, learned in found[1:]:
        torch.testing.assert_close(loss, found[0][0])
        for one, other in zip(learned, found[0][1], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("dtype", "tokens"), [(torch.float32, 17), (torch.bfloat16, 64)])
def test_rows_are_filled_up_where_shapes_that_come_again_are_quicker(dtype: torch.dtype, tokens: int) -> None:
    model = model_of().to(dtype)
    seen: list[int] = []
    attended: list[list[int]] = []

    def note(_: Any, __: Any, keywords: dict[str, Any]) -> None:
        seen.append(keywords["input_ids"].shape[1])
        attended.append(keywords.get("sequence_lengths", []))

    model.register_forward_pre_hook(note, with_kwargs=True)
    with forward_of(model, EXAMPLES[0], LONGEST) as forward:
        forward.summed_loss(model, batch_of(EXAMPLES))
    assert seen[-1] == tokens
    # What fills up continues the last sequence: of its own each token would be another call.
    assert attended[-1] == [6, 4, tokens - 10]


def test_afterwards_the_model_gives_logits_again() -> None:
    model = model_of()
    ids = torch.tensor([EXAMPLES[2].ids])
    before = model.eval()(input_ids=ids, use_cache=False).logits
    with forward_of(model, EXAMPLES[0], LONGEST) as forward:
        forward.summed_loss(model, batch_of(EXAMPLES))
    assert torch.equal(model(input_ids=ids, use_cache=False).logits, before)


def test_an_error_in_the_forward_pass_leaves_the_head_as_it_was() -> None:
    model = model_of()
    with forward_of(model, EXAMPLES[0], LONGEST) as forward, pytest.raises(IndexError):
        forward.summed_loss(model, batch_of([Example(ids=[70, 80], prompt_tokens=1)]))
    assert "forward" not in vars(model.get_output_embeddings())


def test_a_head_with_an_adapter_is_left_to_the_model() -> None:
    model = model_of(["q_proj", "lm_head"])
    with forward_of(model, EXAMPLES[0], LONGEST) as forward:
        assert forward.head is None
        assert forward.by_sequence
        forward.summed_loss(model, batch_of(EXAMPLES)).backward()
    assert all(grad.any() for grad in gradients(model))


def test_capped_logits_are_left_to_the_model() -> None:
    config = Gemma2Config(**SHAPE, head_dim=8, final_logit_softcapping=0.5, sliding_window=64)
    model = model_of(["q_proj"], Gemma2ForCausalLM(config))
    plain = Forward().summed_loss(model, batch_of([EXAMPLES[2]])).item()
    with forward_of(model, EXAMPLES[0], LONGEST) as forward:
        assert forward.head is None
        assert forward.summed_loss(model, batch_of([EXAMPLES[2]])).item() == pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize("trims", [False, True])
def test_a_batch_in_main_memory_is_brought_to_a_model_that_is_elsewhere(
    trims: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of().to("meta")
    given: dict[str, str] = {}

    def note(**tensors: Any) -> None:
        given.update({k: v.device.type for k, v in tensors.items() if isinstance(v, torch.Tensor)})

    def loss_of(hidden: torch.Tensor, weight: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        note(hidden=hidden, wanted=wanted)
        return linear_cross_entropy(hidden, weight, wanted)

    model.register_forward_pre_hook(lambda _, __, keywords: note(**keywords), with_kwargs=True)
    monkeypatch.setattr("mathreason.training.forward.linear_cross_entropy", loss_of)
    at_loss = tuple(trimmable(model)) if trims else ()
    forward = Forward(model.get_output_embeddings(), by_sequence=True, at_loss=at_loss)
    batch = batch_of(EXAMPLES[:2])
    with _in_force(model, forward):
        forward.summed_loss(model, batch)
    assert {tensor.device.type for tensor in batch.values()} == {"cpu"}
    assert {"input_ids", "position_ids", "logits_to_keep", "hidden", "wanted"} <= set(given)
    assert set(given.values()) == {"meta"}


def test_eager_attention_keeps_the_models_own_mask() -> None:
    model = model_of(None, LlamaForCausalLM(LlamaConfig(**SHAPE, attn_implementation="eager")))
    with forward_of(model, EXAMPLES[0], LONGEST) as forward:
        assert not forward.by_sequence
        assert forward.head is not None
        assert forward.keywords(torch.tensor([[0, 1, 0]]), model.device) == {}


@pytest.mark.parametrize(("window", "by_sequence"), [(LONGEST, True), (4, False)])
def test_a_window_shorter_than_an_example_stays_in_force(window: int, by_sequence: bool) -> None:
    config = MistralConfig(**SHAPE, sliding_window=window)
    model = model_of(None, MistralForCausalLM(config))
    plain = Forward().summed_loss(model, batch_of([EXAMPLES[2]])).item()
    without = model_of(None, MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=None)))
    unlimited = Forward().summed_loss(without, batch_of([EXAMPLES[2]])).item()
    # The window must matter here, or the loss without it would be right by chance.
    assert (plain == pytest.approx(unlimited, rel=1e-5)) is by_sequence
    with forward_of(model, EXAMPLES[1], LONGEST) as forward:  # an example that the window does not touch
        assert forward.by_sequence is by_sequence
        assert forward.summed_loss(model, batch_of([EXAMPLES[2]])).item() == pytest.approx(plain, rel=1e-5)


def test_a_window_that_is_switched_off_or_a_chunk_limits_what_it_says() -> None:
    assert attention_window(MistralConfig(**SHAPE, sliding_window=None)) is None
    assert attention_window(Qwen2Config(**SHAPE, sliding_window=9, use_sliding_window=False)) is None
    assert attention_window(Qwen2Config(**SHAPE, sliding_window=9, use_sliding_window=True)) == 9
    assert attention_window(LlamaConfig(**SHAPE, attention_chunk_size=6)) == 6


def test_flash_attention_gets_a_single_row_also_where_the_engine_divides_weights() -> None:
    model = LlamaForCausalLM(LlamaConfig(**SHAPE))
    assert not plain_forward(model).varlen
    model.config._attn_implementation = "flash_attention_2"
    assert plain_forward(model).varlen


def test_attention_that_needs_a_single_row_gets_one() -> None:
    model = model_of()
    seen: list[torch.Size] = []
    model.register_forward_pre_hook(lambda *args: seen.append(args[2]["input_ids"].shape), with_kwargs=True)
    rows = [block_features(EXAMPLES[:2]), block_features(EXAMPLES[1:])]
    longest = max(len(row["input_ids"]) for row in rows)
    batch = {
        name: torch.tensor([row[name] + [0] * (longest - len(row[name])) for row in rows]) for name in rows[0]
    }
    lengths = [len(row["input_ids"]) for row in rows]
    found = Forward(varlen=True).summed_loss(model, {**batch, "lengths": torch.tensor(lengths)})
    assert seen == [(1, sum(lengths))]
    apart = [Forward().summed_loss(model, batch_of(part)) for part in (EXAMPLES[:2], EXAMPLES[1:])]
    torch.testing.assert_close(found, apart[0] + apart[1], rtol=1e-4, atol=1e-4)


def test_rows_of_different_labels_count_only_their_own() -> None:
    model = model_of()
    one, other = batch_of([EXAMPLES[0]]), batch_of([EXAMPLES[2]])
    short = other["input_ids"].shape[1] - one["input_ids"].shape[1]
    padded = {
        "input_ids": torch.nn.functional.pad(one["input_ids"], (0, short)),
        "labels": torch.nn.functional.pad(one["labels"], (0, short), value=IGNORED),
        "position_ids": torch.cat([one["position_ids"], torch.arange(short)[None]], dim=1),
    }
    both = {name: torch.cat([padded[name], other[name]]) for name in padded}
    expected = sum(Forward().summed_loss(model, batch_of([e])) for e in (EXAMPLES[0], EXAMPLES[2]))
    for head in (None, model.get_output_embeddings()):
        found = Forward(head).summed_loss(model, both)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_packing_is_proven_and_a_leak_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of()
    with forward_of(model, EXAMPLES[0], LONGEST) as forward:
        prove_packing(model, forward, *EXAMPLES[:2])
        leaky = Forward(forward.head, by_sequence=True)
        monkeypatch.setattr(Forward, "keywords", lambda _, ids, __: {"sequence_lengths": [ids.shape[1]]})
        with pytest.raises(MathreasonError, match="see each other"):
            prove_packing(model, leaky, *EXAMPLES[:2])
