from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power
from scipy.stats import permutation_test

from mathreason.analysis.clustered import (
    Clusters,
    cluster_bootstrap,
    cluster_items,
    clustered_accuracy,
    clustered_difference,
    clustered_mean,
    clustered_se,
    degrees_of_freedom,
    effective_change,
    sign_flip_test,
)
from mathreason.analysis.statistics import mcnemar_exact, paired_difference, wilson

# Twenty items in seven groups of 1, 2, 3, 4, 5, 2 and 3.
CLUSTERS = cluster_items(
    [str(group) for group, size in enumerate([1, 2, 3, 4, 5, 2, 3]) for _ in range(size)]
)
BASE = [1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 0, 1, 1, 0, 0]
TUNED = [1, 1, 0, 1, 1, 1, 0, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1]
DIFFERENCE = [after - before for before, after in zip(BASE, TUNED, strict=True)]

groupings = st.lists(st.sampled_from([None, "a", "b", "c", "d"]), min_size=3, max_size=12)


def alone(n: int) -> Clusters:
    return cluster_items([None] * n)


def test_items_without_a_group_stand_alone() -> None:
    clusters = cluster_items(["a", None, "b", "a", None, "1"])
    assert clusters == Clusters((0, 1, 2, 0, 3, 4), 5)
    assert clusters.sizes.tolist() == [2, 1, 1, 1, 1]
    assert clusters.sums([1, 2, 3, 4, 5, 6]).tolist() == [5, 2, 3, 5, 6]


# -- standard error --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # statsmodels 0.15.0, OLS(values, ones).fit(cov_type="cluster", cov_kwds={"groups": ...}).bse
        (BASE, 0.15246584316932538),
        (TUNED, 0.15389390284651738),
        (DIFFERENCE, 0.06038073644245598),
    ],
)
def test_clustered_se_agrees_with_statsmodels(values: list[int], expected: float) -> None:
    assert clustered_se(values, CLUSTERS) == pytest.approx(expected, rel=1e-12)


def test_clustered_se_is_millers_sum_over_pairs_within_a_cluster() -> None:
    # Miller 2024, eq. 4: SE² = SE_CLT² + 1/n² Σ_c Σ_i Σ_{j≠i} (s_ic − s̄)(s_jc − s̄), SE_CLT² = Σ (s − s̄)²/n²;
    # the factor G/(G−1) comes on top.
    n, mean = len(BASE), np.mean(BASE)
    independent = sum((value - mean) ** 2 for value in BASE)
    within = sum(
        (BASE[i] - mean) * (BASE[j] - mean)
        for i, j in product(range(n), repeat=2)
        if i != j and CLUSTERS.labels[i] == CLUSTERS.labels[j]
    )
    miller = np.sqrt(independent + within) / n
    assert clustered_se(BASE, CLUSTERS) == pytest.approx(miller * np.sqrt(7 / 6))


def test_clustered_se_of_items_alone_is_the_usual_one() -> None:
    assert clustered_se(BASE, alone(20)) == pytest.approx(np.std(BASE, ddof=1) / np.sqrt(20))
    assert clustered_se(BASE, cluster_items(["all"] * 20)) is None


@given(groupings)
def test_degrees_of_freedom_follow_bell_and_mccaffreys_definition(groups: list[str | None]) -> None:
    clusters = cluster_items(groups)
    if clusters.count < 2:
        assert degrees_of_freedom(clusters) == 0
        return
    # Their matrices, for a regression on a constant: columns (I − H)_g (I − H_gg)^(−1/2) 1_g.
    n = len(groups)
    residual = np.eye(n) - np.full((n, n), 1 / n)
    columns = []
    for number in range(clusters.count):
        members = [index for index, label in enumerate(clusters.labels) if label == number]
        root = fractional_matrix_power(residual[np.ix_(members, members)], -0.5)
        columns.append(residual[:, members] @ root @ np.ones(len(members)))
    gram = np.array(columns) @ np.array(columns).T
    assert degrees_of_freedom(clusters) == pytest.approx(np.trace(gram) ** 2 / np.sum(gram**2))


def test_equal_clusters_have_one_degree_of_freedom_less_than_clusters() -> None:
    assert degrees_of_freedom(cluster_items(list("aabbccdd"))) == pytest.approx(3)
    assert degrees_of_freedom(alone(30)) == pytest.approx(29)
    assert degrees_of_freedom(cluster_items([*"a" * 50, *"bcdefghij"])) < 3


# -- intervals -------------------------------------------------------------------------------------


def test_items_alone_with_one_response_get_the_usual_intervals() -> None:
    assert clustered_accuracy(BASE, 1, alone(20)) == wilson(sum(BASE), 20)
    assert clustered_difference(BASE, TUNED, 1, alone(20)) == paired_difference(
        [bool(each) for each in BASE], [bool(each) for each in TUNED]
    )


def test_copies_of_an_item_add_nothing() -> None:
    copied = cluster_items([str(index // 5) for index in range(100)])
    base, tuned = np.repeat(BASE, 5).tolist(), np.repeat(TUNED, 5).tolist()
    once = effective_change(BASE, TUNED, 1, alone(20))
    assert effective_change(base, tuned, 1, copied).n == pytest.approx(20)
    assert clustered_se(DIFFERENCE, alone(20)) == pytest.approx(
        clustered_se(np.repeat(DIFFERENCE, 5).tolist(), copied)
    )
    assert (once.fixed, once.broken, once.n, once.discordant) == pytest.approx((6, 1, 20, 0.35))
    accuracy, grouped = wilson(sum(BASE), 20), clustered_accuracy(base, 1, copied)
    # Only Student's quantile for 20 clusters, 2.09 in place of 1.96, tells the two apart.
    assert grouped.low < accuracy.low < accuracy.high < grouped.high
    assert grouped.high - grouped.low == pytest.approx(accuracy.high - accuracy.low, rel=0.08)
    assert (grouped.correct, grouped.n, grouped.method) == (sum(base), 100, "wilson, clustered")


def test_groups_widen_what_hangs_together() -> None:
    right = [1] * 50 + [0] * 50
    groups = cluster_items([str(index // 10) for index in range(100)])
    tight, wide = wilson(50, 100), clustered_accuracy(right, 1, groups)
    assert wide.high - wide.low > 2.5 * (tight.high - tight.low)


def test_groups_never_count_for_more_than_their_items() -> None:
    # One of each pair is right but for two pairs, so the pairs vary far less than single items would.
    alternating = [0, 1] * 48 + [0, 0, 1, 1]
    groups = cluster_items([str(index // 2) for index in range(100)])
    found = clustered_accuracy(alternating, 1, groups)
    assert found.low < wilson(50, 100).low
    assert found.high > wilson(50, 100).high


def test_many_responses_to_an_item_tell_more_than_one_but_less_than_many_items() -> None:
    rng = np.random.default_rng(3)
    chance = rng.uniform(size=100)
    once, often = rng.binomial(1, chance).tolist(), rng.binomial(16, chance).tolist()
    widths = [
        found.high - found.low
        for found in (
            clustered_accuracy(once, 1, alone(100)),
            clustered_accuracy(often, 16, alone(100)),
            wilson(sum(often), 1600),
        )
    ]
    assert widths[0] > widths[1] > 1.5 * widths[2]


@pytest.mark.parametrize("right", [0, 4])
def test_a_spread_of_zero_is_not_taken_for_certainty(right: int) -> None:
    groups = cluster_items([str(index // 5) for index in range(100)])
    accuracy = clustered_accuracy([right] * 100, 4, groups)
    assert accuracy.high - accuracy.low > 0.15
    difference = clustered_difference([right] * 100, [right] * 100, 4, groups)
    assert difference.low < -0.1
    assert difference.value == 0
    assert difference.high > 0.1


def test_one_group_says_next_to_nothing() -> None:
    everything = cluster_items(["text"] * 20)
    difference = clustered_difference(BASE, TUNED, 1, everything)
    assert difference.se is None
    assert difference.high - difference.low > 1
    assert clustered_accuracy(BASE, 1, everything).high > 0.9


@given(groupings, st.integers(1, 4), st.randoms())
def test_intervals_hold_their_value_and_stay_in_range(
    groups: list[str | None], samples: int, rng: object
) -> None:
    clusters = cluster_items(groups)
    drawn = np.random.default_rng(abs(hash(rng)) % 2**32).integers(0, samples + 1, size=(2, len(groups)))
    base, tuned = drawn.tolist()
    difference = clustered_difference(base, tuned, samples, clusters)
    assert -1 <= difference.low <= difference.value + 1e-9
    assert difference.value - 1e-9 <= difference.high <= 1
    value, low, high = clustered_mean([count / samples for count in base], samples * len(base), clusters)
    assert 0 <= low <= value <= high <= 1


def test_the_bootstrap_resamples_whole_groups() -> None:
    low, high = cluster_bootstrap(BASE, TUNED, 1, CLUSTERS)
    assert (low, high) == cluster_bootstrap(BASE, TUNED, 1, CLUSTERS)
    assert low < 0.25 < high
    # All 7⁷ ways to draw seven groups, each as likely: the 2.5 % and 97.5 % points of the ratio.
    sums, sizes = CLUSTERS.sums(DIFFERENCE), CLUSTERS.sizes
    draws = np.stack(np.unravel_index(np.arange(7**7), (7,) * 7))
    exact = np.quantile(sums[draws].sum(axis=0) / sizes[draws].sum(axis=0), [0.025, 0.975])
    assert (low, high) == pytest.approx(exact.tolist(), abs=0.02)
    assert cluster_bootstrap(BASE, TUNED, 1, cluster_items(["text"] * 20)) == (0.25, 0.25)


# -- test ------------------------------------------------------------------------------------------


def test_sign_flips_agree_with_scipys_permutation_test() -> None:
    sums = CLUSTERS.sums(DIFFERENCE)
    scipys = permutation_test(
        (sums, np.zeros(7)), lambda x, y: np.sum(x - y), permutation_type="samples", alternative="two-sided"
    )
    assert sign_flip_test(BASE, TUNED, CLUSTERS) == pytest.approx(scipys.pvalue)


@given(groupings, st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_sign_flips_count_every_pattern(groups: list[str | None], samples: int, seed: int) -> None:
    clusters = cluster_items(groups)
    base, tuned = np.random.default_rng(seed).integers(0, samples + 1, size=(2, len(groups))).tolist()
    sums = clusters.sums([after - before for before, after in zip(base, tuned, strict=True)])
    patterns = np.array(list(product((-1, 1), repeat=clusters.count)))
    as_large = np.abs(patterns @ sums) >= abs(sums.sum()) - 1e-9
    assert sign_flip_test(base, tuned, clusters) == pytest.approx(as_large.mean())


@given(st.integers(0, 40), st.integers(0, 40))
def test_sign_flips_over_items_are_mcnemars_exact_test(fixed: int, broken: int) -> None:
    base, tuned = [0] * fixed + [1] * broken + [1], [1] * fixed + [0] * broken + [1]
    assert sign_flip_test(base, tuned, alone(len(base))) == pytest.approx(mcnemar_exact(fixed, broken))


def test_sign_flips_of_many_items_are_not_lost_in_rounding() -> None:
    # 1 319 items with 8 responses each, all fixed: 2 of 2^1319 patterns, less than a float can hold.
    assert sign_flip_test([0] * 1319, [8] * 1319, alone(1319)) == 0.0
    assert sign_flip_test([0] * 900, [8] * 900, alone(900)) == pytest.approx(2 * 0.5**900)
