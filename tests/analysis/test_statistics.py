from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from mathreason.analysis.statistics import (
    Transitions,
    mcnemar_exact,
    newcombe_paired,
    paired_difference,
    relative_improvement,
    smallest_detectable,
    transitions,
    verdict,
    wilson,
)

cells = st.integers(0, 60)
tables = st.builds(Transitions, cells, cells, cells, cells).filter(lambda table: table.n > 0)

# Newcombe 1998, Stat Med 17:2635, table III, the rows of method 10. His cells e, f, g, h are right with
# both, with the first only, with the second only, with neither; the difference is first − second.
NEWCOMBE_TABLE_III = [
    ((36, 12, 2, 0), (0.0569, 0.3404)),
    ((20, 12, 2, 16), (0.0562, 0.3292)),
    ((18, 12, 2, 18), (0.0562, 0.3290)),
    ((36, 14, 0, 0), (0.1528, 0.4167)),
    ((35, 14, 0, 1), (0.1461, 0.4175)),
    ((18, 14, 0, 18), (0.1441, 0.3963)),
    ((2, 97, 1, 0), (0.8721, 0.9854)),
    ((1, 97, 1, 1), (0.8736, 0.9850)),
    ((0, 29, 1, 0), (0.6666, 0.9882)),
    ((2, 98, 0, 0), (0.9178, 0.9945)),
    ((0, 30, 0, 0), (0.8395, 1.0)),
    ((54, 0, 0, 0), (-0.0664, 0.0664)),
    ((53, 0, 0, 1), (-0.0729, 0.0729)),
    ((27, 0, 0, 27), (-0.0351, 0.0351)),
]


def test_wilson_keeps_a_width_when_nothing_or_everything_is_right() -> None:
    # At p = 0 the Wilson limits reduce to 0 and z² / (n + z²).
    z = ndtri(0.975)
    assert (wilson(0, 20).low, wilson(0, 20).high) == pytest.approx((0, z**2 / (20 + z**2)))
    assert (wilson(20, 20).low, wilson(20, 20).high) == pytest.approx((20 / (20 + z**2), 1))


def test_wilson_is_the_solution_of_the_score_equation() -> None:
    found = wilson(37, 200, confidence=0.9)
    z = ndtri(0.95)
    for limit in (found.low, found.high):
        assert abs(found.value - limit) == pytest.approx(z * (limit * (1 - limit) / 200) ** 0.5)


def test_wilson_refuses_an_accuracy_of_nothing() -> None:
    with pytest.raises(ValueError, match="at least one item"):
        wilson(0, 0)


@pytest.mark.parametrize(("counts", "limits"), NEWCOMBE_TABLE_III)
def test_paired_interval_agrees_with_newcombes_published_table(
    counts: tuple[int, int, int, int], limits: tuple[float, float]
) -> None:
    low, high = newcombe_paired(Transitions(*counts))
    # The paper rounds to four decimals and uses z = 1.96.
    assert (low, high) == pytest.approx(limits, abs=1.2e-4)


@given(tables)
def test_paired_interval_holds_the_difference_and_stays_in_range(table: Transitions) -> None:
    low, high = newcombe_paired(table)
    value = (table.fixed - table.broken) / table.n
    assert -1 <= low <= value <= high <= 1
    assert high - low > 1e-6


@given(tables)
def test_paired_interval_turns_around_when_the_models_are_swapped(table: Transitions) -> None:
    low, high = newcombe_paired(table)
    swapped = newcombe_paired(Transitions(table.both, table.broken, table.fixed, table.neither))
    assert swapped == pytest.approx((-high, -low))


def test_paired_difference_gives_value_and_standard_error() -> None:
    base = [True, False, False, False, True]
    tuned = [True, True, True, False, False]
    found = paired_difference(base, tuned)
    differences = np.array([0, 1, 1, 0, -1])
    assert found.value == pytest.approx(0.2)
    assert found.se == pytest.approx(differences.std(ddof=1) / 5**0.5)
    assert (found.low, found.high) == newcombe_paired(transitions(base, tuned))
    assert found.method == "newcombe paired"


def test_paired_difference_of_one_item_has_no_standard_error() -> None:
    found = paired_difference([False], [True])
    assert found.se is None
    assert -1 <= found.low < found.value == found.high == 1


def test_pairs_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_difference([True, False], [True])


def test_mcnemar_agrees_with_a_calculation_by_hand() -> None:
    # 1 against 7, the data of Bentur 2009 used in Fagerland, Lydersen and Laake 2013, BMC Med Res Methodol
    # 13:91, by their formula: twice the chance of at most 1 of 8, 2 × (1 + 8) / 2⁸.
    assert mcnemar_exact(fixed=1, broken=7) == pytest.approx(18 / 256)
    assert mcnemar_exact(7, 1) == mcnemar_exact(1, 7)
    assert mcnemar_exact(0, 0) == 1.0


@pytest.mark.parametrize(
    ("fixed", "broken", "expected"),
    [
        (20, 3, "better"),
        (3, 20, "worse"),
        (5, 4, "no evidence of a difference"),
        (5, 0, "no evidence of a difference"),  # p = 0.0625
        (6, 0, "better"),  # p = 0.03125
        (0, 0, "no evidence of a difference"),
    ],
)
def test_verdict_follows_the_exact_test(fixed: int, broken: int, expected: str) -> None:
    assert verdict(fixed, broken) == expected


def test_relative_improvement_has_no_value_without_a_base() -> None:
    assert relative_improvement(0.2, 0.3) == pytest.approx(0.5)
    assert relative_improvement(0.0, 0.3) is None


def test_smallest_detectable_inverts_connors_sample_size() -> None:
    # (1.960 √0.20 + 0.842 √(0.20 − 0.01))² / 0.01 = 154.6 pairs for a difference of 0.10, 20 % discordant.
    assert smallest_detectable(155, 31) == pytest.approx(0.10, abs=2e-4)
    assert smallest_detectable(300, 0) is None
    assert smallest_detectable(20, 2) is None


def test_smallest_detectable_is_detected_with_the_stated_power() -> None:
    n, discordant = 400, 100
    delta = smallest_detectable(n, discordant)
    assert delta is not None
    psi = discordant / n
    power = ndtr((delta * n**0.5 - ndtri(0.975) * psi**0.5) / (psi - delta**2) ** 0.5)
    assert power == pytest.approx(0.8)


def simulate(probabilities: list[float], n: int, times: int) -> list[Transitions]:
    drawn = np.random.default_rng(1998).multinomial(n, probabilities, size=times)
    return [Transitions(*(int(count) for count in row)) for row in drawn]


def test_paired_interval_covers_the_true_difference() -> None:
    covered = []
    for table in simulate([0.10, 0.25, 0.05, 0.60], n=150, times=800):
        low, high = newcombe_paired(table)
        covered.append(low <= 0.20 <= high)
    # 95 % ± three binomial standard errors of 800 draws.
    assert 0.927 <= np.mean(covered) <= 0.98


def test_equal_models_are_called_different_in_at_most_one_of_twenty_comparisons() -> None:
    called = [
        verdict(table.fixed, table.broken) != "no evidence of a difference"
        for table in simulate([0.3, 0.12, 0.12, 0.46], n=200, times=2000)
    ]
    # The exact test is conservative; the upper bound adds three binomial standard errors to 5 %.
    assert 0.01 <= np.mean(called) <= 0.065


def test_a_real_difference_is_found() -> None:
    called = [
        verdict(table.fixed, table.broken) for table in simulate([0.1, 0.3, 0.1, 0.5], n=200, times=200)
    ]
    assert called.count("better") > 190
