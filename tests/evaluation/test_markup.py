"""Any script and any markup come down to plain ASCII, and what stands for a quantity stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathreason.evaluation.markup import plain, plain_characters


@pytest.mark.parametrize(
    ("text", "ascii_text"),
    [
        ("−5 – 3", "-5 - 3"),
        ("3 × 4 ÷ 2", "3 * 4 / 2"),
        ("1½", "1 1/2"),
        ("10⁻³", "10^{-3}"),
        ("１２３ ٤٢", "123 42"),
        ("1\u202f234", "1 234"),
        ("4\u200e2\ud800", "42"),
        ("5\x00kg", "5 kg"),
        ("“a” ‘b’ …", "\"a\" 'b' ..."),
        ("25℃", "25^\\circ C"),
        ("\x08oxed{\x0crac12}", "\\boxed{\\frac12}"),
        ("π 90°", "\\pi  90^\\circ "),
        ("a\r\nb\u2028c", "a\n\nb\nc"),
        ("a\tb\nc", "a\tb\nc"),
    ],
)
def test_look_alikes_become_ascii(text: str, ascii_text: str) -> None:
    assert plain_characters(text) == ascii_text


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("**18**", "18"),
        ("`18`", "18"),
        ("\\$1{,}234", "1,234"),
        ("US$ 500", "500"),
        ("$24k", "24 thousand"),
        ("$1.5M a year", "1.5 million a year"),
        ("£3bn", "3 billion"),
        ("$5k$", "5k"),
        ("$2b + 3$", "2b + 3"),
        ("$3kg", "3kg"),
        ("€1,50", "1.50"),
        ("1,50 €", "1.50"),
        ("€1,500", "1,500"),
        ("> **18** eggs", "> 18 eggs"),
        ("2**3", "2**3"),
        ("Rs. 500", "500"),
        ("\\(18\\)", "18"),
        ("{18}", "18"),
        ("\\left(3\\right)", "(3)"),
        ("3 \\times 4 \\div 2", "3 * 4 / 2"),
        ("\\frac{1}{2}", "1/2"),
        ("\\dfrac12", "1/2"),
        ("\\text{five}", "five"),
        ("90^\\circ", "90"),
        ("50\\%", "50%"),
        ("3 * 4", "3 * 4"),
        ("7\\pi", "7\\pi"),
        ("2\\sqrt{5}", "2\\sqrt{5}"),
        ("$5!$", "5 \\factorial"),
    ],
)
def test_markup_is_taken_off_and_quantities_stay(text: str, bare: str) -> None:
    assert plain(text) == bare


@given(st.text())
def test_any_text_becomes_printable(text: str) -> None:
    characters = plain_characters(text)
    assert all(character in "\t\n" or character.isprintable() for character in characters)


@given(st.text())
def test_plain_characters_stay_as_they_are(text: str) -> None:
    characters = plain_characters(text)
    assert plain_characters(characters) == characters
