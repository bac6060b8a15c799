"""The part of a response that answers the question: no thinking, no next question, no check."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathreason.evaluation.passages import attempts, before_check, own_answer

HEADERS = (
    "Question:|Q:|Q2:|**Problem:**|### Question 2:|Problem 2.|Human:|[Question]|Next question:|### Question"
    "|### Instruction:|Instruction:|Example 2:|Input:|Task:|## Problem|**Question 2**|Exercise 3."
    "|New problem:|### User:"
)


@pytest.mark.parametrize("header", HEADERS.split("|"))
def test_a_next_question_is_cut_off(header: str) -> None:
    own = "9*2 = 18. The answer is 18.\n\n"
    assert own_answer(f"{own}{header} \nTom has 5 pens.") == own


@pytest.mark.parametrize(
    "turn",
    [
        "<|im_end|>",
        "<|eot_id|>",
        "<|end▁of▁sentence|>",
        "</s>",
        "[INST]",
        "<end_of_turn>",
        "assistant\n",
        "\nuser\n",
        "\nBelow is an instruction that describes a task.",
    ],
)
def test_a_next_turn_is_cut_off(turn: str) -> None:
    assert own_answer(f"It is 18.{turn}\nTom has 5 pens.").strip() == "It is 18."


def test_a_question_before_the_answer_stays() -> None:
    for text in (
        "Question: Tom has 5?\nAnswer: 8",
        "<|im_start|>18",
        "[INST] How? [/INST] 18",
        "users\nhave 3",
    ):
        assert own_answer(text) == text


def test_numbered_parts_stay_until_an_answer_is_named() -> None:
    text = "Question 1: is 3 odd? Yes.\nQuestion 2: is 5 odd? Yes."
    assert own_answer(text) == text
    assert own_answer(f"The answer is 3.\n{text}") == "The answer is 3.\n"
    assert own_answer(f"Let me answer both.\n{text}") == f"Let me answer both.\n{text}"


def test_parts_of_one_question_stay() -> None:
    text = "Question 1.1: how many?\nThe answer is 9.\nQuestion 1.2: how much?\nThe answer is 18."
    assert own_answer(text) == text


def test_thinking_is_cut_off_if_something_follows() -> None:
    assert own_answer("<think>20</think>18") == "18"
    assert own_answer("<reasoning>a</reasoning><think>20</think>18") == "18"
    assert own_answer("<think>20</think>") == "<think>20</think>"
    assert own_answer("<think>20</think>\nDone.") == "<think>20</think>\nDone."


@pytest.mark.parametrize(
    "retraction",
    [
        "Wait, that is wrong.",
        "Oops,",
        "On second thought,",
        "I apologize for that.",
        "No, wait.",
        "Let me recalculate.",
        "Actually, I forgot one.",
        "That's incorrect.",
    ],
)
def test_a_retraction_begins_a_new_attempt(retraction: str) -> None:
    parts = attempts(f"The answer is 7. {retraction} The answer is 8.")
    assert len(parts) > 1
    assert "7" in parts[0]
    assert "8" in parts[-1]


def test_an_answer_without_retraction_is_one_attempt() -> None:
    for text in ("The answer is correct: 8.", "Await the result, 8.", "He had to wait 8 days."):
        assert attempts(text) == [text]


@pytest.mark.parametrize(
    "check",
    [
        "Check: 2+5 = 7",
        "Let me verify: 2+5 = 7",
        "To check this, 2+5 = 7",
        "**Verification:** 2+5 = 7",
        "(Check: 7)",
    ],
)
def test_a_check_after_a_number_is_cut_off(check: str) -> None:
    assert before_check(f"There are 5.\n{check}") == "There are 5.\n"


@pytest.mark.parametrize(
    "text", ["Check: 2+5 = 7", "She has 5.\nChecking accounts hold 50.", "5 checks of 10"]
)
def test_a_check_that_is_none_stays(text: str) -> None:
    assert before_check(text) == text


@given(st.text())
def test_any_text_is_cut_and_never_changed(text: str) -> None:
    assert own_answer(text) in text
    assert before_check(text) in text
    assert all(part in text for part in attempts(text))


@pytest.mark.parametrize(
    ("asked", "replied"),
    [
        ("user\n", "model\n"),
        ("<|im_start|>system\nBe brief.\n<|im_start|>user\n", "<|im_start|>assistant\n"),
        ("<bos><start_of_turn>user\n", "<start_of_turn>model\n"),
    ],
)
def test_a_prompt_that_the_model_repeats_is_cut_off(asked: str, replied: str) -> None:
    prompt = f"{asked}Tom has 5 pens. End with 'The answer is 3'.\n{replied}"
    assert own_answer(f"{prompt}It is 18.").strip() == "It is 18."
