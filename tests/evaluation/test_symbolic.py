"""Verdicts of the symbolic process, and what it is never asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mathreason.evaluation.symbolic import SymbolicProcess, may_compare


@pytest.fixture(scope="module")
def symbolic() -> Iterator[SymbolicProcess]:
    with SymbolicProcess() as process:
        yield process


@pytest.mark.parametrize(
    ("candidate", "reference"),
    [
        ("11+x", "x+11"),
        ("\\frac{1}{\\sqrt{3}}", "\\frac{\\sqrt{3}}{3}"),
        ("(x-2)(x-3)", "x^2-5x+6"),
        ("x^5-x^4+x^3-x^2+x-1", "(x-1)(x^4+x^2+1)"),
        ("\\sqrt{3+2\\sqrt{2}}", "1+\\sqrt{2}"),
        ("2x-y+3=0", "y=2x+3"),
        ("8x-10y+100=0", "4x-5y=-50"),
        ("4i+3", "3+4i"),
        ("\\frac{x}{2}", "0.5x"),
        ("\\frac{1+\\sqrt{5}}{4}", "\\cos36"),
        ("\\frac{\\sin x}{\\cos x}", "\\tan x"),
        ("f(1)>f(2)", "f(2)<f(1)"),
        ("|2-x|", "|x-2|"),
        ("\\frac{n(n-1)}{2}", "\\binom{n}{2}"),
    ],
)
def test_equal_expressions(symbolic: SymbolicProcess, candidate: str, reference: str) -> None:
    assert symbolic.equal(candidate, reference) == "equal"


@pytest.mark.parametrize(
    ("candidate", "reference"),
    [
        ("x-11", "x+11"),
        ("x", "X"),
        ("x", "y"),
        ("1.414214", "\\sqrt{2}"),
        ("1.41421356237309", "\\sqrt{2}"),
        ("3.14", "\\pi"),
        ("x", "\\sqrt{x^2}"),
        ("3-4i", "3+4i"),
        ("y=2x+4", "y=2x+3"),
        ("x=2y", "y=2x"),
        ("f(1)<f(2)", "f(2)<f(1)"),
        ("\\frac{b}{a}", "\\frac{a}{b}"),
        ("(x+2)^{4999}", "(x+1)^{4999}"),
        ("\\frac{x}{0}", "x"),
        ("x++", "x+"),
    ],
)
def test_different_expressions(symbolic: SymbolicProcess, candidate: str, reference: str) -> None:
    assert symbolic.equal(candidate, reference) == "different"


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch x')",
        "print(1)",
        "open(x)",
        "lambda x:x",
        "x;y",
        'x"',
        "x@y",
        "\\input{x}",
        "\\write18{x}",
        "x" * 301,
        "1" * 31,
        "(" * 13 + "x" + ")" * 13,
        "x)",
        "x^{99999}",
        "2^{2^{2^{x}}}",
        "99999!",
        "(x!)!",
        "x\n",
        "x\x00",
        "\u4e00",
        "\ud800",
    ],
)
def test_only_short_mathematics_reaches_the_process(symbolic: SymbolicProcess, text: str) -> None:
    assert not may_compare(text)
    assert symbolic.equal(text, "x") == "refused"
    assert symbolic.equal("x", text) == "refused"
