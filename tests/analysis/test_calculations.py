from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathreason.analysis.calculations import MAX_CALCULATIONS, calculations, first_wrong


def judged(text: str) -> list[tuple[str, bool]]:
    return [(found.text, found.right) for found in calculations(text)]


RIGHT = [
    "48/2 = 24",
    "16 - 3 - 4 = 9",
    "2 + 3 * 4 = 14",
    "(3+4)*2 = 14",
    "$5 x 3 = $15.00",
    "$1,000 + 2 = 1,002",
    "5 × 3 = 15",
    "20 ÷ 4 = 5",
    "20% of 50 = 10",
    "50 * 20% = 10",
    "5/20 = 25%",
    "1/3 = 33%",
    "5/20*100 = 25%",
    "10/3 = 3.33",
    "20/3 = 6.66",
    "20/3 = 6.67",
    ".5 + .5 = 1",
    "5 - -3 = 8",
    "5 + (-3) = 2",
    "-3 + 2 = -1",
    "4 − 6 = −2",
    "3 * 4 = 2 * 6",
    r"3 \times 4 = 12",
]


@pytest.mark.parametrize("text", RIGHT)
def test_right_calculations_are_accepted(text: str) -> None:
    assert [right for _, right in judged(f"This gives:\n{text}.")] == [True]


WRONG = [
    "48/2 = 25",
    "16 - 3 - 4 = 8",
    "2 + 3 * 4 = 20",
    "(3+4)*2 = 15",
    "$5 x 3 = $16",
    "20% of 50 = 11",
    "1/3 = 34.1%",
    "10/3 = 3",
    "20/3 = 6.5",
    "5 + (-3) = 8",
    "4 * 2 = -8",
    r"3 \times 4 = 13",
]


@pytest.mark.parametrize("text", WRONG)
def test_wrong_calculations_are_found(text: str) -> None:
    assert judged(f"This gives:\n{text}.") == [(text, False)]


UNCLEAR = [
    "10 dollars - 3 = 7",
    "5 apples + 3 apples = 9 apples",
    "x + 3 = 8",
    "2x + 3 = 11",
    "50 + 20% = 60",
    "1 1/2 + 2 = 3.5",
    "3 times 4 + 2 = 14",
    "5 boxes of 10 + 3 = 53",
    "2^3 + 1 = 9",
    "2**3 + 1 = 9",
    "2:30 + 1 = 3:30",
    "2024-01-02 = 3",
    "2 * 3 = 6 million",
    "1,23 + 1 = 3",
    "5 / 0 = 0",
    "7 - 2 = five",
    "12 = 12",
    "5 + 5 = 10x",
    r"4 * \frac{1}{2} = 2",
]


@pytest.mark.parametrize("text", UNCLEAR)
def test_what_cannot_be_read_with_certainty_is_not_judged(text: str) -> None:
    assert judged(f"So she has {text} of them.") == []


def test_annotations_and_the_text_around_them_are_both_read() -> None:
    text = "Natalia sold 48/2 = <<48/2=24>>24 clips, so 48 + 24 = 73 in all."
    assert judged(text) == [("48/2=24", True), ("48 + 24 = 73", False)]


def test_a_chain_runs_on_from_each_result() -> None:
    assert judged("2 + 3 = 5 * 2 = 10") == [("2 + 3 = 5", True), ("5 * 2 = 10", True)]
    assert judged("2 + 3 = 5 * 2 = 11") == [("2 + 3 = 5", True), ("5 * 2 = 11", False)]


def test_bullets_and_brackets_around_a_calculation_do_not_change_it() -> None:
    assert judged("- 3 + 2 = 5\n* 3 + 2 = 6\n2. 3 + 2 = 7") == [
        ("3 + 2 = 5", True),
        ("3 + 2 = 6", False),
        ("3 + 2 = 7", False),
    ]
    assert judged("the rest (48/2 = 25) is hers") == [("48/2 = 25", False)]
    assert judged("**3 + 2 = 6**") == [("3 + 2 = 6", False)]


def test_the_first_wrong_one_is_given_with_its_place() -> None:
    text = "First 1 + 1 = 2.\nThen \\(2 \\times 3 = 7\\) and 3 + 3 = 7."
    found = first_wrong(text)
    assert found is not None
    assert text[found.start : found.end] == found.text == "2 \\times 3 = 7"
    assert first_wrong("1 + 1 = 2") is None


def test_arithmetic_is_exact_where_floats_are_not() -> None:
    assert judged("0.1 + 0.2 = 0.3") == [("0.1 + 0.2 = 0.3", True)]
    assert judged("9007199254740993 - 1 = 9007199254740993")[0][1] is False


@pytest.mark.parametrize(
    "text",
    [
        "9" * 5000 + " + 1 = 2",
        "1 + " * 20_000 + "1 = 2",
        "(" * 20_000 + "1 + 1 = 2",
        "2 * 2 ** 999999999 = 1",
        "1 = " * 20_000,
        "1 " * 20_000,
        "$ " * 20_000,
    ],
)
def test_hostile_text_is_not_judged(text: str) -> None:
    assert all(found.right for found in calculations(text))


def test_the_number_of_calculations_is_bounded() -> None:
    assert len(calculations("1+1=3; " * 2000)) == MAX_CALCULATIONS


@given(st.text(alphabet="0123456789+-*/x×()=%$., \n<>a\\^:", max_size=200))
def test_any_text_gives_calculations_that_stand_where_they_say(text: str) -> None:
    for found in calculations(text):
        assert text[found.start : found.end] == found.text
        assert "=" in found.text


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.sampled_from("+-*"))
def test_every_true_calculation_is_right_and_its_neighbour_wrong(a: int, b: int, sign: str) -> None:
    result = {"+": a + b, "-": a - b, "*": a * b}[sign]
    assert judged(f"{a} {sign} {b} = {result}") == [(f"{a} {sign} {b} = {result}", True)]
    assert [right for _, right in judged(f"{a:,} {sign} {b:,} = {result + 1:,}")] == [False]
