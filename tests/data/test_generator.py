from __future__ import annotations

import operator
import re
from collections.abc import Callable
from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathreason.data.audit import Audit, masked
from mathreason.data.generator import Split, Story, generate, side, stories
from mathreason.data.problem import Problem
from mathreason.data.story_numbers import LARGEST, TABLE, divide
from mathreason.data.story_worlds import CONTAINERS, THINGS, WORLDS, article, plural
from mathreason.results import content_hash

COUNT = 600
DIGEST = "218427b108dfb633706a34acf966a621a4054a08145d1242215f66051577d2b1"
SUM = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,
}


@pytest.fixture(scope="module")
def told() -> list[Story]:
    return list(islice(stories("train", 3), COUNT))


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_written_sum_is_right_and_the_last_gives_the_answer(split: Split) -> None:
    for problem in generate(split, COUNT, seed=11):
        lines = problem.solution.splitlines()
        assert 1 <= len(lines) <= 4
        for line in lines:
            (sums,) = SUM.findall(line)
            left, right, result = int(sums[0]), int(sums[2]), int(sums[3])
            assert OPERATIONS[sums[1]](left, right) == result, line
            if sums[1] == "/":
                assert result * right == left, line
        assert problem.answer == SUM.findall(lines[-1])[0][3]


def test_every_number_used_was_given_or_worked_out_before(told: list[Story]) -> None:
    for drawn in told:
        known = set(re.findall(r"\d+", drawn.question))
        for line in drawn.worked:
            left, sign, right, result = SUM.findall(line)[0]
            assert left in known, (drawn.question, line)
            spoken = ("twice" in drawn.question and sign == "*") or (
                "half" in drawn.question.lower() and sign == "/"
            )
            assert right in known or (right == "2" and spoken), (drawn.question, line)
            known.add(result)


def test_numbers_stay_small_and_products_stay_in_the_tables(told: list[Story]) -> None:
    for drawn in told:
        text = drawn.question + " ".join(drawn.worked)
        assert all(2 <= int(number) <= LARGEST for number in re.findall(r"\d+", text))
        for left, sign, right, result in SUM.findall(" ".join(drawn.worked)):
            if sign == "*":
                assert max(int(left), int(right)) <= TABLE
            if sign == "/":
                assert max(int(right), int(result)) <= TABLE


def test_the_same_seed_gives_the_same_problems_and_a_longer_run_begins_like_a_shorter_one() -> None:
    assert list(generate("train", 40, seed=5)) == list(generate("train", 60, seed=5))[:40]
    assert list(generate("train", 40, seed=5)) != list(generate("train", 40, seed=6))


def test_the_problems_of_a_seed_never_change() -> None:
    problems = list(generate("test", 200, seed=0))
    assert problems[0] == Problem(
        question="Tina has 9 old grapes and 27 new grapes on the farm. "
        "How many grapes does Tina have in the end?",
        solution="Tina has 9 + 27 = 36 grapes.",
        answer="36",
        source="generator",
        id="generator/test-0/0",
    )
    fields = ("question", "solution", "answer", "source", "id")
    assert content_hash([{name: getattr(p, name) for name in fields} for p in problems]) == DIGEST


def test_no_question_is_on_both_sides_even_with_other_numbers() -> None:
    train = {masked(problem.question) for seed in range(3) for problem in generate("train", 1500, seed)}
    test = {masked(problem.question) for seed in range(3) for problem in generate("test", 500, seed)}
    assert len(test) > 1400
    assert not train & test


def test_the_side_does_not_depend_on_numbers_case_or_punctuation() -> None:
    drawn = list(islice(stories("test", 1), 50))
    for story in drawn:
        changed = re.sub(r"\d+", "7", story.question).upper().replace(".", " !")
        assert side(changed) == "test"


def test_about_one_story_in_eight_is_on_the_test_side() -> None:
    sides = [side(f"What is {word} plus {other}?") for word in THINGS for other in THINGS]
    assert 0.11 < sides.count("test") / len(sides) < 0.14


def test_train_rows_share_hardly_any_passage_with_test_questions() -> None:
    audit = Audit({"generator": generate("test", 300, seed=1001)})
    rows = list(generate("train", 1000, seed=1))
    shared = [row for row in rows if audit.match(row.question, row.solution)]
    assert len(shared) <= 0.01 * len(rows)


def test_every_family_and_every_length_occurs() -> None:
    problems = list(generate("train", 3000, seed=2))
    assert {problem.steps for problem in problems} == {1, 2, 3, 4}
    text = " ".join(problem.question + problem.solution for problem in problems)
    families = [family for world in WORLDS for family in (*world.openings, *world.events, *world.closings)]
    assert len(families) >= 30
    for family in families:
        for wording in (*filter(None, family.told), *family.ask, *family.worked):
            pattern = re.sub(r"\\\{\w+\\\}", r"[\\w ]+", re.escape(wording))
            assert re.search(pattern, text), wording


def test_questions_are_written_in_proper_sentences(told: list[Story]) -> None:
    for drawn in told:
        assert drawn.question[0].isupper() or drawn.question[0].isdigit()
        assert drawn.question.endswith("?")
        assert not re.search(r"  |[{}]| a [aeiou]", drawn.question), drawn.question


@pytest.mark.parametrize(
    ("noun", "expected"),
    [("apple", "apples"), ("box", "boxes"), ("cherry", "cherries"), ("toy", "toys"), ("shelf", "shelves")],
)
def test_plurals(noun: str, expected: str) -> None:
    assert noun in THINGS + CONTAINERS
    assert plural(noun) == expected


def test_articles() -> None:
    assert (article("apple"), article("pear")) == ("an", "a")


@given(st.integers(2, LARGEST), st.randoms(use_true_random=False))
def test_a_division_is_exact_or_not_drawn(amount: int, rng: Random) -> None:
    numbers = divide(rng, amount)
    if numbers is None:
        assert not any(amount % k == 0 and 2 <= amount // k <= TABLE for k in range(2, TABLE + 1))
    else:
        assert numbers["k"] * numbers["z"] == amount
