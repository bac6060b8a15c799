from __future__ import annotations

import json
from typing import Any

import pytest

from mathreason.analysis.problem_types import MAX_EXAMPLES, SMALL_BIN, analyse
from mathreason.analysis.samples import Sample


def sample(index: int = 0, **changes: Any) -> Sample:
    values: dict[str, Any] = {
        "index": index,
        "id": f"gsm8k/test/{index}",
        "question": f"Ann has {index} apples and 2 pears. How many?",
        "answer": "4",
        "prompt_sha256": "00",
        "response": "2 + 2 = 4\n#### 4",
        "strategy": "hash",
        "correct": True,
        "truncated": False,
        "response_tokens": 12,
        "extracted": "4",
        "steps": 1,
        "solution": "2 + 2 = 4",
    }
    return Sample(**(values | changes))


def wrong(index: int, **changes: Any) -> Sample:
    return sample(index, **({"correct": False, "extracted": "5", "response": "2 + 2 = 5\n#### 5"} | changes))


def table(found: dict[str, Any], name: str) -> dict[str, Any]:
    rows = next(each["rows"] for each in found["types"] if each["name"] == name)
    return {row["label"]: row for row in rows}


def test_what_became_of_each_category_is_counted() -> None:
    base = [wrong(0), wrong(1), sample(2), sample(3, correct=False, truncated=True, response="2")]
    tuned = [sample(0), wrong(1), wrong(2), sample(3)]
    found = analyse(base, tuned)
    assert found["n"] == 4
    assert found["transitions"] == [
        {"base": "right", "tuned": "arithmetic slip", "n": 1},
        {"base": "truncated", "tuned": "right", "n": 1},
        {"base": "arithmetic slip", "tuned": "right", "n": 1},
        {"base": "arithmetic slip", "tuned": "arithmetic slip", "n": 1},
    ]
    assert found["categories"]["base"]["arithmetic slip"] == 2
    assert found["arithmetic"]["tuned"] == {"calculations": 4, "wrong": 2, "responses_with_wrong": 2}


def test_accuracy_is_told_by_what_the_solution_does() -> None:
    solutions = [
        "2 + 2 = 4",
        "3 * 4 = 12\n12 - 2 = 10",
        "20% of 50 = 10",
        "1/2 * 8 = 4 and 0.5 + 1 = 1.5",
        "",
    ]
    items = [sample(index, solution=each) for index, each in enumerate(solutions)]
    rows = table(analyse(items, []), "operations in the reference solution")
    assert {label: row["n"] for label, row in rows.items()} == {
        "+": 2, "−": 1, "×": 3, "÷": 1, "%": 1, "fractions": 1,
    }  # fmt: skip
    assert rows["+"]["base"]["value"] == 1
    assert rows["+"]["tuned"] is None


def test_accuracy_is_told_by_what_the_source_says_of_a_problem() -> None:
    base = [
        sample(index, attributes={"type": "Algebra", "level": f"Level {index % 2}"}) for index in range(40)
    ]
    base += [wrong(index, attributes={"type": "Geometry"}) for index in range(40, 45)]
    found = analyse(base, base)
    rows = table(found, "type")
    assert [(label, row["n"], row["small"]) for label, row in rows.items()] == [
        ("Algebra", 40, False),
        ("Geometry", 5, True),
    ]
    assert rows["Geometry"]["base"]["value"] == 0
    assert rows["Geometry"]["base"]["high"] > 0.3
    assert list(table(found, "level")) == ["Level 0", "Level 1"]
    assert all(row["small"] == (row["n"] < SMALL_BIN) for each in found["types"] for row in each["rows"])


@pytest.mark.parametrize(
    ("answer", "label"),
    [("7", "below 10"), ("1,234", "1 000 to 9 999"), ("-3", "negative"), ("1/2", "not whole"),
     ("x + 1", "not a number"), ("12345678", "10 000 and more"), ("0", "below 10")],
)  # fmt: skip
def test_answers_are_sorted_by_size(answer: str, label: str) -> None:
    found = analyse([sample(0, answer=answer), sample(1, answer="55")], [])
    assert list(table(found, "reference answer")) in ([label, "10 to 99"], ["10 to 99", label])


def test_questions_and_responses_are_sorted_by_size() -> None:
    items = [
        sample(0, question="Two of 1,200 and 3?"),
        sample(1, question="Two of three?", response="word " * 60),
    ]
    found = analyse([], items)
    assert list(table(found, "largest number in the question")) == ["1 000 to 9 999", "none in digits"]
    assert list(table(found, "length of the response in words")) == ["1 to 25", "51 to 100"]


def test_only_the_first_of_several_responses_counts() -> None:
    found = analyse([sample(0), wrong(0, sample=1)], [])
    assert found["n"] == 1
    assert found["arithmetic"]["base"]["wrong"] == 0


def test_examples_mark_where_responses_part_and_what_is_wrong() -> None:
    base = [wrong(index, question="Ann?") for index in range(9)]
    found = analyse(base, [sample(index) for index in range(9)])
    assert [len(each) for each in found["examples"].values()] == [MAX_EXAMPLES, 0]
    first = found["examples"]["fixed"][0]
    assert first["id"] == "gsm8k/test/0"
    assert first["base"] == {
        "category": "arithmetic slip",
        "set_up": None,
        "differs": {"step": 1, "start": 0, "end": 9},
        "wrong": {"step": 1, "start": 0, "end": 9, "stated": "5", "true": "4"},
    }
    assert first["tuned"]["wrong"] is None
    assert first["tuned"]["differs"] == {"step": 1, "start": 0, "end": 9}


def test_one_model_alone_gives_examples_of_each_category_from_different_questions() -> None:
    same = [wrong(index, question="Ann?") for index in range(3)]
    found = analyse([], [*same, wrong(7), sample(8)])
    assert found["transitions"] == []
    assert found["categories"]["base"] is None
    assert [each["id"] for each in found["examples"]["arithmetic slip"]] == ["gsm8k/test/0", "gsm8k/test/7"]


def test_the_analysis_is_small_json() -> None:
    base = [wrong(index, response="2 + 2 = 5. " * 2000) for index in range(50)]
    found = analyse(base, [sample(index) for index in range(50)])
    assert len(json.dumps(found)) < 20_000
    assert analyse([], []) == analyse([], [])
    assert analyse([], [])["n"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "12345 + 1 = 12347;",
        "#### 5\n",
        "answer is ",
        "\\text{",
        "1 * 777 = 777\n",
        "a. B ",
        "5 apples ",
        "((((",
    ],
)
def test_a_megabyte_of_hostile_text_is_analysed(text: str) -> None:
    hostile = wrong(0, extracted="9", response=text * (10**6 // len(text)))
    found = analyse([hostile], [sample(0)])
    assert sum(found["categories"]["base"].values()) == 1
    assert len(json.dumps(found)) < 20_000


def test_groups_widen_intervals_and_count_as_one_observation() -> None:
    alone = [(sample if index % 2 else wrong)(index) for index in range(80)]
    grouped = [(sample if index % 16 < 8 else wrong)(index, group=f"{index // 8}") for index in range(80)]
    rows = [
        table(analyse(each, []), "largest number in the question")["10 to 99"] for each in (alone, grouped)
    ]
    assert [row["small"] for row in rows] == [False, True]
    widths = [row["base"]["high"] - row["base"]["low"] for row in rows]
    assert widths[1] > 1.5 * widths[0]
