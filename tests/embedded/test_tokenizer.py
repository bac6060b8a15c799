from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from mathreason.config import INSTRUCTION
from mathreason.data.generator import generate
from mathreason.embedded import model_path

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TOKENIZER: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(model_path(), local_files_only=True)


@given(st.text(max_size=60))
def test_any_text_comes_back_unchanged(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


@pytest.mark.parametrize(
    "text", ["", "  two  spaces , kept .", "naïve café — ½ 数学 🙂\r\n\t", "</s>", "don 't"]
)
def test_awkward_text_comes_back_unchanged(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


@given(st.from_regex(r"[ a-z]?[0-9]{1,6}[ .,a-z]?[0-9]{0,3}", fullmatch=True))
def test_every_digit_is_a_token_of_its_own(text: str) -> None:
    tokens = [TOKENIZER.decode([token]) for token in TOKENIZER(text)["input_ids"]]
    assert [token for token in tokens if any(c.isdigit() for c in token)] == [c for c in text if c.isdigit()]


def test_no_token_is_added_by_itself_and_the_special_tokens_are_distinct() -> None:
    assert TOKENIZER.tokenize("Tom has 12") == ["Tom", "Ġhas", "Ġ", "1", "2"]
    ids = [TOKENIZER.bos_token_id, TOKENIZER.eos_token_id, TOKENIZER.pad_token_id]
    assert len(set(ids)) == 3
    assert not set(TOKENIZER("Tom has 12")["input_ids"]) & set(ids)
    assert TOKENIZER.chat_template is None


def test_the_prompt_is_written_in_whole_words() -> None:
    assert len(TOKENIZER.tokenize(INSTRUCTION)) <= 1.5 * len(INSTRUCTION.split())
    assert TOKENIZER.tokenize("Question:") == ["Question", ":"]
    assert TOKENIZER.tokenize("\nAnswer:") == ["Ċ", "Answer", ":"]


def test_stories_take_few_tokens_and_other_english_tolerably_few() -> None:
    for problem in generate("test", 200, seed=1001):
        assert len(TOKENIZER.tokenize(problem.question)) <= 120
    english = (
        "A bakery sold three hundred loaves of bread last week, and the owner wants to know how much money "
        "she earned after paying her workers."
    )
    assert len(TOKENIZER.tokenize(english)) <= 0.45 * len(english)
