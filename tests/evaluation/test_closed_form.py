"""Arithmetic has its exact value or none, and never a large one."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathreason.evaluation.closed_form import MAX_BITS, Surd, closed_form


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2^{10}", 1024),
        ("2**3", 8),
        ("2^{2005}", 2**2005),
        ("\\frac{8}{2}", 4),
        ("\\sqrt{16}", 4),
        ("5!", 120),
        ("\\binom{5}{2}", 10),
        ("1\\frac{1}{2}", Fraction(3, 2)),
        ("-3^2", -9),
        ("2^{-1}", Fraction(1, 2)),
        ("8^{\\frac{2}{3}}", 4),
        ("4^{1/2}", 2),
        ("|3-5|", 2),
        ("12,345+1", 12346),
        ("3-(-2)", 5),
        ("\\sqrt[3]{-27}", -3),
        ("2(3)", 6),
        ("1/2/3", Fraction(1, 6)),
        ("2^{3^2}", 512),
        ("\\frac{\\sqrt{48}}{\\sqrt{3}}", 4),
        (".5+1", Fraction(3, 2)),
        ("3\\cdot4", 12),
    ],
)
def test_arithmetic_has_its_exact_value(text: str, value: int | Fraction) -> None:
    assert closed_form(text) == Surd(Fraction(value), 1)


@pytest.mark.parametrize(
    ("text", "factor", "radicand"),
    [
        ("2\\sqrt{3}", Fraction(2), 3),
        ("\\sqrt{12}", Fraction(2), 3),
        ("\\frac{1}{\\sqrt{3}}", Fraction(1, 3), 3),
        ("\\sqrt{\\frac{1}{3}}", Fraction(1, 3), 3),
        ("5\\sqrt{2}-\\sqrt{8}", Fraction(3), 2),
        ("2^{0.5}", Fraction(1), 2),
        ("(2\\sqrt{3})^{3}", Fraction(24), 3),
    ],
)
def test_a_single_root_stays_under_its_sign(text: str, factor: Fraction, radicand: int) -> None:
    assert closed_form(text) == Surd(factor, radicand)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "2x",
        "\\pi",
        "1+\\sqrt{2}",
        "5!!",
        "2\\frac{3}{2}",
        "\\frac{1}{0}",
        "0^0",
        "0^{-1}",
        "\\sqrt{-4}",
        "\\sqrt[3]{5}",
        "(1",
        "1)",
        "1 + ",
        "3 = 3",
        "1,2",
    ],
)
def test_what_is_no_arithmetic_has_no_value(text: str) -> None:
    assert closed_form(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "9^{9^{9^{9}}}",
        "999999999!",
        "10^{10^{10}}",
        "2^{99999999}",
        "\\binom{999999999}{3}",
        "\\sqrt[999]{2}",
        "1" * 2000,
        "(" * 5000,
        "(" * 100 + "1" + ")" * 100,
        "\\sqrt{999999999999999999999999999989}",
        "7^{999}*7^{999}*7^{999}",
    ],
)
def test_what_is_too_large_has_no_value(text: str) -> None:
    assert closed_form(text) is None


EXPRESSIONS = st.recursive(
    st.integers(0, 99).map(str),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]}){t[1]}({t[2]})"),
        inner.map(lambda t: f"-({t})"),
        st.tuples(inner, st.integers(0, 4)).map(lambda t: f"({t[0]})^{{{t[1]}}}"),
        st.tuples(inner, inner).map(lambda t: f"\\frac{{{t[0]}}}{{{t[1]}}}"),
    ),
    max_leaves=8,
)


def by_fractions(text: str) -> Fraction | None:
    """The same value from Python's own arithmetic on fractions."""
    import re

    python = text.replace("\\frac{", "(").replace("}{", ")/(")
    python = re.sub(r"\^\{(\d)\}", r"**\1", python).replace("}", ")")
    python = re.sub(r"(?<![\d*])(\d+)", r"Fraction(\1)", python)
    try:
        return Fraction(eval(python, {"Fraction": Fraction}))  # noqa: S307  # our own text, not a model's
    except ZeroDivisionError:
        return None


@given(EXPRESSIONS)
def test_any_arithmetic_agrees_with_fractions(text: str) -> None:
    found, value = closed_form(text), by_fractions(text)
    if found is not None and found.radicand == 1:
        assert found.factor == value
        assert found.factor.numerator.bit_length() <= MAX_BITS
    if value is None:
        assert found is None


@given(st.text(alphabet="0123456789+-*/^!(){}[]|.,\\fracsqtbinom ", max_size=60))
def test_any_text_has_a_value_or_none(text: str) -> None:
    assert closed_form(text) == closed_form(text)
