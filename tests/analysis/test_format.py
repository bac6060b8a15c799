from __future__ import annotations

import pytest

from mathreason.analysis.format import bounds, count, p_relation, p_value, percent, point_bounds, points


def test_proportions_are_percentages_with_one_decimal() -> None:
    assert percent(0.61333) == "61.3 %"
    assert percent(0) == "0.0 %"
    assert bounds({"low": 0.5207, "high": 1.0}) == "[52.1, 100.0]"


def test_differences_carry_their_sign() -> None:
    assert points(0.5833) == "+58.3"
    assert points(-0.05) == "−5.0"
    assert points(-0.0001) == "0.0"
    assert point_bounds({"low": -0.012, "high": 0.053}) == "[−1.2, 5.3]"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.34e-12, "1.3e-12"),
        (0.034, "0.034"),
        (1.0, "1"),
        (0.0012, "0.0012"),
        (9.96e-4, "1.0e-3"),
        (0.0, "<1e-300"),
    ],
)
def test_p_values_are_short_at_every_size(value: float, text: str) -> None:
    assert p_value(value) == text


def test_a_p_value_too_small_for_a_float_is_a_bound() -> None:
    assert p_relation(0.0) == "< 1e-300"
    assert p_relation(0.034) == "= 0.034"


def test_counts_are_grouped() -> None:
    assert count(1319) == "1\u202f319"
    assert count(7) == "7"
