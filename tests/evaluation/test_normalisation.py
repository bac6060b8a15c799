"""Equal answers get one form."""

from __future__ import annotations

import pytest

from mathreason.evaluation.normalisation import normalise_answer, normalise_text


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("\\dfrac{x}{2}", "\\frac{x}{2}"),
        ("\\frac x2", "\\frac{x}{2}"),
        ("\\left( 3, 4 \\right)", "(3,4)"),
        ("2\\sqrt5", "2\\sqrt{5}"),
        ("4210_{7}", "4210_7"),
        ("\\text{Evelyn}.", "Evelyn"),
        ("\\text{(C)}", "C"),
        ("\\frac{3}{4}\\pi\\text{ inches}", "\\frac{3}{4}\\pi"),
        ("7 π", "7\\pi"),
        ("4:30 \\text{ p.m.}", "4:30pm"),
        ("no solution", "no solution"),
    ],
)
def test_text_answers_are_normalised(text: str, normal: str) -> None:
    assert normalise_text(text) == normal
    assert normalise_text(normal) == normal


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("5 dollars", "5"),
        ("x = 5", "5"),
        ("35 + 70 = 105", "105"),
        ("\\boxed{18}", "18"),
        ("(18)", "18"),
        ("x^2 + y^2 = 13", "x^2+y^2=13"),
        ("x=3, y=4", "x=3,y=4"),
        ("4t", "4t"),
        ("", ""),
        ("$$", ""),
    ],
)
def test_reference_answers_are_normalised(text: str, normal: str) -> None:
    assert normalise_answer(text) == normal
