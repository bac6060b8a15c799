"""A sentence gives the value that it claims, and not its conditions, reasons, purposes and circumstances."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathreason.evaluation.claims import (
    MAX_CANDIDATES,
    final_result,
    is_unfinished,
    last_number,
    refuses,
    sentence_value,
)
from mathreason.evaluation.markup import plain_characters
from mathreason.evaluation.values import HEDGE


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("In 4 weeks Claire will eat 7 dozen eggs.", "7"),
        ("She eats 7 dozen eggs in 4 weeks.", "7"),
        ("He drives 3 hours at 60 mph = 180 miles.", "180"),
        ("The total is $18 for 3 days.", "18"),
        ("The price was 5 and now is 6.", "6"),
        ("The total comes to 45 dollars for the 3 friends.", "45"),
        ("It takes 360/30 = 12 days for it to be 600 inches tall.", "12"),
        ("The total turns out to be 45.", "45"),
        ("The sum is 5 + 13 = 18 = 2 * 9.", "18"),
        ("It is not 5 but 6.", "6"),
        ("It takes five days.", "5"),
        ("Tom ate one third of it.", "1/3"),
        ("It rains for 3 days.", "3"),
        ("In total, the 3 friends paid 45 dollars.", "45"),
        ("She has $18 left after spending $32 of her $50.", "18"),
        ("There are no eggs left.", "0"),
        ("There is nothing.", "0"),
        ("There are hens.", None),
        ("", None),
    ],
)
def test_a_sentence_states_its_claim_rather_than_a_circumstance(sentence: str, value: str | None) -> None:
    assert sentence_value(sentence) == value


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("She has 9 eggs because 3 * 3 = 9 and 1 + 1 = 2.", "9"),
        ("She stays 55 minutes before the 60 because 300 - 245 = 55.", "55"),
        ("She has 9, 240 ounces because 7 * 1,320 = 9,240.", "9240"),
        ("He ate 15 ounces because 15 > 14.", "15"),
        ("She pays $18 for 7 days, since there are 7 days in a week.", "18"),
    ],
)
def test_a_reason_proves_the_claim(sentence: str, value: str) -> None:
    assert sentence_value(sentence, prefer_last=True) == value


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("768 / 50 = 15.36, so she has to make 16 trips", "16"),
        ("He needs 16.75 bags, meaning that he must buy 17 bags.", "17"),
        ("Since 1.76 is less than 2, he throws it away after 3 days.", "3"),
        ("They have 260 sheep when Seattle has 20 sheep.", "260"),
        ("She makes $18 a day (9 eggs at 2 dollars).", "18"),
        ("So far he has 5.", "5"),
    ],
)
def test_the_consequence_outweighs_its_condition(sentence: str, value: str) -> None:
    assert sentence_value(sentence, prefer_last=True) == value


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("She needs 132 spoons to make 16 muffins.", "132"),
        ("It would take 840 minutes to groom 5 dogs and 3 cats.", "840"),
        ("It takes him 3 hours to get 10 miles.", "3"),
        ("She needs to add 5 to get 12.", "12"),
        ("It costs 40 to make, for a total of 40*5 = 200.", "200"),
    ],
)
def test_a_purpose_is_no_claim_and_a_result_is(sentence: str, value: str) -> None:
    assert sentence_value(sentence, prefer_last=True) == value


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("So 100/5 = 5A/5, or 20 = A.", "20"),
        ("It is the 12/2 = 6th platform.", "6"),
        ("The ratio is 3:2.", "3:2"),
        ("The solutions are 2 and 3.", "2,3"),
        ("She gets 12 $5 bills.", "12"),
        ("He owes $400 000 to the bank.", "400000"),
        ("Carla needs 160 minutes, or 2 hours and 40 minutes.", "160"),
        ("It takes 2 hours and 40 minutes (160 minutes).", "160"),
        ("It takes 4 hours and 30 minutes.", "4.5"),
        ("| total | 18 |", "18"),
        ("Janet makes **18** dollars for 7 days.", "18"),
        ("**Day 7:** she has 18 eggs", "18"),
    ],
)
def test_other_forms_of_a_value_are_read(sentence: str, value: str) -> None:
    assert sentence_value(sentence, prefer_last=True) == value


def test_of_equal_claims_the_first_or_the_last_is_taken() -> None:
    assert sentence_value("She has 5 eggs, 6 hens too.") == "5"
    assert sentence_value("She has 5 eggs, 6 hens too.", prefer_last=True) == "6"
    assert sentence_value("She has 5 eggs and 6 hens.") == "6"
    assert sentence_value("She has 5 or 6 eggs.") is HEDGE


def test_only_the_last_candidates_of_a_sentence_are_read() -> None:
    numbers = " ".join(f"{number} eggs" for number in range(1, MAX_CANDIDATES + 11))
    assert sentence_value(f"She has {numbers}.") == "11"


def test_a_refusal_is_a_sentence_without_a_number() -> None:
    assert refuses("There is not enough information.")
    assert refuses("We don't know.")
    assert not refuses("It cannot be determined to be more than 5.")
    assert not refuses("The answer is here.")


def test_the_last_number_of_a_calculation_without_result_is_no_value() -> None:
    assert last_number("so we get 18") == "18"
    assert last_number("so we get nothing") is HEDGE


@given(st.text())
def test_any_sentence_states_a_value_a_hedge_or_nothing(text: str) -> None:
    found = sentence_value(plain_characters(text))
    assert found is None or found is HEDGE or (isinstance(found, str) and found.strip())


@given(st.integers(-(10**12), 10**12))
def test_every_integer_is_stated_in_each_place(value: int) -> None:
    for sentence in (f"The total is {value:,} eggs.", f"Therefore, x = {value}."):
        assert sentence_value(sentence) == str(value)


@pytest.mark.parametrize(
    "sentence", ["9 *", "5 * 1", "3 x 4", "The total is", "She sells the", "so \\frac{1", "It is \\text{ eg"]
)
def test_a_sentence_that_breaks_off_is_unfinished(sentence: str) -> None:
    assert is_unfinished(sentence)


@pytest.mark.parametrize("sentence", ["9 * 2 = 18", "She sells 9 eggs", "It is 18.", "\\frac{1}{2}", "18"])
def test_a_sentence_with_a_result_is_finished(sentence: str) -> None:
    assert not is_unfinished(sentence)


@pytest.mark.parametrize(
    ("sentence", "result"),
    [("7 * 9 = 63 \\text{ ske", "63"), ("7 * 9 = 63 + 1", None), ("7 * 9 =", None), ("7 *", None)],
)
def test_a_sentence_that_breaks_off_after_a_result_has_it(sentence: str, result: str | None) -> None:
    assert final_result(sentence) == result
