from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import binom, binomtest

from mathreason.analysis.planning import (
    detectable_before,
    discordant_share,
    items_needed,
    plan_items,
    power,
)


def power_by_enumeration(n: int, discordant: float, difference: float) -> float:
    fixed = (1 + difference / discordant) / 2
    return sum(
        binom.pmf(changed, n, discordant) * binom.pmf(count, changed, fixed)
        for changed in range(1, n + 1)
        for count in range(changed + 1)
        if binomtest(count, changed).pvalue < 0.05
    )


@pytest.mark.parametrize(
    ("n", "discordant", "difference"),
    [(24, 0.4, 0.3), (25, 0.9, 0.2), (30, 0.3, 0.3), (12, 1.0, 0.5), (5, 0.5, 0.5)],
)
def test_power_agrees_with_an_enumeration_of_every_table(
    n: int, discordant: float, difference: float
) -> None:
    assert power(n, discordant, difference) == pytest.approx(power_by_enumeration(n, discordant, difference))


@pytest.mark.parametrize(
    ("n", "discordant", "difference"), [(1319, 0.2, 0.035), (6000, 0.4, 0.02), (6000, 0.4, 0.03)]
)
def test_power_on_many_items_agrees_with_the_binomial_sums(
    n: int, discordant: float, difference: float
) -> None:
    changed = np.arange(n + 1)
    rarer = binom.ppf(0.025, changed, 0.5)
    rarer -= binom.cdf(rarer, changed, 0.5) >= 0.025
    fixed = (1 + difference / discordant) / 2
    found = binom.cdf(rarer, changed, fixed) + binom.cdf(rarer, changed, 1 - fixed)
    expected = np.sum(binom.pmf(changed, n, discordant) * found)
    assert power(n, discordant, difference) == pytest.approx(expected, abs=1e-3)


def connor(n: int, discordant: float, difference: float) -> float:
    """Connor 1987 (Biometrics 43:207): n δ² against (z_α √ψ + z_β √(ψ − δ²))², for 80 % power at 5 %."""
    spread = ndtri(0.975) * sqrt(discordant) + ndtri(0.8) * sqrt(discordant - difference**2)
    return n * difference**2 / spread**2


@pytest.mark.parametrize("n", [100, 500, 1319])
@pytest.mark.parametrize("discordant", [0.1, 0.2, 0.4])
def test_the_detectable_difference_is_a_little_above_connors_approximation(n: int, discordant: float) -> None:
    found = detectable_before(n, discordant)
    assert found is not None
    assert power(n, discordant, found) >= 0.8 > power(n, discordant, found - 1e-4)
    # His formula is for McNemar's χ² without correction, to which the exact test is slightly inferior.
    assert 1 < connor(n, discordant, found) < 1.09


def test_too_few_items_can_detect_nothing() -> None:
    assert detectable_before(20, 0.1) is None
    assert detectable_before(300, 0.0) is None
    assert detectable_before(0) is None


def test_as_many_items_as_needed_and_no_fewer() -> None:
    n = items_needed(0.05, discordant=0.2)
    assert n == 658
    assert power(n, 0.2, 0.05) >= 0.8 > power(n - 1, 0.2, 0.05)
    # Connor's formula gives 626.
    assert connor(625, 0.2, 0.05) < 1 < connor(626, 0.2, 0.05)


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.3 needs at least as large a share"):
        items_needed(0.3, discordant=0.2)
    with pytest.raises(ValueError, match="cannot be correlated"):
        discordant_share(0.1, 0.9, 0.9)


def test_the_discordant_share_follows_from_accuracies_and_correlation() -> None:
    assert discordant_share(0.5, 0.5, 0.0) == pytest.approx(0.5)
    assert discordant_share(0.5, 0.5, 1.0) == pytest.approx(0.0)
    # Independent outcomes: 0.3 × 0.6 + 0.7 × 0.4.
    assert discordant_share(0.3, 0.4, 0.0) == pytest.approx(0.46)


def test_the_plan_is_a_table_of_sizes_and_shares() -> None:
    plan = plan_items([100, 1319], discordant=[0.05, 0.2])
    assert [row["n"] for row in plan] == [100, 1319]
    assert plan[0]["detectable"][0] == {"discordant": 0.05, "difference": None}
    assert plan[1]["detectable"][1] == {"discordant": 0.2, "difference": detectable_before(1319, 0.2)}
    assert [row["n"] for row in plan_items()] == [100, 200, 500, 1319]
