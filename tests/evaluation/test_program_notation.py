"""Values as programs print them, in the notation of LaTeX."""

from __future__ import annotations

import pytest

from mathreason.evaluation.program_notation import MAX_CALLS, latex_notation


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("Rational(-3, 7)", "\\frac{-3}{7}"),
        ("Fraction(9, 4)", "\\frac{9}{4}"),
        ("sqrt(2*sqrt(5) + 1)/3", "\\sqrt{2*\\sqrt{5} + 1}/3"),
        ("exp(-x)", "e^{-x}"),
        ("Abs(y + 4)", "|y + 4|"),
        ("2 - 7*I", "2 - 7*i"),
        ("x**2 - 6*x", "x^2 - 6*x"),
        ("Interval(-2, 9)", "[-2,9]"),
        ("Interval.open(-2, 9)", "(-2,9)"),
        ("Interval.Lopen(0, sqrt(11))", "(0,\\sqrt{11}]"),
        ("Interval.Ropen(1/2, 6)", "[1/2,6)"),
        ("Interval(4, oo)", "[4,\\infty)"),
        ("Union({8}, Interval.open(-oo, 1))", "\\{8\\}\\cup (-\\infty,1)"),
        ("Matrix([[1, 2], [3, 4]])", "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}"),
        ("Matrix([[5], [-6]])", "\\begin{pmatrix}5\\\\-6\\end{pmatrix}"),
        ("np.array([5, -6])", "\\begin{pmatrix}5\\\\-6\\end{pmatrix}"),
        ("[[1, 0], [0, 1]]", "\\begin{pmatrix}1&0\\\\0&1\\end{pmatrix}"),
        ("FiniteSet(-4, 4)", "\\{-4,4\\}"),
        ("Eq(y, 5*x - 2)", "y=5*x - 2"),
        ("{x: 6, y: -1}", "x= 6, y= -1"),
        ("[{a: 9}]", "a= 9"),
    ],
)
def test_printed_values_become_latex(printed: str, expected: str) -> None:
    assert latex_notation(printed) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "f(x) = 3x",
        "\\sqrt{2}",
        "\\left(2, 3\\right]",
        "The intervals are (1, 2) and (3, 4).",
        "Union(1, 2",
        "sqrt(",
        "Quadrant I",
        "look",
    ],
)
def test_other_text_is_left_alone(text: str) -> None:
    assert latex_notation(text) == text


def test_only_the_last_calls_are_rewritten() -> None:
    text = "sqrt(" * (MAX_CALLS + 5) + "2" + ")" * (MAX_CALLS + 5)
    written = latex_notation(text)
    assert written.count("\\sqrt{") == MAX_CALLS
    assert written.startswith("sqrt(" * 5 + "\\sqrt{")
