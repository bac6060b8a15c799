"""The engine's responses are those of one prompt at a time by plain `generate`, whatever the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from support import run_script

from mathreason.config import PromptConfig
from mathreason.data.generator import generate
from mathreason.data.prompts import Prompter
from mathreason.errors import MathreasonError
from mathreason.evaluation import transformers_engine
from mathreason.evaluation.engine import Request, Response, Sampling
from mathreason.evaluation.transformers_engine import TransformersEngine, sample, shared_prefix_length
from mathreason.models import LoadedModel, load_model
from mathreason.progress import Reporter

LIMIT = 24


def load(dtype: str = "float32") -> LoadedModel:
    from mathreason.config import ModelConfig

    return load_model(ModelConfig(name="embedded", quantization="none", dtype=dtype), Reporter(quiet=True))


@pytest.fixture(scope="module")
def plain() -> LoadedModel:
    return load()


@pytest.fixture(scope="module")
def adapted() -> LoadedModel:
    """The embedded model with an adapter that changes what it says."""
    from peft import LoraConfig, get_peft_model

    loaded = load()
    torch.manual_seed(3)
    model = get_peft_model(
        loaded.model, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "up_proj", "down_proj"])
    )
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return LoadedModel(model.eval(), loaded.tokenizer, loaded.facts)


@pytest.fixture(scope="module")
def prompts(tokenizer: Any) -> list[list[int]]:
    """Prompts of many lengths with one beginning."""
    prompter = Prompter(PromptConfig(), tokenizer)
    rendered = [prompter.prompt(p.question) for p in generate("test", count=12, seed=77)]
    rendered += [f"{rendered[0]} {start}" for start in ("Tom has", "12 + 7 =", "Anna")]
    return [prompter.prompt_ids(text) for text in rendered]


def alone(loaded: LoadedModel, prompt: list[int], limit: int = LIMIT) -> list[int]:
    """Token ids of a single greedy sequence by transformers' own generate."""
    with torch.no_grad():
        output = loaded.model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=limit,
            pad_token_id=loaded.tokenizer.pad_token_id,
        )
    ids: list[int] = output[0, len(prompt) :].tolist()
    return ids


def text_of(loaded: LoadedModel, ids: list[int]) -> str:
    text: str = loaded.tokenizer.decode(ids, skip_special_tokens=True)
    return text


def requests(prompts: Sequence[Sequence[int]], seed: int = 0) -> list[Request]:
    return [Request(id, "", ids, seed + id) for id, ids in enumerate(prompts)]


def answers(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], batch_size: int = 4, **sampling: Any
) -> list[Response]:
    settings = Sampling(**{"max_new_tokens": LIMIT, **sampling})
    engine = TransformersEngine(loaded, settings, batch_size, Reporter(quiet=True))
    found = dict(engine.generate(requests(prompts)))
    assert sorted(found) == list(range(len(prompts)))
    return [found[id] for id in range(len(prompts))]


@pytest.mark.parametrize("shared", [True, False], ids=["shared prefix", "no prefix"])
@pytest.mark.parametrize("batch_size", [1, 3, 16])
@pytest.mark.parametrize("adapter", ["none", "on", "off"])
def test_greedy_responses_equal_single_sequences(
    plain: LoadedModel,
    adapted: LoadedModel,
    prompts: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
    adapter: str,
    batch_size: int,
    shared: bool,
) -> None:
    loaded = plain if adapter == "none" else adapted
    if not shared:
        monkeypatch.setattr(transformers_engine, "SHORTEST_PREFIX", 10**6)
    assert (shared_prefix_length(prompts) > 0) is shared
    with loaded.model.disable_adapter() if adapter == "off" else nullcontext():
        expected = [text_of(loaded, alone(loaded, prompt)) for prompt in prompts]
        found = answers(loaded, prompts, batch_size)
    assert [response.text for response in found] == expected
    assert len(set(expected)) > 6  # the model is not degenerate
    assert loaded.facts["fallbacks"] == []


def test_an_adapter_changes_the_responses(adapted: LoadedModel, prompts: list[list[int]]) -> None:
    with adapted.model.disable_adapter():
        off = answers(adapted, prompts)
    assert [r.text for r in off] != [r.text for r in answers(adapted, prompts)]


def test_prompts_read_together_give_the_same_responses(
    plain: LoadedModel, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    one_by_one = answers(plain, prompts, 5)
    monkeypatch.setattr(transformers_engine, "PROMPTS_READ_TOGETHER", {"cpu": 3})
    assert answers(plain, prompts, 5) == one_by_one


def test_in_bfloat16_a_response_does_not_depend_on_its_neighbours(prompts: list[list[int]]) -> None:
    loaded = load("bfloat16")
    engine = TransformersEngine(loaded, Sampling(LIMIT), 5, Reporter(quiet=True))
    whole = dict(engine.generate(requests(prompts)))
    for done in ({0, 3, 4, 8}, set(range(1, 14)), set(range(0, 15, 2))):
        rest = dict(engine.generate(requests(prompts), done))
        assert rest == {id: response for id, response in whole.items() if id not in done}


def test_stop_text_ends_a_response_and_is_cut_off(plain: LoadedModel, prompts: list[list[int]]) -> None:
    ids = alone(plain, prompts[0])
    whole = text_of(plain, ids)
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    response = answers(plain, prompts, stop=(stop,))[0]
    assert response.text == whole[: whole.index(stop)]
    assert response.finish_reason == "stop"
    assert stop in text_of(plain, ids[: response.tokens])
    assert stop not in text_of(plain, ids[: response.tokens - 1])


def test_response_without_an_end_is_truncated(plain: LoadedModel, prompts: list[list[int]]) -> None:
    for response, prompt in zip(answers(plain, prompts, max_new_tokens=2), prompts, strict=True):
        if response.finish_reason == "length":
            assert (response.tokens, response.text) == (2, text_of(plain, alone(plain, prompt, 2)))
            return
    pytest.fail("every response ended within two tokens")


def test_attention_is_as_before_after_and_between_responses(
    plain: LoadedModel, prompts: list[list[int]]
) -> None:
    before = plain.model.config._attn_implementation
    responses: Iterator[Any] = TransformersEngine(plain, Sampling(LIMIT), 2, Reporter(quiet=True)).generate(
        requests(prompts)
    )
    next(responses)
    assert plain.model.config._attn_implementation == before
    responses.close()  # type: ignore[attr-defined]
    assert plain.model.config._attn_implementation == before


# -- sampling --------------------------------------------------------------------------------------


def test_sampled_responses_depend_on_their_seed_and_not_on_the_batch(
    plain: LoadedModel, prompts: list[list[int]]
) -> None:
    hot = {"temperature": 1.0, "top_p": 0.9}
    assert answers(plain, prompts, 4, **hot) == answers(plain, prompts, 4, **hot)
    assert [r.text for r in answers(plain, prompts, 1, **hot)] == [
        r.text for r in answers(plain, prompts, 7, **hot)
    ]
    engine = TransformersEngine(plain, Sampling(LIMIT, **hot), 4, Reporter(quiet=True))  # type: ignore[arg-type]
    other = dict(engine.generate(requests(prompts, seed=1000)))
    assert [other[id].text for id in sorted(other)] != [r.text for r in answers(plain, prompts, 4, **hot)]


def test_samples_follow_the_tempered_distribution() -> None:
    logits = torch.log(torch.tensor([0.6, 0.3, 0.1]))
    generator = torch.Generator().manual_seed(0)
    settings = Sampling(1, temperature=2.0)
    drawn = [sample(logits, settings, generator) for _ in range(4000)]
    roots = torch.tensor([0.6, 0.3, 0.1]).sqrt()
    shares = torch.bincount(torch.tensor(drawn), minlength=3) / len(drawn)
    assert torch.allclose(shares, roots / roots.sum(), atol=0.03)


def test_a_nucleus_holds_the_fewest_likely_tokens_that_reach_top_p() -> None:
    logits = torch.log(torch.tensor([0.1, 0.5, 0.1, 0.3]))
    generator = torch.Generator().manual_seed(0)
    for top_p, allowed in ((0.49, {1}), (0.51, {1, 3}), (0.79, {1, 3}), (0.81, {0, 1, 3})):
        drawn = {sample(logits, Sampling(1, temperature=1.0, top_p=top_p), generator) for _ in range(300)}
        assert drawn == allowed


# -- what cannot be served -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sliding_window": 30}, "attention window of 30"),
        ({"attention_chunk_size": 30}, "attention window of 30"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
            "depend on the length",
        ),
    ],
)
def test_a_model_that_slots_cannot_serve_falls_back_and_says_so(
    prompts: list[list[int]], change: dict[str, Any], said: str
) -> None:
    loaded = load()
    for name, value in change.items():
        setattr(loaded.model.config, name, value)
    expected = [text_of(loaded, alone(loaded, prompt)) for prompt in prompts]
    assert [response.text for response in answers(loaded, prompts, 3)] == expected
    assert said in loaded.facts["fallbacks"][0]


def test_a_wrong_batch_is_caught_by_the_probe(
    prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load()
    expected = [text_of(loaded, alone(loaded, prompt)) for prompt in prompts]
    right = transformers_engine.Slots.attend

    def wrong(self: Any, layer: int, query: Any, keys: Any, values: Any, scaling: float) -> Any:
        return right(self, layer, query, keys, values, scaling * 1.5)

    monkeypatch.setattr(transformers_engine.Slots, "attend", wrong)
    assert [response.text for response in answers(loaded, prompts, 4)] == expected
    assert "a probe of the batch differs" in loaded.facts["fallbacks"][0]


def test_a_damaged_model_is_refused(prompts: list[list[int]]) -> None:
    loaded = load()
    with torch.no_grad():
        loaded.model.lm_head.weight[5] = torch.nan
    with pytest.raises(MathreasonError, match="not numbers"):
        answers(loaded, prompts)


def test_the_batch_shrinks_when_memory_runs_out_and_nothing_is_lost() -> None:
    """In a process whose address space does not hold the batch that was asked for."""
    done = run_script(Path(__file__).with_name("out_of_memory.py"))
    assert done.returncode == 0, done.stderr
    assert "memory ran out with 4096 responses at once; going on with 2048" in done.stdout
    assert done.stdout.splitlines()[-1] == "equal"
