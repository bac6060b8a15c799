"""Grading agrees with real data: gold solutions, labelled responses and answers in usual phrasings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from mathreason.evaluation.grading import grade
from mathreason.evaluation.normalisation import normalise_answer


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def gold_number(solution: str) -> Fraction:
    return Fraction(solution.rsplit("####", 1)[1].strip().replace(",", ""))


@pytest.mark.parametrize(("split", "count"), [("train", 7473), ("test", 1319)])
def test_every_gsm8k_solution_gives_its_own_final_number_and_no_other(
    real_data: Path, split: str, count: int
) -> None:
    solutions = [row["answer"] for row in rows(real_data / "gsm8k" / f"{split}.jsonl")]
    right = [grade(solution, str(gold_number(solution))) for solution in solutions]
    assert (len(right), sum(graded.correct for graded in right)) == (count, count)
    assert {graded.strategy for graded in right} == {"hash"}
    assert not any(grade(solution, str(gold_number(solution) + 1)).correct for solution in solutions)


@pytest.mark.parametrize(("split", "least"), [("train", 7439), ("test", 1313)])
def test_gsm8k_solutions_without_their_marker_are_read_from_the_last_sentence(
    real_data: Path, split: str, least: int
) -> None:
    solutions = [row["answer"] for row in rows(real_data / "gsm8k" / f"{split}.jsonl")]
    graded = [grade(text.rsplit("####", 1)[0], str(gold_number(text))) for text in solutions]
    assert sum(one.correct for one in graded) >= least
    assert "hash" not in {one.strategy for one in graded}


def test_every_labelled_response_is_graded_as_labelled(real_data: Path) -> None:
    labelled = rows(real_data / "numinamath_qwq_cot" / "train.jsonl")
    differing = [
        row for row in labelled if grade(row["response"], row["ground_truth"]).correct != row["correct"]
    ]
    assert differing == []
    assert {row["correct"] for row in labelled} == {True, False}
    assert len(labelled) == 400


PHRASINGS: list[Callable[[Any], str]] = [
    lambda number: f"#### {number}",
    lambda number: f"The answer is {number}.",
    lambda number: f"Therefore, there are {number} apples left.",
    lambda number: f"So the total is \\boxed{{{number}}}.",
]


@pytest.mark.parametrize("benchmark", ["svamp", "asdiv"])
def test_every_target_is_right_in_each_phrasing_and_its_successor_wrong(
    real_data: Path, benchmark: str
) -> None:
    targets = {row["target"] for row in rows(real_data / benchmark / "test.jsonl")}
    assert len(targets) > 100
    for target in targets:
        for phrase in PHRASINGS:
            assert grade(phrase(target), str(target)).correct, phrase(target)
            assert not grade(phrase(target + 1), str(target)).correct, phrase(target + 1)


def last_box(solution: str) -> str:
    """What the last `\\boxed` of a solution holds, found without the code under test."""
    *_, box = re.finditer(r"\\f?box(?:ed)?\b ?", solution)
    if solution[box.end()] != "{":
        return solution[box.end()]
    depth = 0
    for position in range(box.end(), len(solution)):
        depth += {"{": 1, "}": -1}.get(solution[position], 0)
        if depth == 0:
            return solution[box.end() + 1 : position]
    raise ValueError(f"unclosed box: {solution[box.start() :]}")


def test_math_solutions_give_their_last_box_or_all_of_a_final_list(real_data: Path) -> None:
    solutions = [row["solution"] for row in rows(real_data / "math" / "test.jsonl")]
    graded = [grade(solution, last_box(solution)) for solution in solutions]
    assert len(graded) == 5000
    assert sum(one.correct for one in graded) >= 4991
    for solution, one in zip(solutions, graded, strict=True):
        in_list = one.extracted is not None and one.extracted.endswith(normalise_answer(last_box(solution)))
        assert one.correct or one.extracted is None or in_list
