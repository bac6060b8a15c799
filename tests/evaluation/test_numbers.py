"""Written numbers are read exactly, and what is no number is not read at all."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathreason.evaluation.numbers import (
    MAX_DIGITS,
    MAX_EXPONENT,
    parse_number,
    read_number,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", "18"),
        ("18.", "18"),
        ("18.00", "18"),
        (".5", "1/2"),
        ("007", "7"),
        ("+5", "5"),
        ("-5", "-5"),
        ("- 5", "-5"),
        ("−5", "-5"),
        ("–5", "-5"),
        ("minus 5", "-5"),
        ("$1,234.50", "2469/2"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("\\$5", "5"),
        ("€12.50", "25/2"),
        ("US$ 500", "500"),
        ("Rs. 500", "500"),
        ("1,234,567", "1234567"),
        ("12,34,567", "1234567"),
        ("1 234", "1234"),
        ("1\u202f234", "1234"),
        ("1{,}234", "1234"),
        ("1\\,234", "1234"),
        ("2,\\!598,\\!960", "2598960"),
        ("1_234", "1234"),
        ("1'234", "1234"),
        ("1.234", "617/500"),
        ("1.234.567", "1234567"),
        ("1.234,56", "30864/25"),
        ("50%", "1/2"),
        ("50\\%", "1/2"),
        ("50 percent", "1/2"),
        ("1/2", "1/2"),
        ("-1/2", "-1/2"),
        ("1 1/2", "3/2"),
        ("2 137/138", "413/138"),
        ("-1 1/2", "-3/2"),
        ("½", "1/2"),
        ("1½", "3/2"),
        ("\\frac12", "1/2"),
        ("\\frac{1}{2}", "1/2"),
        ("\\dfrac{1}2", "1/2"),
        ("\\frac 3{72}", "1/24"),
        ("-\\frac{1}{2}", "-1/2"),
        ("\\frac{-1}{2}", "-1/2"),
        ("12\\frac{3}{5}", "63/5"),
        ("5 and a half", "11/2"),
        ("3e6", "3000000"),
        ("2.5E-3", "1/400"),
        ("3 \\times 10^6", "3000000"),
        ("3*10^{-2}", "3/100"),
        ("3 × 10⁶", "3000000"),
        ("10^{3}", "1000"),
        ("3 million", "3000000"),
        ("$24k", "24000"),
        ("$1.5M", "1500000"),
        ("12 lakh", "1200000"),
        ("1.5 crore", "15000000"),
        ("twenty-one hundred", "2100"),
        ("4 hundred thousand", "400000"),
        ("2:00 pm", "2"),
        ("14:00", "14"),
        ("0.\\overline{3}", "1/3"),
        ("0.1666...", "1/6"),
        ("0.1818…", "2/11"),
        ("１２３４", "1234"),
        ("٤٢", "42"),
        ("4\u200e2", "42"),
        ("**40**", "40"),
        ("$18$", "18"),
        ("\\(18\\)", "18"),
        ("\\text{18}", "18"),
        ("90^\\circ", "90"),
        ("90°", "90"),
        ("5\\text{ inches}", "5"),
        ("864 \\mbox{ inches}^2", "864"),
        ("zero", "0"),
        ("five", "5"),
        ("Twenty-One", "21"),
        ("one hundred and five", "105"),
        ("twelve hundred", "1200"),
        ("two thousand and five", "2005"),
        ("a dozen", "12"),
        ("half a dozen", "6"),
        ("one half", "1/2"),
        ("two thirds", "2/3"),
        ("one and a half", "3/2"),
        ("fifty percent", "1/2"),
    ],
)
def test_reads_the_exact_value(text: str, value: str) -> None:
    assert parse_number(text) == Fraction(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "-",
        "...",
        "a",
        "x",
        "9:30",
        "25:00",
        "1:2",
        "3 + 4",
        "16 - 3",
        "3*4",
        "9**9**9",
        "2^3",
        "5!",
        "5x",
        "4t",
        "24k",
        "$5k$",
        "7\\pi",
        "2\\sqrt{5}",
        "4210_7",
        "1,2",
        "12,34",
        "1, 2",
        "1,234,56",
        "7 and 8",
        "7 to 8",
        "1 5/2",
        "1/0",
        "12/25/2020",
        "5...",
        "18 dollars",
        "18th",
        "five six",
        "one and two",
        "twenty third",
        "twenty ten",
        "hundred",
        "__import__('os')",
        "1e999999999",
        "inf",
        "nan",
        "0x10",
    ],
)
def test_refuses_what_is_not_one_number(text: str) -> None:
    assert parse_number(text) is None


@pytest.mark.parametrize(
    ("text", "written", "decimals"),
    [
        ("$1,234.50", "1234.50", 2),
        ("18", "18", 0),
        ("50%", "50%", 0),
        ("33.3 %", "33.3%", 1),
        ("\\frac24", "1/2", None),
        ("1 1/2", "3/2", None),
        ("3 million", "3000000", None),
        ("2:00 p.m.", "2:00 pm", None),
    ],
)
def test_keeps_how_it_was_written(text: str, written: str, decimals: int | None) -> None:
    number = read_number(text)
    assert number is not None
    assert (number.text, number.decimals) == (written, decimals)


def test_limits_bound_the_size_of_a_number() -> None:
    assert parse_number("9" * MAX_DIGITS) == Fraction(10**MAX_DIGITS - 1)
    assert parse_number("9" * (MAX_DIGITS + 1)) is None
    assert parse_number("0." + "9" * (MAX_DIGITS + 1)) is None
    assert parse_number("1/" + "9" * (MAX_DIGITS + 1)) is None
    assert parse_number(f"1e{MAX_EXPONENT}") == Fraction(10**MAX_EXPONENT)
    assert parse_number(f"1e{MAX_EXPONENT + 1}") is None
    assert parse_number(f"1e-{MAX_EXPONENT + 1}") is None
    assert parse_number(f"10^{{{MAX_EXPONENT + 1}}}") is None


@given(st.integers(-(10**40), 10**40))
def test_every_integer_is_read_with_and_without_separators(value: int) -> None:
    spellings = [str(value), f"{value:,}", f"{value:_}", f"{value:,}".replace(",", " ")]
    spellings += [f"{value:,}".replace(",", separator) for separator in ("{,}", "\\,", "'", ",\\!")]
    assert {parse_number(spelling) for spelling in spellings} == {Fraction(value)}


@given(st.decimals(-(10**9), 10**9, allow_nan=False, allow_infinity=False, places=6))
def test_every_decimal_is_read_exactly(value: object) -> None:
    number = read_number(f"{value}")
    assert number is not None
    assert number.value == Fraction(f"{value}")
    assert number.decimals == 6


@given(st.fractions(min_value=-1000, max_value=1000, max_denominator=999))
def test_every_fraction_is_read_in_each_notation(value: Fraction) -> None:
    over, under = abs(value.numerator), value.denominator
    sign = "-" if value < 0 else ""
    spellings = [f"{sign}{over}/{under}", f"{sign}\\frac{{{over}}}{{{under}}}"]
    if over > under > 1:
        spellings.append(f"{sign}{over // under} {over % under}/{under}")
    assert {parse_number(spelling) for spelling in spellings} == {value}


def in_words(value: int) -> str:
    """British spelling of 0 to 999 999, written independently of the reader."""
    small = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    small += "sixteen seventeen eighteen nineteen"
    tens = "_ _ twenty thirty forty fifty sixty seventy eighty ninety"
    if value < 20:
        return small.split()[value]
    if value < 100:
        return tens.split()[value // 10] + ("-" + in_words(value % 10) if value % 10 else "")
    if value < 1000:
        rest = " and " + in_words(value % 100) if value % 100 else ""
        return in_words(value // 100) + " hundred" + rest
    below = value % 1000
    joined = (" and " if below < 100 else " ") + in_words(below) if below else ""
    return in_words(value // 1000) + " thousand" + joined


@given(st.integers(0, 999_999))
def test_every_number_in_words_is_read(value: int) -> None:
    assert parse_number(in_words(value)) == value
    assert parse_number(in_words(value).replace("-", " ").replace(" and ", " ").upper()) == value


@given(st.text())
def test_any_text_is_read_or_refused_but_never_raises(text: str) -> None:
    number = read_number(text)
    assert number == read_number(text)
    if number is not None:
        again = read_number(number.text)
        assert again is not None
        assert again.value == number.value
