"""The committed answer is found the way a person reads, and hostile text never stops the reader."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathreason.evaluation.extraction import (
    MAX_RESPONSE,
    STRATEGIES,
    Extraction,
    extract,
)


@pytest.mark.parametrize(
    ("response", "answer", "strategy"),
    [
        ("3*6=18\n#### 18", "18", "hash"),
        ("It is \\boxed{18}.", "18", "boxed"),
        ("The answer is 18.", "18", "answer_is"),
        ("Answer: 18", "18", "answer_is"),
        ("<answer>18</answer>", "18", "tag"),
        ("```output\n18\n```", "18", "output"),
        ("Therefore, she has 18 eggs.", "18", "therefore"),
        ("3 * 6\n18 eggs", "18", "last_number"),
        ("No idea.", None, "none"),
        ("", None, "none"),
    ],
)
def test_each_layer_is_named(response: str, answer: str | None, strategy: str) -> None:
    assert extract(response) == Extraction(answer, strategy)  # type: ignore[arg-type]


def test_stronger_layers_win() -> None:
    text = "Therefore 1. The answer is 2. It is \\boxed{3}.\n#### 4\n<answer>5</answer>"
    for marker, expected in (
        ("\n<answer>5</answer>", "5"),
        ("\n#### 4", "4"),
        ("\\boxed{3}", "3"),
        ("The answer is 2.", "2"),
        ("", "1"),
    ):
        assert extract(text).answer == expected
        text = text.replace(marker, "it") if marker else text


@pytest.mark.parametrize(
    "header",
    [
        "Question:",
        "Q:",
        "**Problem:**",
        "### Question 2:",
        "Problem 2.",
        "Human:",
        "<|im_end|>",
        "</s>",
        "[INST]",
    ],
)
@pytest.mark.parametrize("own", ["#### 18", "The answer is 18.", "It is \\boxed{18}."])
def test_a_next_question_is_not_read(header: str, own: str) -> None:
    assert (
        extract(f"3*6=18\n{own}\n{header} Tom has 5.\n#### 3\n\\boxed{{3}} The answer is 3.").answer == "18"
    )


def test_a_next_question_is_not_read_when_only_a_number_came_before() -> None:
    assert extract("3*6=18\n\nQuestion: Tom has 5.\n#### 3") == Extraction("18", "last_number")


def test_a_restated_question_is_read_over() -> None:
    assert extract("Question: Tom has 5 and 3?\nAnswer: 5+3=8\n#### 8").answer == "8"


def test_numbered_parts_of_a_solution_are_read_to_the_end() -> None:
    text = "Question 1: is 3 odd? Yes.\nQuestion 2: is 5 odd? Yes.\nThe sum is \\boxed{8}."
    assert extract(text).answer == "8"


@pytest.mark.parametrize(
    "response",
    [
        "The answer is 7 or 8.",
        "The answer is either 7 or 8.",
        "The answer is 7, but it could be 8.",
        "#### 7 or 8",
        "\\boxed{7} or \\boxed{8}",
        "Therefore, there are 7 or 8 eggs.",
    ],
)
def test_two_answers_are_none(response: str) -> None:
    assert extract(response) == Extraction(None, "none")


def test_equal_answers_in_two_forms_are_one() -> None:
    assert extract("\\boxed{0.5} and \\boxed{\\frac12}").answer == "1/2"
    assert extract("The answer is 18 or $18.00.").answer == "18"


def test_a_retracted_answer_gives_way_to_the_next_and_only_then() -> None:
    retraction = "\nWait, I made a mistake.\n"
    assert extract(f"#### 7{retraction}#### 8").answer == "8"
    assert extract(f"#### 7{retraction}The answer is 8.").answer == "8"
    assert extract(f"#### 7{retraction}Let me see: 3+5 = 8").answer == "7"


def test_markdown_headings_are_no_answers() -> None:
    text = "#### Step 1: Count 5 eggs\n5\n#### 2. Add 3 eggs\n5+3=8\n#### Conclusion\nThe answer is 8."
    assert extract(text) == Extraction("8", "answer_is")


def test_a_labelled_solution_is_not_its_first_number() -> None:
    assert extract("Answer: 16 - 7 = 9 eggs.\nThen 9 * 2 = 18.").answer == "18"
    assert extract("A: She has 3 bags of 6.\n#### 18").answer == "18"


def test_a_calculation_stands_for_its_result_only_where_that_is_missing() -> None:
    assert extract("She makes 9*2=$<<9*2=18>>18.0 a day").answer == "18.0"
    assert extract("She makes $<<9*2=18>>").answer == "18"


def test_the_noise_of_floating_point_is_taken_off() -> None:
    assert extract("\\boxed{7.6000000000000005}").answer == "7.6"
    assert extract("```output\n63.99999999999999\n```").answer == "64"
    assert extract("#### 0.6666666666666666").answer == "0.666666666667"
    assert extract("#### 17.999999999").answer == "17.999999999"


def test_a_refusal_is_no_answer_whatever_number_came_before() -> None:
    assert extract("She has 5 eggs. There is not enough information.") == Extraction(None, "none")


def test_a_remark_after_the_result_is_read_over() -> None:
    assert extract("She makes 7*18 = 126.\nNote: a week has 7 days.").answer == "126"
    assert extract("Note that 7*18 = 126.").answer == "126"


def test_placeholder_and_unclosed_boxes_are_no_answers() -> None:
    assert extract("7 + \\boxed{\\phantom{4}} = 11, so \\boxed{4}").answer == "4"
    assert extract("Use \\boxed{}. So \\boxed{4}").answer == "4"
    assert extract("So \\boxed{18") == Extraction(None, "none")


def test_a_very_long_response_is_read_at_both_ends() -> None:
    filler = "word " * MAX_RESPONSE
    assert extract("#### 18\n" + filler).answer == "18"
    assert extract(filler + "\n#### 18").answer == "18"


PIECES = (
    "<answer>|</answer>|```output\n|```|Note |because |, so | to make |<think>|</think>"
    "|#### |\\boxed{|}|The answer is |Answer: |So |Wait, |Question:| or |=|1|2.5|$|**|\n|. |\\frac|five|%"
    "|:00|-|x|<<|>>|\u0661|½|\ud800|\x00"
)


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES.split("|")), max_size=40).map("".join)))
def test_any_text_gives_one_answer_or_none_and_always_the_same(text: str) -> None:
    found = extract(text)
    assert found == extract(text)
    assert found.strategy in STRATEGIES
    assert (found.answer is None) == (found.strategy == "none")
    if found.answer is not None:
        assert found.answer.strip()
        found.answer.encode("utf-8")


def test_a_number_named_as_the_answer_after_the_last_box_goes_before_it() -> None:
    assert extract("She has \\boxed{16} eggs. 2 * 9 = 18. The answer is 18.").answer == "18"
    assert extract("It is \\boxed{\\frac{1}{2}}. The answer is 0.5.").answer == "1/2"
    assert extract("It is \\boxed{x^2}. The answer is 4.").answer == "x^2"
    assert extract("It is \\boxed{16}. How many are brown? The answer is 18.").answer == "16"


@pytest.mark.parametrize(
    "response",
    ["She sells 16 - 3 - 4 = 9 eggs. 9 *", "She pays 5 * 3", "The total is 12 +", "She sells 9 eggs for the"],
)
def test_a_response_cut_within_a_calculation_has_no_answer(response: str) -> None:
    assert extract(response) == Extraction(None, "none")


def test_the_result_of_a_cut_calculation_is_an_answer() -> None:
    assert extract("Total: \\( 7 \\times 9 = 63 \\text{ ske").answer == "63"


def test_the_failed_output_of_an_attempt_taken_back_does_not_hide_a_later_answer() -> None:
    attempt = "```output\nNameError: name 'n' is not defined\n```\nWait, that is wrong."
    assert extract(f"{attempt} So she makes 9 * 2 = 18 dollars.").answer == "18"


def test_the_number_of_a_step_is_no_answer() -> None:
    assert extract("There are 12 pens.\n2. Count the boxes").answer == "12"
    assert extract("There are 12 pens.\nStep 3: Count the boxes").answer == "12"


@pytest.mark.parametrize("environment", ["align*", "gather", "equation"])
def test_a_closing_display_is_read(environment: str) -> None:
    display = f"\\begin{{{environment}}}\nA &= 2s^2 + s^2 \\\\\n&= 3s^2\n\\end{{{environment}}}"
    assert extract(f"The area is\n{display}") == Extraction("3s^2", "therefore")
