"""Grading is exact, and agrees with hand-judged cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathreason.errors import InputError
from mathreason.evaluation.grading import MAX_REFERENCE, Grader, grade

CASES = [
    json.loads(line)
    for line in Path(__file__).with_name("cases.jsonl").read_text(encoding="utf-8").splitlines()
]


@pytest.mark.parametrize(
    "case", CASES, ids=[f"line {number}: {case['kind']}" for number, case in enumerate(CASES, start=1)]
)
def test_agrees_with_the_hand_judged_case(case: dict[str, Any]) -> None:
    graded = grade(case["response"], case["answer"])
    assert graded.correct is case["correct"], graded
    if "extracted" in case:
        assert graded.extracted == case["extracted"]


@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_a_number_is_correct_only_if_it_is_the_reference(ours: int, theirs: int) -> None:
    for response in (
        f"#### {ours:,}",
        f"The answer is {ours}.",
        f"\\boxed{{{ours}}}",
        f"Therefore, x = {ours}.",
    ):
        assert grade(response, str(ours)).correct
        assert grade(response, f"{theirs:,}").correct is (ours == theirs)


@given(st.integers(1, 10**6), st.integers(2, 10**3), st.integers(2, 6))
def test_a_rounded_decimal_answers_only_what_no_decimal_can_write(over: int, under: int, places: int) -> None:
    scaled = over * 10**places
    rounded = (2 * scaled + under) // (2 * under)
    written = f"{rounded // 10**places}.{rounded % 10**places:0{places}d}"
    terminates = 10**40 * over % under == 0
    exact = rounded * under == scaled
    assert grade(f"#### {written}", f"{over}/{under}").correct is (exact or not terminates)
    off = rounded + 1
    wrong = f"{off // 10**places}.{off % 10**places:0{places}d}"
    assert not grade(f"#### {wrong}", f"{over}/{under}").correct


@pytest.mark.parametrize(
    ("response", "answer", "correct"),
    [
        ("50%", "50", True),
        ("50%", "0.5", True),
        ("50", "50%", True),
        ("0.5", "50%", True),
        ("50%", "50%", True),
        ("0.5%", "50%", False),
        ("50%", "5000", False),
        ("50", "0.5", False),
        ("0.5", "50", False),
    ],
)
def test_a_percent_sign_is_a_unit_or_a_hundredth_but_never_both(
    response: str, answer: str, correct: bool
) -> None:
    assert grade(f"#### {response}", answer).correct is correct


def test_clock_times_differ_by_their_half_of_the_day() -> None:
    assert grade("#### 2:00 pm", "2:00 PM").correct
    assert not grade("#### 2:00 am", "2:00 PM").correct
    assert grade("#### 14:00", "14").correct


def test_case_matters_for_variables_and_not_for_words() -> None:
    assert grade("#### evelyn", "Evelyn").correct
    assert not grade("\\boxed{a}", "A").correct


def test_a_whole_reference_solution_counts_by_its_last_line_or_its_box() -> None:
    assert grade("#### 18", "She makes 9*2=18.\n#### 18").correct
    solution = "Of 20 eggs 2 break, " + "one after the other, " * 50 + "so $\\boxed{18}$ are left of the 20."
    assert grade("#### 18", solution).correct
    assert not grade("#### 20", solution).correct
    assert grade("\\boxed{(1, 2)}", "\\boxed{(1,2)}").correct


@pytest.mark.parametrize("answer", ["", "  \n", "####", "$$", "\u200e", "9" * (MAX_REFERENCE + 1)])
def test_a_reference_that_cannot_be_graded_against_is_refused(answer: str) -> None:
    with pytest.raises(InputError, match="reference answer"):
        grade("#### 18", answer)


@given(st.text(), st.text())
def test_grading_any_text_gives_a_grade_or_refuses_the_reference(response: str, answer: str) -> None:
    try:
        graded = grade(response, answer)
    except InputError:
        return
    assert graded == grade(response, answer)
    assert not (graded.correct and graded.extracted is None)


def test_formulas_are_compared_symbolically_unless_that_is_switched_off() -> None:
    response = "So \\boxed{11+x}."
    with Grader() as grader:
        assert grader.grade(response, "x+11").correct
        assert not grader.grade(response, "x+12").correct
    with Grader(symbolic=False) as grader:
        assert not grader.grade(response, "x+11").correct
        assert grader.grade("\\boxed{2,1}", "1,2").correct


def test_a_comparison_that_runs_out_of_time_is_wrong_and_counted() -> None:
    with Grader() as grader:
        graded = grader.grade("\\boxed{(x^{9999}+1)^{9999}}", "x+\\sin(x)")
        assert (graded.correct, graded.timed_out) == (False, True)
        assert grader.grade("\\boxed{11+x}", "x+11").correct


def test_the_verdicts_of_lm_eval_stand_beside_ours() -> None:
    graded = grade("She makes 9 * 2 = $18.00 a day.\n#### 18.00", "18")
    assert (graded.correct, graded.lm_eval_strict, graded.lm_eval_flexible) == (True, False, False)
    graded = grade("The answer is 5. Check: 2+5 = 7", "7")
    assert (graded.correct, graded.lm_eval_strict, graded.lm_eval_flexible) == (False, False, True)


def test_a_grade_as_a_row() -> None:
    assert grade("#### 18", "18").to_dict() == {
        "extracted": "18",
        "strategy": "hash",
        "correct": True,
        "lm_eval_strict": True,
        "lm_eval_flexible": True,
        "timed_out": False,
    }
