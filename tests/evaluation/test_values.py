"""A short answer gives the value that it begins with, two values give none, and equal answers one form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathreason.evaluation.markup import plain_characters
from mathreason.evaluation.normalisation import normalise_answer
from mathreason.evaluation.values import (
    HEDGE,
    MAX_SPAN,
    first_sentence,
    formula_value,
    leading_value,
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
        ("$24k a year", "24 thousand a year"),
        ("24K", "24 thousand"),
        ("$5k$", "5k"),
        ("12 $5 bills", "12 of the 5 bills"),
        ("($500)", "-500"),
        ("at least 18", "18"),
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
        ("(a) 5", "5"),
        ("half of them, which is 9 eggs", "9"),
        ("one third of 27, or 9", "9"),
        ("18 more than 20, which is 38", "38"),
        ("18 eggs, which is 2 more than 16", "18"),
        ("1/2 of the cake", "1/2"),
        ("4 hours and 30 minutes", "4.5"),
        ("1 hour 20 minutes", "4/3"),
        ("-1 hour and 30 minutes", "-1.5"),
        ("5 dollars and 30 cents", "5.3"),
        ("5 hours and 90 minutes", "5"),
        ("3:2", "3:2"),
        ("9:30", "9:30"),
        ("the 6th floor", "6"),
        ("2 and 3", "2,3"),
        ("9, 240", "9, 240"),
        ("none", "0"),
        ("none of the above", None),
        ("12 lakh rupees", "1200000"),
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
    [
        ("0.6 or 60%", "60%"),
        ("120 minutes or 2 hours", "120"),
        ("18 or 18.00", "18"),
        ("7 or more", "7"),
        ("7 eggs or so", "7"),
    ],
)
def test_one_value_in_two_forms_is_no_hedge(sentence: str, value: str) -> None:
    assert leading_value(sentence) == value


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
    for found in (leading_value(first_sentence(line)), formula_value(line)):
        assert found is None or found is HEDGE or (isinstance(found, str) and found.strip())


@given(st.integers(-(10**12), 10**12))
def test_every_integer_is_stated_in_each_place(value: int) -> None:
    for sentence in (f"{value:,} eggs", f"x = {value}", f"3 * 5 = {value}"):
        assert leading_value(sentence) == str(value)
    assert formula_value(f"it is ${value}$ here") == normalise_answer(f"{value:,} eggs") == str(value)
