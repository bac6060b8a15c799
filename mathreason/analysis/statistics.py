"""The statistics of a comparison: how good is each model, is one better, and how sure is that.

    300 items     base right   base wrong          fixed:  base wrong, tuned right
    tuned right       both        fixed            broken: base right, tuned wrong
    tuned wrong      broken      neither

    wilson(184, 300).low                         # 0.557
    paired_difference(base, tuned)               # +0.583 [0.52, 0.64], the same items for both models
    mcnemar_exact(fixed=180, broken=5)           # 1.3e-46, the test behind the verdict

The interval describes the size of the difference, the exact test decides the verdict. The two are built
differently, so close to the 5 % line one may exclude zero when the other does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import stdev
from typing import Literal

from scipy.special import ndtri
from scipy.stats import binomtest

Verdict = Literal["better", "worse", "no evidence of a difference"]

SIGNIFICANCE = 0.05
POWER = 0.80


@dataclass(frozen=True)
class Accuracy:
    """A proportion of correct items with its interval; all but the counts lie in 0 to 1."""

    correct: int
    n: int
    value: float
    low: float
    high: float
    confidence: float
    method: str = "wilson"


@dataclass(frozen=True)
class Difference:
    """tuned − base on the same items, in −1 to 1; `se` is None for a single item."""

    value: float
    low: float
    high: float
    se: float | None
    confidence: float
    method: str = "newcombe paired"


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


def wilson(correct: int, n: int, confidence: float = 0.95) -> Accuracy:
    """Accuracy with the Wilson score interval (Wilson 1927, JASA 22:209), without continuity correction.

    Raises ValueError when `n` is 0 or `correct` is not in 0 to `n`.
    """
    if n == 0:
        raise ValueError("an accuracy needs at least one item")
    interval = binomtest(correct, n).proportion_ci(confidence, method="wilson")
    return Accuracy(correct, n, correct / n, float(interval.low), float(interval.high), confidence)


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
    """tuned − base with its standard error, sd(d)/√n, and Newcombe's paired interval.

    Raises ValueError when the two differ in length or are empty.
    """
    table = transitions(base, tuned)
    low, high = newcombe_paired(table, confidence)
    differences = [int(after) - int(before) for before, after in zip(base, tuned, strict=True)]
    se = stdev(differences) / sqrt(table.n) if table.n > 1 else None
    return Difference((table.fixed - table.broken) / table.n, low, high, se, confidence)


def newcombe_paired(table: Transitions, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of tuned − base by squaring and adding the two Wilson intervals.

    Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions based
    on paired data", Stat Med 17:2635, method 10: the distances from each proportion to its Wilson limits
    are combined with the correlation φ of the pairs. It stays inside −1 to 1 and keeps a width when no
    item changed, where the usual interval (value ± 1.96 SE) shrinks to a point.
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


def verdict(fixed: int, broken: int) -> Verdict:
    """What the exact test says at the 5 % level, in plain words."""
    if mcnemar_exact(fixed, broken) >= SIGNIFICANCE:
        return "no evidence of a difference"
    return "better" if fixed > broken else "worse"


def relative_improvement(base: float, tuned: float) -> float | None:
    """(tuned − base) / base; None when base is 0, where the ratio has no value."""
    return (tuned - base) / base if base else None


def smallest_detectable(n: int, discordant: int) -> float | None:
    """Smallest true difference found with 80 % power at 5 %, were as many items to change as did here.

    Solves Connor's sample-size formula, n δ² = (z_α √ψ + z_β √(ψ − δ²))², for δ (Connor 1987, Biometrics
    43:207), with ψ the share of items that changed. None when even a difference of ψ, every change going
    one way, would be missed.
    """
    if discordant == 0:
        return None
    z_alpha, z_beta = float(ndtri(1 - SIGNIFICANCE / 2)), float(ndtri(POWER))
    under_root = n + z_beta**2 - z_alpha**2
    if under_root < 0:
        return None
    psi = discordant / n
    delta = sqrt(psi) * (sqrt(n) * z_alpha + z_beta * sqrt(under_root)) / (n + z_beta**2)
    return delta if delta <= psi else None
