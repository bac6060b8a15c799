"""The engine's batched greedy responses are those of one prompt at a time by plain `generate`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mathreason.config import PromptConfig
from mathreason.data.generator import generate
from mathreason.data.prompts import Prompter
from mathreason.evaluation.engine import TransformersEngine

LIMIT = 24


@pytest.fixture(scope="module")
def model() -> Any:
    from mathreason.config import ModelConfig
    from mathreason.models import load_model
    from mathreason.progress import Reporter

    return load_model(
        ModelConfig(name="embedded", quantization="none", dtype="float32"), Reporter(quiet=True)
    )


@pytest.fixture(scope="module")
def prompts(tokenizer: Any) -> list[list[int]]:
    prompter = Prompter(PromptConfig(), tokenizer)
    texts = ["Tom has 5 apples. Tom gets 3 apples. Now", "12 + 7 =", "Anna has"]
    rendered = [prompter.prompt(p.question) for p in generate("test", count=4, seed=77)]
    return [prompter.prompt_ids(text) for text in texts + rendered]


def alone(model: Any, prompt: list[int]) -> str:
    with torch.no_grad():
        output = model.model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=LIMIT,
            pad_token_id=model.tokenizer.pad_token_id,
        )
    text: str = model.tokenizer.decode(output[0, len(prompt) :], skip_special_tokens=True)
    return text


def test_batched_responses_equal_single_ones(model: Any, prompts: list[list[int]]) -> None:
    expected = [alone(model, prompt) for prompt in prompts]
    engine = TransformersEngine(model, LIMIT, stop=[])
    for size in (1, 3, len(prompts)):
        batches = [prompts[start : start + size] for start in range(0, len(prompts), size)]
        responses = [response for batch in batches for response in engine.generate(batch)]
        assert [response.text for response in responses] == expected
    assert len(set(expected)) > 3  # the model is not degenerate


def test_stop_text_ends_a_response_and_is_cut_off(model: Any, prompts: list[list[int]]) -> None:
    whole = alone(model, prompts[0])
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    [response] = TransformersEngine(model, LIMIT, stop=[stop]).generate([prompts[0]])
    assert response.text == whole[: whole.index(stop)]
    assert response.finish_reason == "stop"
    assert 0 < response.tokens <= LIMIT
    # The same in a batch whose other rows go on for longer.
    batched = TransformersEngine(model, LIMIT, stop=[stop]).generate(prompts[:3])
    assert batched[0] == response


def test_response_without_an_end_is_truncated(model: Any, prompts: list[list[int]]) -> None:
    [response] = TransformersEngine(model, 2, stop=[]).generate([prompts[0]])
    assert (response.finish_reason, response.tokens) == ("length", 2)


def test_sampling_settings_that_a_model_ships_with_do_not_leak_in(
    model: Any, prompts: list[list[int]]
) -> None:
    generation = model.model.generation_config
    assert (generation.do_sample, generation.temperature, generation.repetition_penalty) in (
        (None, None, None),
        (False, 1.0, 1.0),
    )
    engine = TransformersEngine(model, LIMIT, stop=[])
    assert engine.generate(prompts[:2]) == engine.generate(prompts[:2])
