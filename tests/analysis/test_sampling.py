from __future__ import annotations

from itertools import combinations
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathreason.analysis.clustered import cluster_items
from mathreason.analysis.samples import Sample
from mathreason.analysis.sampling import Votes, at_k, ladder, majority_at_k, pass_at_k, votes
from mathreason.analysis.statistics import wilson


def sample(extracted: str | None, correct: bool = False, index: int = 0, number: int = 0) -> Sample:
    return Sample(
        index=index,
        id=f"gsm8k/test/{index}",
        question="?",
        answer="18",
        prompt_sha256="",
        response="",
        strategy="hash",
        correct=correct,
        truncated=False,
        response_tokens=1,
        extracted=extracted,
        steps=None,
        sample=number,
    )


def item(right: int, wrong: list[str], silent: int = 0) -> list[Sample]:
    answers = (
        [sample("18", correct=True)] * right + [sample(text) for text in wrong] + [sample(None)] * silent
    )
    assert answers
    return answers


# -- pass@k ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "right", "k", "expected"),
    [
        # The docstring example of Hugging Face evaluate's code_eval (the estimator of Chen et al. 2021): one
        # of two candidates is right, {'pass@1': 0.5, 'pass@2': 1.0}.
        (2, 1, 1, 0.5),
        (2, 1, 2, 1.0),
        # 1 − C(3,3)/C(5,3), and 1 − C(95,10)/C(100,10) from Chen's product form ∏ (1 − 10/i), i = 96 … 100.
        (5, 2, 3, 0.9),
        (100, 5, 10, 1 - (86 / 96) * (87 / 97) * (88 / 98) * (89 / 99) * (90 / 100)),
        (10, 0, 5, 0.0),
        (10, 10, 5, 1.0),
    ],
)
def test_pass_at_k_agrees_with_published_values(n: int, right: int, k: int, expected: float) -> None:
    assert pass_at_k(right, n, k) == pytest.approx(expected)


@given(st.integers(1, 9), st.data())
def test_pass_at_k_is_the_share_of_choices_that_hold_a_right_response(n: int, data: st.DataObject) -> None:
    right, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    chosen = list(combinations([True] * right + [False] * (n - right), k))
    assert pass_at_k(right, n, k) == pytest.approx(sum(any(each) for each in chosen) / len(chosen))


@pytest.mark.parametrize("k", [0, 9])
def test_more_responses_than_there_are_cannot_be_chosen(k: int) -> None:
    with pytest.raises(ValueError, match=f"{k} of 8 responses"):
        pass_at_k(3, 8, k)
    with pytest.raises(ValueError, match=f"{k} of 8 responses"):
        majority_at_k(Votes(3, (5,), 0), k)


# -- maj@k -----------------------------------------------------------------------------------------


def test_equal_answers_are_counted_together() -> None:
    responses = [
        sample("18", correct=True),
        sample("18.00", correct=True),
        *(sample(text) for text in ("20", "20.0", "40/2", "(3, 4)", "( 3,4 )", "Even", "even", "-20", "2e1")),
        sample(None),
    ]
    assert votes(responses) == Votes(right=2, wrong=(1, 1, 2, 2, 3), silent=1)


def test_hostile_answers_are_only_texts() -> None:
    assert votes([sample("1e999999999"), sample("9" * 5000), sample("1/0")]) == Votes(0, (1, 1, 1), 0)


def majority_by_enumeration(counted: Votes, k: int) -> float:
    """Every choice of k responses; of answers that tie each wins its share."""
    answers: list[int | None] = [0] * counted.right + [None] * counted.silent
    for number, count in enumerate(counted.wrong, start=1):
        answers += [number] * count
    won = 0.0
    for chosen in combinations(answers, k):
        cast = [answer for answer in chosen if answer is not None]
        top = max((cast.count(answer) for answer in cast), default=0)
        winners = {answer for answer in cast if cast.count(answer) == top}
        won += (0 in winners) / len(winners) if winners else 0
    return won / comb(len(answers), k)


@given(st.integers(0, 5), st.lists(st.integers(1, 4), max_size=3), st.integers(0, 2), st.data())
def test_majority_is_the_average_over_every_choice(
    right: int, wrong: list[int], silent: int, data: st.DataObject
) -> None:
    counted = Votes(right, tuple(sorted(wrong)), silent)
    if counted.n:
        k = data.draw(st.integers(1, counted.n))
        assert majority_at_k(counted, k) == pytest.approx(majority_by_enumeration(counted, k))


def test_ties_are_shared_and_silence_does_not_vote() -> None:
    assert majority_at_k(votes(item(2, ["7", "7"])), 4) == pytest.approx(1 / 2)
    assert majority_at_k(votes(item(1, ["7", "8"])), 3) == pytest.approx(1 / 3)
    assert majority_at_k(votes(item(1, [], silent=7)), 8) == 1.0
    assert majority_at_k(votes(item(0, [], silent=8)), 8) == 0.0
    assert majority_at_k(votes(item(3, ["7", "7", "8", "9"])), 7) == 1.0


def test_one_response_is_its_own_majority() -> None:
    counted = votes(item(3, ["7", "7", "8"], silent=2))
    assert majority_at_k(counted, 1) == pytest.approx(pass_at_k(3, 8, 1)) == pytest.approx(3 / 8)


def test_many_responses_are_still_counted_exactly() -> None:
    # 40 right against 24 wrong of 64, at k = 64 the majority is certain; at k = 1 it is the accuracy.
    counted = Votes(40, (8, 8, 8), 0)
    assert majority_at_k(counted, 64) == 1.0
    assert majority_at_k(counted, 1) == pytest.approx(40 / 64)
    assert 40 / 64 < majority_at_k(counted, 8) < majority_at_k(counted, 32) < 1


# -- over items ------------------------------------------------------------------------------------


def test_the_ladder_ends_with_all_responses() -> None:
    assert [ladder(n) for n in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_both_scores_are_means_over_items_with_intervals() -> None:
    items = [item(4, []), item(1, ["7", "7", "7"]), item(0, ["7", "8"], silent=2), item(3, ["9"])] * 25
    rows = at_k(items, cluster_items([None] * 100))
    assert [row["k"] for row in rows["pass_at_k"]] == [1, 2, 4]
    assert rows["pass_at_k"][0]["value"] == pytest.approx(8 / 16)
    assert rows["maj_at_k"][0]["value"] == pytest.approx(8 / 16)
    assert rows["pass_at_k"][2]["value"] == pytest.approx(3 / 4)
    assert rows["maj_at_k"][2]["value"] == pytest.approx(2 / 4)
    for row in (*rows["pass_at_k"], *rows["maj_at_k"]):
        assert 0 < row["low"] < row["value"] < row["high"] < 1
    # At k = n each item is right or wrong: Wilson's interval, but for Student's quantile.
    plain, found = wilson(75, 100), rows["pass_at_k"][2]
    assert (found["low"], found["high"]) == pytest.approx((plain.low, plain.high), abs=3e-3)
