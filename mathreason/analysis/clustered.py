"""The statistics of a comparison whose responses are not independent of each other.

    items          1    2    3    4    5    6          two responses to each, right ones counted
    right, base    0    2    1    0    0    2
    right, tuned   1    2    2    2    0    1
    group          a    a    a    b    b    None       None: an item that stands alone

    clusters = cluster_items(["a", "a", "a", "b", "b", None])       # three clusters
    clustered_accuracy([0, 2, 1, 0, 0, 2], 2, clusters)             # 5 of 12, as sure as 3 clusters allow
    clustered_difference(base, tuned, 2, clusters)
    sign_flip_test(base, tuned, clusters)                           # the test behind the verdict

Variants of one question, or several responses to it, tell less than as many questions would. Clusters are
what is independent: groups of items, or items with all their responses. The intervals are those of
`statistics` (Wilson, Tango) with the number of items replaced by the number of independent ones that would
be as uncertain, and Student's quantile for the few clusters from which that was estimated. They cover
better than the percentile bootstrap, and that better than BCa, most of all with few clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit
from scipy.stats import bootstrap

from mathreason.analysis.statistics import (
    Accuracy,
    Difference,
    paired_difference,
    tango_limits,
    wilson,
    wilson_limits,
)

RESAMPLES = 9999

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Clusters:
    """For each item the number of its cluster, from 0; `count` clusters in all."""

    labels: tuple[int, ...]
    count: int

    @cached_property
    def _index(self) -> NDArray[np.intp]:
        return np.array(self.labels, dtype=np.intp)

    @cached_property
    def sizes(self) -> Floats:
        """Items in each cluster."""
        return np.bincount(self._index, minlength=self.count).astype(float)

    def sums(self, values: Sequence[float]) -> Floats:
        """The sum of `values`, one for each item, over each cluster."""
        return np.bincount(self._index, weights=values, minlength=self.count).astype(float)


def cluster_items(groups: Sequence[str | None]) -> Clusters:
    """Items with one group are a cluster; an item without a group is a cluster of its own."""
    keys = [("item", str(index)) if group is None else ("group", group) for index, group in enumerate(groups)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return Clusters(tuple(numbers[key] for key in keys), len(numbers))


# -- standard error and effective number -----------------------------------------------------------


def clustered_se(values: Sequence[float], clusters: Clusters) -> float | None:
    """Standard error of the mean of `values`, one for each item; None for a single cluster.

    √(G/(G−1) Σ_g (Σ_{i∈g} (x_i − x̄))²) / n, Liang and Zeger 1986 (Biometrika 73:13) with the usual factor
    for G clusters; equation 4 of Miller 2024 ("Adding Error Bars to Evals", arXiv 2411.00640) without it.
    With every item alone it is sd/√n.
    """
    if clusters.count < 2:
        return None
    residuals = clusters.sums(values) - clusters.sizes * (sum(values) / len(values))
    factor = clusters.count / (clusters.count - 1)
    return sqrt(factor * float(residuals @ residuals)) / len(values)


def degrees_of_freedom(clusters: Clusters) -> float:
    """Degrees of freedom of `clustered_se`: G − 1 for equal clusters, fewer when some are large.

    Bell and McCaffrey 2002 (Survey Methodology 28:169) for a mean; 0 for a single cluster.
    """
    if clusters.count < 2:
        return 0.0
    sizes, n = clusters.sizes, float(len(clusters.labels))
    scaled = sizes**2 / (1 - sizes / n)
    return float(n**2 / (np.sum(sizes**2) + (np.sum(scaled) ** 2 - np.sum(scaled**2)) / n**2))


def _effective(variance_once: float, se: float | None, clusters: Clusters, responses: int) -> float:
    """How many independent items, each answered once, would be as uncertain: m with variance / (m − 1) = SE².

    `variance_once` is the variance of one item's outcome. Never more than there are `responses`; the
    number of clusters where nothing varies, so that a spread of zero is not taken for certainty.
    """
    if not se or not variance_once:
        return float(clusters.count)
    return min(variance_once / se**2 + 1, float(responses))


def _quantile(clusters: Clusters, confidence: float) -> float:
    freedom = degrees_of_freedom(clusters)
    level = (1 + confidence) / 2
    return float(stdtrit(freedom, level)) if freedom else float(ndtri(level))


# -- intervals -------------------------------------------------------------------------------------


def clustered_mean(
    values: Sequence[float], responses: int, clusters: Clusters, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Mean of `values` (one for each item, in 0 to 1) and its Wilson interval on the effective number.

    `responses` is how many responses the values were worked out from, over all items. Franco, Little,
    Louis and Slud 2019 (J Surv Stat Methodol 7:334) compare such intervals.
    """
    value = min(1.0, max(0.0, float(np.mean(values))))
    effective = _effective(value * (1 - value), clustered_se(values, clusters), clusters, responses)
    return value, *wilson_limits(value, effective, _quantile(clusters, confidence))


def clustered_accuracy(
    right: Sequence[int], samples: int, clusters: Clusters, confidence: float = 0.95
) -> Accuracy:
    """Accuracy over all responses; `right` counts the right ones of `samples` to each item."""
    n = len(right) * samples
    if clusters.count == n:
        return wilson(sum(right), n, confidence)
    scores = [count / samples for count in right]
    value, low, high = clustered_mean(scores, n, clusters, confidence)
    return Accuracy(sum(right), n, value, low, high, confidence, "wilson, clustered")


@dataclass(frozen=True)
class Change:
    """What two models did on the same items, as counts of independent items answered once by each."""

    value: float
    fixed: float
    broken: float
    n: float
    se: float | None

    @property
    def discordant(self) -> float:
        """Share of items whose outcome differs."""
        return (self.fixed + self.broken) / self.n


def effective_change(base: Sequence[int], tuned: Sequence[int], samples: int, clusters: Clusters) -> Change:
    """Fixed and broken items, and how many independent items they are worth.

    A response of one model may be set against any response of the other to the same item; that gives an
    item of several responses its shares fixed and broken. Raises ValueError when the two differ in length.
    """
    n = len(base)
    pairs = [(before / samples, after / samples) for before, after in zip(base, tuned, strict=True)]
    se = clustered_se([after - before for before, after in pairs], clusters)
    fixed = sum(after * (1 - before) for before, after in pairs) / n
    broken = sum(before * (1 - after) for before, after in pairs) / n
    value = (sum(tuned) - sum(base)) / (n * samples)
    effective = _effective(fixed + broken - value**2, se, clusters, n * samples)
    return Change(value, fixed * effective, broken * effective, effective, se)


def clustered_difference(
    base: Sequence[int], tuned: Sequence[int], samples: int, clusters: Clusters, confidence: float = 0.95
) -> Difference:
    """tuned − base with its clustered SE; `base` and `tuned` count right responses of `samples` to each item.

    Tango's interval on the effective number of items. Raises ValueError when the two differ in length.
    """
    if clusters.count == len(base) * samples:
        return paired_difference([bool(each) for each in base], [bool(each) for each in tuned], confidence)
    change = effective_change(base, tuned, samples, clusters)
    low, high = tango_limits(change.fixed, change.broken, change.n, _quantile(clusters, confidence))
    return Difference(change.value, low, high, change.se, confidence, "tango score, clustered")


def cluster_bootstrap(
    base: Sequence[int], tuned: Sequence[int], samples: int, clusters: Clusters, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of tuned − base when whole clusters are drawn with replacement.

    A check that assumes less than `clustered_difference`, and is too narrow for few clusters (Field and
    Welsh 2007, J R Stat Soc B 69:369). `seed` makes it repeatable. (value, value) for a single cluster.
    """
    differences = clusters.sums([after - before for before, after in zip(base, tuned, strict=True)]) / samples

    def ratio(sums: Floats, sizes: Floats, axis: int) -> Any:
        return np.sum(sums, axis=axis) / np.sum(sizes, axis=axis)

    if clusters.count < 2:
        value = float(np.mean(differences) / np.mean(clusters.sizes))
        return value, value
    drawn = bootstrap(
        (differences, clusters.sizes),
        ratio,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=500,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(drawn.low), float(drawn.high)


# -- test ------------------------------------------------------------------------------------------


def sign_flip_test(base: Sequence[int], tuned: Sequence[int], clusters: Clusters) -> float:
    """Two-sided p-value: how often the difference is as large when each cluster's sign is left to chance.

    If the models are equally good and could change places in any cluster, tuned − base has either sign
    there with equal chance (Fisher 1935, The Design of Experiments, §21). `base` and `tuned` count right
    responses to each item. All 2^G sign patterns count, none is sampled: sums of whole numbers have few
    values, and their distribution is built up cluster by cluster. Clusters of one item answered once make
    it McNemar's exact test.
    """
    sums = clusters.sums([after - before for before, after in zip(base, tuned, strict=True)])
    sizes = [int(size) for size in np.abs(sums) if size]
    if not sizes:
        return 1.0
    unit = gcd(*sizes)
    total = sum(sizes) // unit
    observed = abs(round(float(np.sum(sums)))) // unit
    chance = np.ones(1)  # chance[s]: that the clusters with a plus sum up to s units
    for size in sorted(size // unit for size in sizes):
        longer = np.zeros(len(chance) + size)
        longer[: len(chance)] = chance
        longer[size:] += chance
        chance = longer / 2
    outcomes = np.abs(2 * np.arange(total + 1) - total)
    return min(1.0, float(np.sum(chance[outcomes >= observed])))
