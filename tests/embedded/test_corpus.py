from __future__ import annotations

import operator
import re
from itertools import islice

import pytest

from mathreason.config import INSTRUCTION
from mathreason.data.audit import Audit
from mathreason.data.generator import generate
from mathreason.embedded.corpus import documents, number_words

COUNT = 1500
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.floordiv}


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return list(islice(documents(seed=4), COUNT))


def test_every_sum_is_right(texts: list[str]) -> None:
    checked = 0
    for left, sign, right, result in re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", "\n".join(texts)):
        assert OPERATIONS[sign](int(left), int(right)) == int(result)
        checked += 1
    assert checked > 10 * COUNT


def test_nothing_of_the_prompt_or_the_answer_line_is_told(texts: list[str]) -> None:
    text = "\n".join(texts)
    for part in (INSTRUCTION, "Question:", "Answer:", "####"):
        assert part not in text


def test_nothing_is_asked_and_no_story_is_solved_after_its_end(texts: list[str]) -> None:
    assert "?" not in "\n".join(texts)


def test_documents_share_hardly_any_passage_with_test_questions(texts: list[str]) -> None:
    audit = Audit({"generator": generate("test", 300, seed=1001)})
    assert sum(bool(audit.match(text)) for text in texts) <= 0.005 * COUNT


def test_the_same_seed_gives_the_same_documents() -> None:
    assert list(islice(documents(1), 20)) == list(islice(documents(1), 20))
    assert list(islice(documents(1), 20)) != list(islice(documents(2), 20))


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (20, "twenty"),
        (47, "forty seven"),
        (100, "one hundred"),
        (113, "one hundred and thirteen"),
    ],
)
def test_number_words(number: int, expected: str) -> None:
    assert number_words(number) == expected
