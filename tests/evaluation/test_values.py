"""A sentence gives the value that it states, two values give none, and equal answers one form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathreason.evaluation.markup import plain_characters
from mathreason.evaluation.normalisation import normalise_answer
from mathreason.evaluation.values import (
    HEDGE,
    MAX_CANDIDATES,
    MAX_SPAN,
    first_sentence,
    formula_value,
    leading_value,
    sentence_value,
)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (" **about 18** eggs. Next", "18 eggs"),
        (": $1,234.50!", "1,234.50"),
        ("now therefore, only 5kg", "5 kg"),
        ("2:00 p.m. today. Then 3", "2:00 p.m. today"),
        ("Rs. 500. Then 3", "500"),
        ("0.666...", "0.666..."),
        ("the 18th day; 4", "the 18th day"),
        ("", ""),
    ],
)
def test_a_first_sentence_is_cut_out_without_markup_and_filler(line: str, sentence: str) -> None:
    assert first_sentence(line) == sentence


def test_a_first_sentence_is_read_up_to_a_limit() -> None:
    assert first_sentence("x" * (MAX_SPAN + 1)) == "x" * MAX_SPAN


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("18 eggs", "18"),
        ("35 + 70 = 105", "105"),
        ("x = 5", "5"),
        ("5 = x", "5"),
        ("18 eggs (x = 3)", "18"),
        ("(B) 5", "5"),
        ("[18]", "18"),
        ("all of them, which is 9 eggs", "9"),
        ("five eggs", "5"),
        ("x^2 = 9", None),
        ("2x + 3y = 5", None),
        ("(3, 4)", None),
        ("7\\pi", None),
        ("eggs", None),
        ("", None),
    ],
)
def test_a_sentence_begins_with_its_value(sentence: str, value: str | None) -> None:
    assert leading_value(sentence) == value


@pytest.mark.parametrize(
    "sentence",
    ["7 or 8", "7 eggs or 8 eggs", "7, but it could be 8", "either 7 or 8", "between 7 and 8", "x = 7 or 8"],
)
def test_two_values_are_a_hedge(sentence: str) -> None:
    assert leading_value(sentence) is HEDGE


@pytest.mark.parametrize(
    ("sentence", "value"),
    [("120 minutes or 2 hours", "120"), ("18 or 18.00", "18"), ("7 or more", "7"), ("7 eggs or so", "7")],
)
def test_one_value_in_two_forms_is_no_hedge(sentence: str, value: str) -> None:
    assert leading_value(sentence) == value


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("In 4 weeks Claire will eat 7 dozen eggs.", "7"),
        ("She eats 7 dozen eggs in 4 weeks.", "7"),
        ("He drives 3 hours at 60 mph = 180 miles.", "180"),
        ("The total is $18 for 3 days.", "18"),
        ("The price was 5 and now is 6.", "6"),
        ("She has 9 eggs because 3 * 3 = 9 and 1 + 1 = 2.", "9"),
        ("It is not 5 but 6.", "6"),
        ("It takes five days.", "5"),
        ("It rains for 3 days.", "3"),
        ("There is nothing.", None),
        ("", None),
    ],
)
def test_a_sentence_states_its_claim_rather_than_a_circumstance(sentence: str, value: str | None) -> None:
    assert sentence_value(sentence) == value


def test_of_equal_claims_the_first_or_the_last_is_taken() -> None:
    assert sentence_value("She has 5 eggs and 6 hens.") == "5"
    assert sentence_value("She has 5 eggs and 6 hens.", prefer_last=True) == "6"
    assert sentence_value("She has 5 or 6 eggs.") is HEDGE


def test_only_the_last_candidates_of_a_sentence_are_read() -> None:
    numbers = " and ".join(f"{number} eggs" for number in range(1, MAX_CANDIDATES + 11))
    assert sentence_value(f"She has {numbers}.") == "11"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("the point \\((3, 4)\\), as shown", "(3,4)"),
        ("$2\\sqrt5$ units", "2\\sqrt{5}"),
        ("(3, 4). Next", "(3,4)"),
        ("$x$ or $y$", "x or y"),
        ("", None),
    ],
)
def test_the_one_formula_of_a_line_is_its_value(line: str, value: str | None) -> None:
    assert formula_value(line) == value


@given(st.text())
def test_any_line_states_a_value_a_hedge_or_nothing(text: str) -> None:
    line = plain_characters(text)
    for found in (leading_value(first_sentence(line)), sentence_value(line), formula_value(line)):
        assert found is None or found is HEDGE or (isinstance(found, str) and found.strip())


@given(st.integers(-(10**12), 10**12))
def test_every_integer_is_stated_in_each_place(value: int) -> None:
    for sentence in (f"{value:,} eggs", f"x = {value}", f"3 * 5 = {value}"):
        assert leading_value(sentence) == str(value)
    for sentence in (f"The total is {value:,} eggs.", f"Therefore, x = {value}."):
        assert sentence_value(sentence) == str(value)
    assert formula_value(f"it is ${value}$ here") == normalise_answer(f"{value:,} eggs") == str(value)
