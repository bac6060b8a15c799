"""A response that ends with a formula commits to it; plain numbers and mentions are left to the sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathreason.evaluation.formulas import MAX_PARAGRAPH, closing_formula


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Therefore, the area is $12\\sqrt{3}$.", "12\\sqrt{3}"),
        ("The probability is \\(\\frac{\\pi}{4}\\) in all.", "\\frac{\\pi}{4}"),
        ("The distance is:\n\n$$6\\sqrt{5}$$\n\nI hope this helps!", "6\\sqrt{5}"),
        ("The set is \\[ [2, 5) \\]", "[2,5)"),
        ("In polar form we have\n\\[\n(r, \\theta) = (3, \\pi)\n\\]", "(3,\\pi)"),
        ("We reduce:\n\\[\nA &= s^2 + 2s^2 \\\\\n&= 3s^2\n\\]", "3s^2"),
        ("It is an interval, so $x \\in (1, 4]$.", "(1,4]"),
        ("The roots are $x = 1$ and $x = -3$.", "1,-3"),
        ("The roots are $1 + i$, $1 - i$, and $2i$.", "1+i,1-i,2i"),
    ],
)
def test_the_last_formula_is_the_value(text: str, value: str) -> None:
    assert closing_formula(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "There are no formulas.",
        "Therefore, Janet makes $18 every day.",
        "She pays $5 for the eggs and has $13 left.",
        "The value is $42$.",
        "Hence $5! = 120$.",
        "We find $b = 6$, and $m + b = 5$.",
        "The smallest value is 7, reached when $x = 2^3$.",
        "It holds for $x^2$, so there are 3 of them.",
        "Then $x^2$",
    ],
)
def test_a_plain_number_or_a_mention_is_no_closing_formula(text: str) -> None:
    assert closing_formula(text) is None


@given(st.text(alphabet="$\\[](){}=,.x1 &\nandis", max_size=400))
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert closing_formula(text) != ""


@pytest.mark.parametrize("part", ["$", "\\[", "\\(x", "$x=$", "$x$ and ", "{(", "\\text{", "=\\in"])
def test_a_long_ending_is_read_up_to_a_bound(part: str) -> None:
    closing_formula(f"It is {part * MAX_PARAGRAPH * 20}$")


def test_a_single_letter_is_a_value_only_where_it_is_a_constant() -> None:
    assert closing_formula("The limit is $e$.") == "e"
    assert closing_formula("The unknown is $x$.") is None
