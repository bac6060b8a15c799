"""The final box answers, a final list is joined, two offers are none, and braces are bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathreason.evaluation.boxes import MAX_DEPTH, boxed_answer
from mathreason.evaluation.values import HEDGE


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("\\boxed{18}", "18"),
        ("\\fbox{18}", "18"),
        ("\\boxed 5", "5"),
        ("\\boxed\n{18}", "18"),
        ("so boxed{18}", "18"),
        ("\\boxed{9} eggs. So \\boxed{18} dollars", "18"),
        ("First \\boxed{3}\n\n\\boxed{7}", "7"),
        ("\\boxed{0.5} and \\boxed{\\frac12}", "1/2"),
        ("\\boxed{2} and \\boxed{3}", "2,3"),
        ("\\boxed{2}, \\boxed{3}, and \\boxed{5}", "2,3,5"),
        ("$\\boxed{2}$, $\\boxed{3}$", "2,3"),
        ("$x = \\boxed{2}$ or $x = \\boxed{-3}$", "2,-3"),
        ("\\boxed{9} = \\boxed{3^2}", "3^2"),
        ("Put it in \\boxed{}, \\boxed{answer}: \\boxed{\\phantom{4}} \\boxed{4}", "4"),
        ("inbox{18}", None),
        ("no 18", None),
        ("\\boxed{18", None),
    ],
)
def test_the_final_box_or_list_is_the_answer(text: str, answer: str | None) -> None:
    assert boxed_answer(text) == answer


@pytest.mark.parametrize("text", ["\\boxed{7} or \\boxed{8}", "either $\\boxed{7}$ or $\\boxed{8}$."])
def test_two_offered_boxes_are_a_hedge(text: str) -> None:
    assert boxed_answer(text) is HEDGE


def test_braces_are_balanced_up_to_a_depth() -> None:
    def box(depth: int) -> str:
        return "\\boxed{x" + "{" * depth + "}" * depth + "}"

    assert boxed_answer(box(MAX_DEPTH - 1)) is not None
    assert boxed_answer(box(MAX_DEPTH)) is None
    assert boxed_answer("\\boxed{\\{1\\}}") == "\\{1\\}"


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_the_last_of_two_boxes_in_sentences_is_taken(first: int, last: int) -> None:
    assert boxed_answer(f"It is \\boxed{{{first}}}. Then it is \\boxed{{{last}}}.") == str(last)
