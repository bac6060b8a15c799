"""The statistics of a comparison: how good is each model, is one better, and how sure is that.

    300 items     base right   base wrong          fixed:  base wrong, tuned right
    tuned right       both        fixed            broken: base right, tuned wrong
    tuned wrong      broken      neither

    wilson(184, 300).low                         # 0.557
    paired_difference(base, tuned)               # +0.583 [0.52, 0.64], the same items for both models
    mcnemar_exact(fixed=180, broken=5)           # 1.3e-46, the test behind the verdict
    holm([0.01, 0.04])                           # [0.02, 0.04], for the verdicts on two benchmarks

This module takes items to be independent and answered once; `clustered` has the same for items in groups
and for several responses to each item. The interval describes the size of the difference, the exact test
decides the verdict. The two are built differently, so close to the 5 % line one may exclude zero when the
other does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import stdev
from typing import Literal

from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import binomtest

from mathreason.analysis.planning import SIGNIFICANCE

Verdict = Literal["better", "worse", "no evidence of a difference"]

_BESIDE = 1e-12


@dataclass(frozen=True)
class Accuracy:
    """A proportion of correct responses with its interval; all but the counts lie in 0 to 1.

    `n` counts responses: the items, times the responses to each.
    """

    correct: int
    n: int
    value: float
    low: float
    high: float
    confidence: float
    method: str = "wilson"


@dataclass(frozen=True)
class Difference:
    """tuned − base on the same items, in −1 to 1; `se` is None for a single item or group."""

    value: float
    low: float
    high: float
    se: float | None
    confidence: float
    method: str = "tango score"


@dataclass(frozen=True)
class Transitions:
    """How many items are right with both models, with the tuned one only, the base one only, or none."""

    both: int
    fixed: int
    broken: int
    neither: int

    @property
    def n(self) -> int:
        return self.both + self.fixed + self.broken + self.neither


# -- one model -------------------------------------------------------------------------------------


def wilson(correct: int, n: int, confidence: float = 0.95) -> Accuracy:
    """Accuracy with the Wilson score interval (Wilson 1927, JASA 22:209), without continuity correction.

    Raises ValueError when `n` is 0 or `correct` is not in 0 to `n`.
    """
    if n == 0:
        raise ValueError("an accuracy needs at least one item")
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} of {n} items cannot be correct")
    low, high = wilson_limits(correct / n, n, float(ndtri((1 + confidence) / 2)))
    return Accuracy(correct, n, correct / n, low, high, confidence)


def wilson_limits(value: float, n: float, quantile: float) -> tuple[float, float]:
    """The proportions p with |value − p| ≤ quantile √(p (1 − p) / n); `n` may be an effective number."""
    shrunk = 1 + quantile**2 / n
    centre = (value + quantile**2 / (2 * n)) / shrunk
    half = quantile / shrunk * sqrt(value * (1 - value) / n + quantile**2 / (4 * n**2))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    # Exact at the ends, where rounding would leave the limit a hair off the value.
    return 0.0 if value == 0 else low, 1.0 if value == 1 else high


# -- two models on the same items ------------------------------------------------------------------


def transitions(base: Sequence[bool], tuned: Sequence[bool]) -> Transitions:
    """Count the four outcomes; item i of `base` and of `tuned` is the same problem.

    Raises ValueError when the two differ in length.
    """
    pairs = list(zip(base, tuned, strict=True))
    return Transitions(
        both=pairs.count((True, True)),
        fixed=pairs.count((False, True)),
        broken=pairs.count((True, False)),
        neither=pairs.count((False, False)),
    )


def paired_difference(base: Sequence[bool], tuned: Sequence[bool], confidence: float = 0.95) -> Difference:
    """tuned − base with its standard error, sd(d)/√n, and Tango's score interval.

    Raises ValueError when the two differ in length or are empty.
    """
    table = transitions(base, tuned)
    if table.n == 0:
        raise ValueError("a difference needs at least one item")
    low, high = tango_limits(table.fixed, table.broken, table.n, float(ndtri((1 + confidence) / 2)))
    differences = [int(after) - int(before) for before, after in zip(base, tuned, strict=True)]
    se = stdev(differences) / sqrt(table.n) if table.n > 1 else None
    return Difference((table.fixed - table.broken) / table.n, low, high, se, confidence)


def tango_limits(fixed: float, broken: float, n: float, quantile: float) -> tuple[float, float]:
    """Score interval of (fixed − broken) / n: the δ with |fixed − broken − nδ| ≤ quantile √V(δ).

    V(δ) = n (2q + δ (1 − δ)), with q the maximum-likelihood share of broken items were the difference δ
    (Tango 1998, Stat Med 17:891). It is the interval that belongs to McNemar's test, and keeps a width
    when no item changed, where value ± 1.96 SE shrinks to a point. The counts may be effective numbers.
    """
    value = (fixed - broken) / n

    def excess(delta: float, side: int) -> float:
        """Positive inside the interval on the lower (side 1) or upper (side −1) half."""
        slope = (2 * n - fixed + broken) * delta - fixed - broken
        root = sqrt(max(0.0, slope**2 + 8 * n * broken * delta * (1 - delta)))
        q = (root - slope) / (4 * n)
        variance = max(0.0, n * (2 * q + delta * (1 - delta)))
        return quantile * sqrt(variance) - side * (fixed - broken - n * delta)

    # Where no item changed, or all did, the variance is zero at the value itself and grows beside it.
    below, above = value - _BESIDE, value + _BESIDE
    low = brentq(excess, -1.0, below, args=(1,)) if excess(-1.0, 1) < 0 < excess(below, 1) else -1.0
    high = brentq(excess, above, 1.0, args=(-1,)) if excess(1.0, -1) < 0 < excess(above, -1) else 1.0
    return float(low), float(high)


def newcombe_paired(table: Transitions, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of tuned − base by squaring and adding the two Wilson intervals.

    Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions based
    on paired data", Stat Med 17:2635, method 10: the distances from each proportion to its Wilson limits
    are combined with the correlation φ of the pairs. Wider than it needs to be where few items change.
    """
    tuned = wilson(table.both + table.fixed, table.n, confidence)
    base = wilson(table.both + table.broken, table.n, confidence)
    phi = _corrected_phi(table)
    value = (table.fixed - table.broken) / table.n
    down = _square_and_add(tuned.value - tuned.low, base.high - base.value, phi)
    up = _square_and_add(tuned.high - tuned.value, base.value - base.low, phi)
    return max(-1.0, value - down), min(1.0, value + up)


def _square_and_add(one: float, other: float, phi: float) -> float:
    return sqrt(max(0.0, one**2 - 2 * phi * one * other + other**2))


def _corrected_phi(table: Transitions) -> float:
    """Correlation of the pairs; a positive one is moved toward zero by n/2 in the numerator."""
    right_tuned, right_base = table.both + table.fixed, table.both + table.broken
    margins = right_tuned * (table.n - right_tuned) * right_base * (table.n - right_base)
    if margins == 0:
        return 0.0
    product = table.both * table.neither - table.fixed * table.broken
    corrected = max(product - table.n / 2, 0.0) if product > 0 else product
    return corrected / sqrt(margins)


def mcnemar_exact(fixed: int, broken: int) -> float:
    """Two-sided p-value of McNemar's exact test: are fixed and broken items equally likely?

    The binomial test on the items that changed (McNemar 1947, Psychometrika 12:153); 1 when none did.
    """
    if fixed + broken == 0:
        return 1.0
    return float(binomtest(fixed, fixed + broken, 0.5, alternative="two-sided").pvalue)


def relative_improvement(base: float, tuned: float) -> float | None:
    """(tuned − base) / base; None when base is 0, where the ratio has no value."""
    return (tuned - base) / base if base else None


# -- the verdict -----------------------------------------------------------------------------------


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, adjusted so that those below 5 % hold together at 5 %.

    Holm 1979, Scand J Stat 6:65: the i-th smallest of m is multiplied by m − i + 1, is at least as large
    as the one before it, and at most 1. Whatever the dependence between the tests, the chance that any
    true null hypothesis is rejected stays at 5 %.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def verdict(p_value: float, difference: float) -> Verdict:
    """What a test at the 5 % level says, in plain words; `difference` gives the direction."""
    if p_value >= SIGNIFICANCE:
        return "no evidence of a difference"
    return "better" if difference > 0 else "worse"
