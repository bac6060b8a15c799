"""A marker gives the value it introduces, a heading or a mention gives none."""

from __future__ import annotations

import pytest

from mathreason.evaluation.markers import (
    hash_answer,
    program_output,
    restated_answer,
    stated_answer,
    tagged_answer,
)
from mathreason.evaluation.values import HEDGE


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("#### 18", "18"),
        ("####\n\n18", "18"),
        ("#### Answer: 18 eggs", "18"),
        ("#### Janet makes 18 dollars", "18"),
        ("#### Evelyn", "Evelyn"),
        ("#### 18\n\nTom has 5.\n#### 3", "18"),
        ("#### Step 1: count 5 eggs\n#### 1. Count\n#### 18", "18"),
        ("#### Step 3: 9 * 2 = 18", "18"),
        ("#### Conclusion\nThere are 18.", None),
        ("### 18", None),
        ("##### 18", "18"),
    ],
)
def test_the_first_hash_mark_with_a_value(text: str, answer: str | None) -> None:
    assert hash_answer(text) == answer


def test_a_hash_mark_with_two_values_or_a_refusal_is_a_hedge() -> None:
    assert hash_answer("#### 7 or 8") is HEDGE
    assert hash_answer("#### N/A") is HEDGE


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer>18</answer>", "18"),
        ("<ANSWER> $18 a day </ANSWER>", "18"),
        ("<final_answer>\\boxed{18}</final_answer>", "18"),
        ("<answer>There are 18 eggs in 3 nests.</answer>", "18"),
        ("<answer>7</answer> <answer>8</answer>", "8"),
        ("<answer>8</answer> <answer></answer>", "8"),
        ("[ANSWER]18[/ANSWER]", "18"),
        ('{"answer": 18, "steps": 2}', "18"),
        ('{"final_answer": "$18"}', "18"),
        ("{'answer': '18 eggs'}", "18"),
        ('{"answer": "\\\\boxed{18}"}', "18"),
        ('{"answers": 18}', None),
        ("18</answer>", None),
        ("<answer>18", None),
        ("the answer", None),
    ],
)
def test_the_last_tag_or_field_with_a_content(text: str, answer: str | None) -> None:
    assert tagged_answer(text) == answer


@pytest.mark.parametrize(
    "phrase",
    [
        "The answer is 18.",
        "the answer is18",
        "The answer: 18",
        "Answer = 18",
        "Ans. 18",
        "A: 18",
        "# Answer\n\n18",
        "The answer (arabic numerals) is 18.",
        "The answer (arabic numerals) is: \n\n9 + 9 = 18",
        "The answer is 5 + 4 * 9 = \n\n9 * 2 = \n\n18",
        "The answer is: \n\n+ 9 \n= 18",
        "The answer to the question, in dollars, is 18.",
        "The answer we get is $18$.",
        "Adding them gives 18 as the final answer.",
        "There are 9 + 9 = 18, which is the answer.",
        "\\textbf{Answer:} 18",
        "答案是18。",
        "My answer is that she has 18 eggs in 3 nests.",
    ],
)
def test_each_phrase_introduces_the_answer(phrase: str) -> None:
    assert stated_answer(f"First 7 hens.\n{phrase}") == "18"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer to 9 x 2 is 9. So the answer is 18.", "18"),
        ("The answer is 18. Tom has 5. How many are left? The answer is 3.", "18"),
        ("If the answer is 20, it is too much. The answer is 18.", "18"),
        ("The first answer is 9. The answer is 18.", "18"),
        ("The final answer is 18. The answer 9 was for eggs: the answer is 9.", "18"),
        ("The answer is 18. The answer in roman numerals is XVIII.", "18"),
        ("The answer is 18.\n\nThe answer is 1", "18"),
        ("Question 1.1: 7?\nThe answer is 7.\nQuestion 1.2: 9?\nThe answer is 18.", "18"),
        ("48 points/answer = 48.", None),
        ("The answer is not 18.", None),
        ("What is the answer? 18.", None),
        ("Answer: 16 - 7 = 9 eggs.\nThen 9 * 2 = 18.", None),
        ("Answer: 16 - 7 = 9 eggs. Then 9 * 2 = 18.", None),
    ],
)
def test_of_several_the_last_before_a_new_question(text: str, answer: str | None) -> None:
    assert stated_answer(text) == answer


@pytest.mark.parametrize(
    "refusal", ["N/A", "_____", "unknown", "we don't know", "that it cannot be determined"]
)
def test_a_refusal_is_no_answer(refusal: str) -> None:
    assert stated_answer(f"She has 5 eggs. The answer is {refusal}.") is HEDGE
    assert stated_answer(f"She has 5 eggs.\nAnswer: {refusal}.") is HEDGE


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("```output\n18\n```", "18"),
        ("```python\nprint(1)\n```\n```output\n9\n18.0\n```\nSo it is done.", "18.0"),
        ("```output\n9\n```\nthen\n```output\nTotal: 18\n```", "18"),
        ("```output\n18\n```\nSo she makes 18 dollars in 7 days.", None),
        ("```output\n18", "18"),
        ("```python\nprint(18)\n```", None),
    ],
)
def test_the_last_output_of_a_program_when_no_number_follows(text: str, answer: str | None) -> None:
    assert program_output(text) == answer


def test_a_failed_program_has_no_answer() -> None:
    assert program_output("```output\nNameError: name 'x' is not defined on line 3\n```") is HEDGE
    assert program_output("```output\n```") is HEDGE


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is Eliza's earnings for 45 hours are $460.", "460"),
        ("The answer is Mr. Benson paid $70.", "70"),
        ("Answer: $\\text{Answer: } 18$", "18"),
        ("The answer is:\n\n1. Add 3 and 4\n2. Double it", None),
    ],
)
def test_an_announced_clause_gives_its_claim_and_an_announced_list_nothing(
    text: str, answer: str | None
) -> None:
    assert stated_answer(text) == answer


def test_an_answer_after_a_box_counts_where_it_is_another_number() -> None:
    assert restated_answer("\\boxed{9} eggs. The answer is 18.") == "18"
    assert restated_answer("\\boxed{18} eggs. The answer is 18.0.") is None
    assert restated_answer("\\boxed{x} eggs. The answer is 18.") is None
    assert restated_answer("The answer is 18. It is \\boxed{9}.") is None
