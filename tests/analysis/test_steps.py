from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathreason.analysis.steps import MAX_STEPS, first_difference, step_at, steps


def texts(response: str) -> list[str]:
    return [response[step.start : step.end] for step in steps(response)]


def test_a_response_is_cut_into_sentences_and_lines() -> None:
    response = "Half of 4.5 is 2.25. She has 3.\n\\[\n2 + 2 = 4.\n\\]\n\n#### 4"
    assert texts(response) == ["Half of 4.5 is 2.25.", "She has 3.", "2 + 2 = 4.", "#### 4"]
    assert [step.number for step in steps(response)] == [1, 2, 3, 4]


def test_a_place_lies_in_the_step_that_starts_before_it() -> None:
    found = steps("One. Two.\nThree")
    assert [step.number for place in (0, 4, 5, 12) if (step := step_at(found, place))] == [1, 1, 2, 3]
    assert step_at([], 3) is None


@pytest.mark.parametrize(
    ("base", "tuned", "expected"),
    [
        ("1 + 1 = 2.\n2 + 3 = 6", "So 1 + 1 = 2.\nThen 2 + 3 = 5", ("2 + 3 = 6", "Then 2 + 3 = 5")),
        ("1 + 1 = 3\nThat is 3.", "1 + 1 = 2\nThat is 2.", ("1 + 1 = 3", "1 + 1 = 2")),
        ("1 + 1 = 2\nSo 2.", "1 + 1 = 2\n2 + 2 = 4\nSo 4.", ("So 2.", "2 + 2 = 4")),
        ("4 - 2 = 2\nSo 2.", "1 + 1 = 2\nSo 3.", ("So 2.", "So 3.")),
        ("It is 7.", "1 + 1 = 2\nSo 3.", (None, "1 + 1 = 2")),
        ("", "", (None, None)),
    ],
)
def test_two_responses_part_ways_at_the_first_other_result(
    base: str, tuned: str, expected: tuple[str | None, str | None]
) -> None:
    found = first_difference(base, tuned)
    pairs = zip((base, tuned), found, strict=True)
    assert tuple(step and response[step.start : step.end] for response, step in pairs) == expected


def test_the_number_of_steps_is_bounded() -> None:
    assert len(steps("A.\n" * 5000)) == MAX_STEPS


@given(st.text(alphabet="ab1.!? \n\\[]=+", max_size=200))
def test_steps_follow_each_other(response: str) -> None:
    found = steps(response)
    assert all(before.end <= after.start for before, after in pairwise(found))
    assert all(step.start < step.end for step in found)
