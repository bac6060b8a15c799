"""Verdicts in the manner of lm-evaluation-harness equal the ones it gave itself (lm_eval_verdicts.jsonl)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathreason.data.rows import split_hash_answer
from mathreason.evaluation.harness import HarnessVerdicts, gsm8k_cot_verdicts, gsm8k_verdicts
from mathreason.results import read_jsonl

JUDGES = {"gsm8k": gsm8k_verdicts, "gsm8k_cot": gsm8k_cot_verdicts}
ROWS = [row for _, row in read_jsonl(Path(__file__).with_name("lm_eval_verdicts.jsonl"))]


def test_every_recorded_verdict_is_given_again() -> None:
    kinds = {(row["task"], row["strict"], row["flexible"]) for row in ROWS}
    assert len(kinds) == 8
    differing = [
        row
        for row in ROWS
        if JUDGES[row["task"]](row["response"], row["answer"])
        != HarnessVerdicts(row["strict"], row["flexible"])
    ]
    assert differing == []


@pytest.mark.parametrize(
    ("response", "answer", "strict", "flexible"),
    [
        ("She has 9 eggs.\n#### 9", "9", True, True),
        ("#### 9\n\nQuestion: and 2 more?\n#### 3", "9", True, False),  # first match, last match
        ("She makes $18.00 a day.", "18", False, False),  # text, not numbers
        ("She makes $1,018. a day.", "1018", False, True),
        ("#### $18", "18", False, True),  # the strict filter wants the digit at once
        ("#### −18", "-18", False, False),
        ("#### - 18", "-18", False, False),
        ("#### 18..", "18", False, False),  # one full stop is ignored, not two
        ("no number at all", "[invalid]", True, True),  # what a filter gives for no match
        ("no number at all", "[INVALID]", True, True),
        ("#### ,", "", True, False),  # a lone comma is a strict match, and no flexible one
        ("It is 5-6", "-6", False, True),
        ("５", "5", False, False),
    ],
)
def test_gsm8k_quirks(response: str, answer: str, strict: bool, flexible: bool) -> None:
    assert gsm8k_verdicts(response, answer) == HarnessVerdicts(strict, flexible)


@pytest.mark.parametrize(
    ("response", "strict"),
    [
        ("The answer is 15.", True),
        ("The answer is 15 eggs", True),
        ("The answer is 15", False),  # the last digit is taken for the character after the number
        ("The answer is 15\n", False),
        ("The answer is 15\nThe answer is 15.", False),
        ("the answer is 15.", False),
        ("#### 15", False),
    ],
)
def test_gsm8k_cot_needs_a_character_after_the_number(response: str, strict: bool) -> None:
    assert gsm8k_cot_verdicts(response, "15").strict is strict


def test_gsm8k_cot_cuts_the_target_at_the_marks_from_the_left() -> None:
    assert gsm8k_cot_verdicts("The answer is 5.", "a #### 3 ####5").strict
    assert not gsm8k_cot_verdicts("The answer is 5.", "#####5").strict


def test_whole_solution_and_bare_answer_are_the_same_target(real_data: Path) -> None:
    lines = (real_data / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    for whole in (json.loads(line)["answer"] for line in lines):
        parts = split_hash_answer(whole)
        assert parts is not None
        for response in (whole, parts[0], f"The answer is {parts[1]}."):
            for judge in JUDGES.values():
                assert judge(response, whole) == judge(response, parts[1])
        assert gsm8k_verdicts(whole, parts[1]) == HarnessVerdicts(strict=True, flexible=True)


@given(st.text(alphabet="05-$., #x\n", max_size=30))
def test_backward_search_finds_the_last_match_of_the_published_pattern(text: str) -> None:
    found = re.findall(r"(-?[$0-9.,]{2,})|(-?[0-9]+)", text)
    wanted = next(group for group in found[-1] if group) if found else "[invalid]"
    assert gsm8k_verdicts(text, wanted).flexible
    assert not gsm8k_verdicts(text, f"{wanted}x").flexible


@pytest.mark.parametrize(
    "unit",
    ["#### ", "####", "-", "$", ".", "- ", ". ", "The answer is ", "The answer is 5\n", "5 ", "#### 5"],
)
def test_a_megabyte_of_hostile_text_is_judged(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    for judge in JUDGES.values():
        assert judge(text, "nothing like it") == HarnessVerdicts(strict=False, flexible=False)
        judge("5", text)


def test_a_megabyte_of_digits_is_compared_whole() -> None:
    digits = "7" * 1_000_000
    assert gsm8k_verdicts(f"#### {digits}", digits) == HarnessVerdicts(strict=True, flexible=True)
    assert gsm8k_verdicts(f"#### {digits}", f"{digits}7") == HarnessVerdicts(strict=False, flexible=False)
