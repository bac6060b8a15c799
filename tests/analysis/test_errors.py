from __future__ import annotations

from typing import Any

import pytest

from mathreason.analysis.errors import (
    by_outcome,
    by_steps,
    categories,
    category,
    describe,
    runs_on_from,
    set_up,
)
from mathreason.analysis.samples import Sample


def sample(index: int = 0, **changes: Any) -> Sample:
    values: dict[str, Any] = {
        "index": index,
        "id": f"gsm8k/test/{index}",
        "question": "How many?",
        "answer": "4",
        "prompt_sha256": "00",
        "response": "2 + 2 = 4\n#### 4",
        "strategy": "hash",
        "correct": True,
        "truncated": False,
        "response_tokens": 12,
        "extracted": "4",
        "steps": 1,
    }
    return Sample(**(values | changes))


def right_and_wrong(pattern: str) -> list[Sample]:
    return [sample(index, correct=mark == "r") for index, mark in enumerate(pattern)]


def test_items_are_sorted_by_what_changed() -> None:
    ids = by_outcome(right_and_wrong("rrww"), right_and_wrong("rwrw"))
    assert ids == {
        "both": ["gsm8k/test/0"],
        "broken": ["gsm8k/test/1"],
        "fixed": ["gsm8k/test/2"],
        "neither": ["gsm8k/test/3"],
    }


def test_accuracy_is_broken_down_by_the_steps_of_the_solution() -> None:
    steps = [2, 2, 3, 8, 11, None]
    base = [sample(index, steps=each, correct=index == 0) for index, each in enumerate(steps)]
    tuned = [sample(index, steps=each, correct=index < 4) for index, each in enumerate(steps)]
    rows = by_steps(base, tuned)
    assert [(row["steps"], row["n"]) for row in rows] == [("2", 2), ("3", 1), ("8+", 2)]
    assert [row["base"]["value"] for row in rows] == [0.5, 0.0, 0.0]
    assert [row["tuned"]["correct"] for row in rows] == [2, 1, 1]
    assert rows[0]["tuned"]["low"] < rows[0]["tuned"]["value"] == rows[0]["tuned"]["high"] == 1


def test_a_model_that_was_not_evaluated_has_no_accuracy_by_steps() -> None:
    assert by_steps([], [sample(steps=3)])[0]["base"] is None
    assert by_steps([sample(steps=3)], [])[0]["tuned"] is None
    assert by_steps([sample(steps=None)], [sample(steps=None)]) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"correct": True, "response": "2 + 2 = 5, no, 4"}, None),
        ({"truncated": True, "extracted": None, "response": "2 + 2 = 5"}, "truncated"),
        ({"extracted": None, "response": "2 + 2 = 5"}, "no answer"),
        ({"extracted": "5", "response": "2 + 2 = 5"}, "arithmetic slip"),
        ({"extracted": "6", "response": "2 + 4 = 6"}, "wrong set-up"),
        ({"extracted": "6", "response": "It must be 6"}, "wrong set-up"),
        ({"extracted": "2", "response": "2 + 2 = 4, each of 2"}, "format"),
        ({"extracted": None, "response": "2 + 2 = 4"}, "format"),
        ({"extracted": "2", "response": "2 + 1 = 4, 2 + 2 = 4, each of 2"}, "arithmetic slip"),
        ({"extracted": "7", "response": "#### 4\nQuestion: Next one?\n#### 7"}, "run-on"),
        ({"extracted": "7", "response": "#### 4\nQuestion: Next?\n5 + 2 =", "truncated": True}, "run-on"),
        ({"extracted": "7", "response": "#### 9\nQuestion: 1 + 1 = 3?\n#### 7"}, "wrong set-up"),
        ({"extracted": "7", "response": "2 + 2 = 9\n#### 9\nQuestion: Next?\n#### 7"}, "arithmetic slip"),
        ({"extracted": "4:30pm", "answer": "4:30p..", "response": "At 4:30 pm."}, "format"),
        ({"extracted": "4:30pm", "answer": "4:35 p.m.", "response": "At 4:30 pm."}, "wrong set-up"),
    ],
)
def test_a_wrong_response_falls_in_the_first_category_that_holds(
    changes: dict[str, Any], expected: str | None
) -> None:
    assert category(sample(**({"correct": False} | changes))) == expected


def test_categories_count_every_wrong_response_once() -> None:
    samples = [
        sample(0),
        sample(1, correct=False, truncated=True),
        sample(2, correct=False, response="1 + 1 = 3"),
        sample(3, correct=False, response="1 + 1 = 3"),
    ]
    assert categories(samples) == {
        "run-on": 0,
        "truncated": 1,
        "format": 0,
        "no answer": 0,
        "arithmetic slip": 2,
        "wrong set-up": 0,
    }


def test_description_counts_how_answers_were_found_and_how_long_responses_are() -> None:
    samples = [
        sample(index, response_tokens=index + 1, strategy="last_number" if index < 3 else "hash")
        for index in range(100)
    ]
    samples.append(sample(100, strategy="none", extracted=None, truncated=True, response_tokens=256))
    found = describe(samples)
    assert (found["truncated"], found["no_answer"], found["fallback_extracted"]) == (1, 1, 3)
    assert found["strategies"] == {"hash": 97, "last_number": 3, "none": 1}
    assert found["response_tokens"] == {"mean": 52.5, "median": 51, "p95": 96.0, "max": 256}


def test_one_response_can_be_described() -> None:
    assert describe([sample(response_tokens=9)])["response_tokens"]["p95"] == 9.0


@pytest.mark.parametrize(
    ("response", "rest"),
    [
        ("2 + 2 = 4\n#### 4", None),
        ("The answer is 4.", None),
        ("First, Question: is it 4?\n#### 4", None),
        ("#### 4\n\nQuestion: How many?\nAnswer: 5", "Question: How many?\nAnswer: 5"),
        ("The answer is 4.\n### Instruction: go on", "### Instruction: go on"),
        ("\\boxed{4}\nProblem 2. Find x.", "Problem 2. Find x."),
        ("#### 4\nIt is so.\n#### 4\nIt is so.\n#### 4", "\nIt is so.\n#### 4\nIt is so.\n#### 4"),
        ("Let \\boxed{\\phantom{2}} be x.\n\\boxed{\\phantom{2}}\n\\boxed{\\phantom{2}}\n", None),
        ("\\boxed{4}\n\\[\nx\n\\]\n\\[\ny\n\\]\n\\[\nz\n\\]", None),
        ("#### 4\nCheck: 2 + 2 = 4.\nThe answer is 4.", None),
    ],
)
def test_a_response_runs_on_when_it_goes_to_something_else_after_its_answer(
    response: str, rest: str | None
) -> None:
    start = runs_on_from(response)
    assert (None if start is None else response[start:]) == rest


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("It must be 6.", "no calculation"),
        ("17 + 5 = 22, and 22 * 2 = 44", "number not in the question"),
        ("There are 17 of them. 17 + 5 = 22, and 22 * 2 = 44", "other operations"),
        ("35 + 5 = 40", "fewer calculations"),
        ("35 + 5 = 40, and 40 / 2 = 20", "other operations"),
        ("35 - 5 = 30, and 30 * 2 = 60", "other"),
        ("30 / 2 = 16", None),
    ],
)
def test_a_wrong_set_up_is_told_apart_where_the_text_shows_it(response: str, expected: str | None) -> None:
    found = sample(
        correct=False,
        answer="70",
        extracted="6",
        response=response,
        question="Ann has thirty-five apples and gives 5 away, then doubles the rest. How many?",
        solution="5 * 2 = 10\n80 - 10 = 70",
    )
    assert set_up(found) == expected
