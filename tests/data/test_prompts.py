"""One prompt for training and evaluation: its texts, its tokens and its hash."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from mathreason.config import PromptConfig
from mathreason.data.problem import Problem
from mathreason.data.prompts import Prompter
from mathreason.errors import InputError

PROBLEM = Problem("Tom has 3 apples and buys 4. How many?", "3 + 4 = 7", "7", "s", "s/0")
CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@pytest.fixture
def chat_tokenizer(tokenizer: Any) -> Any:
    with_template = copy.deepcopy(tokenizer)
    with_template.chat_template = CHAT
    return with_template


@pytest.fixture(scope="module")
def sentencepiece_like() -> Any:
    """A tokenizer that puts its word mark before a text's first word, as Llama's and Mistral's do."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    inner.decoder = decoders.Metaspace(prepend_scheme="first")
    corpus = [
        "Question: Tom has 3 apples and buys 4. How many?\nAnswer: 3 + 4 = 7\n#### 7 Solve step by End line"
    ]
    inner.train_from_iterator(
        corpus * 3, trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"])
    )
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def test_plain_prompt_reads_as_documented(tokenizer: Any) -> None:
    prompter = Prompter(PromptConfig(), tokenizer)
    assert prompter.style == "plain"
    assert prompter.prompt(PROBLEM.question) == (
        "Solve the problem step by step. End with a line that holds #### and the final answer.\n\n"
        "Question: Tom has 3 apples and buys 4. How many?\nAnswer:"
    )
    assert prompter.completion(PROBLEM) == " 3 + 4 = 7\n#### 7"


def test_chat_template_is_used_when_there_is_one(chat_tokenizer: Any) -> None:
    prompter = Prompter(PromptConfig(), chat_tokenizer)
    assert prompter.style == "chat"
    prompt = prompter.prompt("Q?")
    assert prompt.startswith("<|user|>\nSolve the problem")
    assert prompt.endswith("Q?</s>\n<|assistant|>\n")
    assert Prompter(PromptConfig(style="plain"), chat_tokenizer).style == "plain"


def test_chat_style_without_a_template_is_refused(tokenizer: Any) -> None:
    with pytest.raises(InputError, match="no chat template"):
        Prompter(PromptConfig(style="chat"), tokenizer)


def test_few_shot_examples_come_before_the_question(tokenizer: Any, chat_tokenizer: Any) -> None:
    plain = Prompter(PromptConfig(), tokenizer, [PROBLEM]).prompt("Q?")
    assert plain.endswith("How many?\nAnswer: 3 + 4 = 7\n#### 7\n\nQuestion: Q?\nAnswer:")
    chat = Prompter(PromptConfig(), chat_tokenizer, [PROBLEM]).prompt("Q?")
    assert chat.count("<|assistant|>") == 2


@pytest.mark.parametrize("style", ["plain", "chat", "sentencepiece"])
def test_training_tokens_begin_with_exactly_the_evaluation_prompt(
    style: str, request: pytest.FixtureRequest
) -> None:
    name = {"plain": "tokenizer", "chat": "chat_tokenizer", "sentencepiece": "sentencepiece_like"}[style]
    tokenizer = request.getfixturevalue(name)
    prompter = Prompter(PromptConfig(), tokenizer)
    example = prompter.encode(PROBLEM)
    prompt_ids = prompter.prompt_ids(prompter.prompt(PROBLEM.question))
    assert example.ids[: example.prompt_tokens] == prompt_ids
    assert example.ids[-1] == tokenizer.eos_token_id
    trained = tokenizer.decode(example.ids[example.prompt_tokens : -1])
    assert trained.strip() == prompter.completion(PROBLEM).strip()


def test_token_that_spans_the_border_does_not_change_the_prompt(sentencepiece_like: Any) -> None:
    prompter = Prompter(PromptConfig(), sentencepiece_like)
    prompter.completion = lambda problem: "".join(["s", problem.answer])  # type: ignore[method-assign]
    example = prompter.encode(PROBLEM)
    prompt_ids = prompter.prompt_ids(prompter.prompt(PROBLEM.question))
    assert example.ids[: example.prompt_tokens] == prompt_ids


def test_hash_changes_with_everything_that_shapes_a_prompt(tokenizer: Any, chat_tokenizer: Any) -> None:
    variants = [
        Prompter(PromptConfig(), tokenizer),
        Prompter(PromptConfig(instruction="Answer."), tokenizer),
        Prompter(PromptConfig(instruction=""), tokenizer),
        Prompter(PromptConfig(), tokenizer, [PROBLEM]),
        Prompter(PromptConfig(), chat_tokenizer),
    ]
    assert len({variant.hash for variant in variants}) == len(variants)
    assert Prompter(PromptConfig(), tokenizer).hash == variants[0].hash


class Fixed:
    """A published prompt whose examples change with the position."""

    def __init__(self, examples: str) -> None:
        self.identity = {"examples": examples}

    def render(self, question: str, position: int) -> str:
        return f"example {position}\n{question}"


def test_published_prompt_takes_the_place_of_instruction_style_and_shots(
    tokenizer: Any, chat_tokenizer: Any
) -> None:
    for config in (PromptConfig(), PromptConfig(style="chat", instruction="Sing.")):
        for each in (tokenizer, chat_tokenizer):
            prompter = Prompter(config, each, [PROBLEM], published=Fixed("a"))
            assert prompter.style == "plain"
            assert prompter.prompt("Q?", 7) == "example 7\nQ?"


def test_hash_tells_published_prompts_apart_that_begin_alike(tokenizer: Any) -> None:
    first, second, again = (Prompter(PromptConfig(), tokenizer, published=Fixed(e)).hash for e in "aba")
    assert first == again
    assert len({first, second, Prompter(PromptConfig(), tokenizer).hash}) == 3


def test_messages_are_the_turns_a_chat_template_is_given(tokenizer: Any, chat_tokenizer: Any) -> None:
    turns = [
        {"role": "user", "content": "Sum.\n\nTom has 3 apples and buys 4. How many?"},
        {"role": "assistant", "content": "3 + 4 = 7\n#### 7"},
        {"role": "user", "content": "Sum.\n\nQ?"},
    ]
    for each in (tokenizer, chat_tokenizer):
        assert Prompter(PromptConfig(instruction="Sum."), each, [PROBLEM]).messages("Q?") == turns
    published = Prompter(PromptConfig(), chat_tokenizer, [PROBLEM], published=Fixed("a"))
    assert published.messages("Q?", 7) == [{"role": "user", "content": "example 7\nQ?"}]
