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


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("x**2 + 1", "x^2+1"),
        ("2**3", "2^3"),
        ("2*sqrt(3)", "2\\sqrt{3}"),
        ("\\sqrt(3)", "\\sqrt{3}"),
        ("\\sqrt 12", "\\sqrt{12}"),
        ("3√2", "3\\sqrt{2}"),
        ("2*pi", "2\\pi"),
        ("\\pi r^2", "\\pi r^2"),
        ("x^10", "x^{10}"),
        ("x^(1/2)", "x^{1/2}"),
        ("\\log_2 5", "\\log_{2}5"),
        ("sin(x)", "\\sin(x)"),
        ("x \\leqslant 3", "x\\le3"),
        ("x ≥ 3", "x\\ge3"),
        ("x != 3", "x\\ne3"),
        ("(-\\infty, +\\infty)", "(-\\infty,\\infty)"),
        ("\\begin{pmatrix} -6 \\\\ 6 \\end{pmatrix}", "\\begin{pmatrix}-6\\\\6\\end{pmatrix}"),
        ("8\\sqrt{3} \\text { square inches}", "8\\sqrt{3}"),
        ("12\\pi cm^2", "12\\pi"),
        ("2\\cdot\\frac{1}{3}", "2*\\frac{1}{3}"),
        ("50\\%", "50%"),
        ("(100, 200)", "(100, 200)"),
        ("2k, k \\in \\mathbb{Z}", "2k"),
        ("+x", "x"),
    ],
)
def test_mathematics_is_written_one_way(text: str, normal: str) -> None:
    assert normalise_text(text) == normal
    assert normalise_text(normal) == normal


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("$12\\text{ degrees}$", "12"),
        ("12  cm", "12"),
        ("11,\\! 111,\\! 100", "11111100"),
        ("45, 135", "45, 135"),
        ("6-5\\mathrm{i}", "6-5i"),
        ("3+2\\sqrt{2} \\approx 5.83", "3+2\\sqrt{2}"),
        ("x \\approx 5.83", "5.83"),
    ],
)
def test_answers_keep_what_they_say(text: str, normal: str) -> None:
    assert normalise_answer(text) == normal
