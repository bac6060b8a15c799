from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri

from mathreason.analysis.statistics import (
    Transitions,
    holm,
    mcnemar_exact,
    newcombe_paired,
    paired_difference,
    relative_improvement,
    tango_limits,
    transitions,
    verdict,
    wilson,
)

cells = st.integers(0, 60)
tables = st.builds(Transitions, cells, cells, cells, cells).filter(lambda table: table.n > 0)
Z = float(ndtri(0.975))

# Complete response before and after consolidation therapy (Cavo et al. 2012), an example of Fagerland,
# Lydersen and Laake 2017, "Statistical Analysis of Contingency Tables", chapter 8; the figures are those
# their R package contingencytables 3.0.0 is tested with. First minus second: 59 both, 6 against 16, 80.
CAVO = Transitions(both=59, fixed=6, broken=16, neither=80)

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


def outcomes(table: Transitions) -> tuple[list[bool], list[bool]]:
    """Items that give this table."""
    base = [True] * table.both + [False] * table.fixed + [True] * table.broken + [False] * table.neither
    tuned = [True] * table.both + [True] * table.fixed + [False] * table.broken + [False] * table.neither
    return base, tuned


# -- one model -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("correct", "n", "limits"),
    [
        # Newcombe 1998, Stat Med 17:857, table I, method 3 (four decimals).
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
        # statsmodels 0.15.0, proportion_confint(184, 300, method="wilson")
        (184, 300, (0.5571245198072374, 0.6666764067151987)),
    ],
)
def test_wilson_agrees_with_published_limits(correct: int, n: int, limits: tuple[float, float]) -> None:
    found = wilson(correct, n)
    assert (found.low, found.high) == pytest.approx(limits, abs=5.1e-5)


def test_wilson_keeps_a_width_when_nothing_or_everything_is_right() -> None:
    # At p = 0 the Wilson limits reduce to 0 and z² / (n + z²).
    assert (wilson(0, 20).low, wilson(0, 20).high) == (0, pytest.approx(Z**2 / (20 + Z**2)))
    assert (wilson(20, 20).low, wilson(20, 20).high) == (pytest.approx(20 / (20 + Z**2)), 1)


def test_wilson_is_the_solution_of_the_score_equation() -> None:
    found = wilson(37, 200, confidence=0.9)
    for limit in (found.low, found.high):
        assert abs(found.value - limit) == pytest.approx(ndtri(0.95) * (limit * (1 - limit) / 200) ** 0.5)


def test_wilson_refuses_what_is_no_proportion() -> None:
    with pytest.raises(ValueError, match="at least one item"):
        wilson(0, 0)
    with pytest.raises(ValueError, match="21 of 20 items cannot be correct"):
        wilson(21, 20)


# -- two models ------------------------------------------------------------------------------------


def test_paired_interval_agrees_with_a_published_example() -> None:
    base, tuned = outcomes(CAVO)
    found = paired_difference(base, tuned)
    assert found.value == pytest.approx(-0.0621, abs=5e-5)
    assert (found.low, found.high) == pytest.approx((-0.1240, -0.0054), abs=5.1e-5)
    assert found.method == "tango score"


def test_standard_error_agrees_with_published_examples() -> None:
    # Both divide by n where sd(d)/√n divides by n − 1. Cavo et al.: Wald interval −0.1184 to −0.0058.
    cavo = paired_difference(*outcomes(CAVO))
    assert cavo.se is not None
    assert cavo.se * (160 / 161) ** 0.5 == pytest.approx((0.1184 - 0.0058) / 2 / Z, abs=5e-5)
    # Agresti, Categorical Data Analysis (2nd ed. 2002), 10.1.1: 1 600 people asked twice, SE 0.0095.
    approval = paired_difference(*outcomes(Transitions(794, 86, 150, 570)))
    assert approval.value == pytest.approx(-0.04)
    assert approval.se is not None
    assert approval.se * (1599 / 1600) ** 0.5 == pytest.approx(0.0095, abs=5e-5)


@given(tables)
def test_paired_interval_is_where_the_score_test_is_not_significant(table: Transitions) -> None:
    low, high = tango_limits(table.fixed, table.broken, table.n, Z)
    value = (table.fixed - table.broken) / table.n
    assert -1 <= low <= value <= high <= 1
    assert high - low > 1e-6
    # At zero the score test is McNemar's, (fixed − broken)² / (fixed + broken) against z².
    significant = (table.fixed - table.broken) ** 2 > Z**2 * (table.fixed + table.broken)
    assert significant == (low > 0 or high < 0)


@pytest.mark.parametrize("n", [1, 54, 1319])
def test_paired_interval_keeps_a_width_when_nothing_or_everything_changed(n: int) -> None:
    # Without discordant pairs the score equation is n δ² = z² |δ| (1 − |δ|); with nothing but fixed items
    # it is n (1 − δ)² = z² (1 − δ²).
    assert tango_limits(0, 0, n, Z) == pytest.approx((-(Z**2) / (n + Z**2), Z**2 / (n + Z**2)))
    assert tango_limits(n, 0, n, Z) == pytest.approx(((n - Z**2) / (n + Z**2), 1))


@given(tables)
def test_intervals_turn_around_when_the_models_are_swapped(table: Transitions) -> None:
    low, high = newcombe_paired(table)
    swapped = newcombe_paired(Transitions(table.both, table.broken, table.fixed, table.neither))
    assert swapped == pytest.approx((-high, -low))
    low, high = tango_limits(table.fixed, table.broken, table.n, Z)
    assert tango_limits(table.broken, table.fixed, table.n, Z) == pytest.approx((-high, -low), abs=1e-9)


@given(tables)
def test_paired_interval_gets_wider_with_confidence(table: Transitions) -> None:
    widths = [
        high - low
        for low, high in (tango_limits(table.fixed, table.broken, table.n, z) for z in (0.5, 1, 2, 4))
    ]
    assert all(narrow <= wide + 1e-9 for narrow, wide in pairwise(widths))


@pytest.mark.parametrize(("counts", "limits"), NEWCOMBE_TABLE_III)
def test_newcombes_interval_agrees_with_his_published_table(
    counts: tuple[int, int, int, int], limits: tuple[float, float]
) -> None:
    # The paper rounds to four decimals and uses z = 1.96.
    assert newcombe_paired(Transitions(*counts)) == pytest.approx(limits, abs=1.2e-4)


def test_newcombes_interval_agrees_with_a_published_example() -> None:
    assert newcombe_paired(CAVO) == pytest.approx((-0.1186, -0.0046), abs=5.1e-5)


def test_paired_difference_gives_value_and_standard_error() -> None:
    base = [True, False, False, False, True]
    tuned = [True, True, True, False, False]
    found = paired_difference(base, tuned)
    differences = np.array([0, 1, 1, 0, -1])
    assert found.value == pytest.approx(0.2)
    assert found.se == pytest.approx(differences.std(ddof=1) / 5**0.5)
    assert (found.low, found.high) == tango_limits(2, 1, 5, Z)
    assert transitions(base, tuned) == Transitions(both=1, fixed=2, broken=1, neither=1)


def test_paired_difference_of_one_item_has_no_standard_error() -> None:
    found = paired_difference([False], [True])
    assert found.se is None
    assert -1 <= found.low < found.value == found.high == 1


def test_pairs_of_different_length_or_none_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_difference([True, False], [True])
    with pytest.raises(ValueError, match="at least one item"):
        paired_difference([], [])


@pytest.mark.parametrize(
    ("fixed", "broken", "p"),
    [
        # The data of Bentur 2009 used in Fagerland, Lydersen and Laake 2013, BMC Med Res Methodol 13:91, by
        # their formula: twice the chance of at most 1 of 8, 2 × (1 + 8) / 2⁸.
        (1, 7, 18 / 256),
        # Cavo et al. 2012, contingencytables 3.0.0 (six decimals); statsmodels 0.15.0 gives 0.05247879.
        (6, 16, 0.052478790283203125),
        # Agresti's approval data, statsmodels 0.15.0, mcnemar([[794, 86], [150, 570]], exact=True)
        (86, 150, 3.7159361395713866e-05),
    ],
)
def test_mcnemar_agrees_with_published_examples(fixed: int, broken: int, p: float) -> None:
    assert mcnemar_exact(fixed, broken) == pytest.approx(p, rel=1e-9)
    assert mcnemar_exact(broken, fixed) == pytest.approx(p, rel=1e-9)


def test_mcnemar_says_nothing_when_nothing_changed() -> None:
    assert mcnemar_exact(0, 0) == 1.0


def test_relative_improvement_has_no_value_without_a_base() -> None:
    assert relative_improvement(0.2, 0.3) == pytest.approx(0.5)
    assert relative_improvement(0.0, 0.3) is None


# -- the verdict -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        # statsmodels 0.15.0, multipletests(p, method="holm")[1]
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.02, 0.02, 0.5], [0.06, 0.06, 0.5]),
        ([0.6, 0.7, 0.9], [1.0, 1.0, 1.0]),
    ],
)
def test_holm_agrees_with_statsmodels(p_values: list[float], adjusted: list[float]) -> None:
    assert holm(p_values) == pytest.approx(adjusted)


def test_holm_leaves_a_single_test_alone() -> None:
    assert holm([0.034]) == [0.034]
    assert holm([]) == []


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
    assert verdict(mcnemar_exact(fixed, broken), fixed - broken) == expected


def test_a_p_value_of_just_five_percent_is_no_evidence() -> None:
    assert verdict(0.05, 0.1) == "no evidence of a difference"
    assert verdict(0.0499, 0.1) == "better"
