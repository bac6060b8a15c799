"""How small a difference an evaluation can find, before it is run and after.

    detectable_before(200)                  # 0.091: 9 points, if 20 % of the items will change
    detectable_before(1319, discordant=0.1) # 0.025
    items_needed(0.05, discordant=0.2)      # 658 items find 5 points
    plan_items([100, 200, 500, 1319])       # the table of all that

What decides is the share of items whose outcome differs between the models, right to wrong or wrong to
right ("discordant"): 0.1 for models that are much alike, 0.2 commonly, up to 0.7 where tuning teaches a
format. Found means: McNemar's exact test rejects at 5 % with 80 % power. Imports nothing that takes long.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from math import exp, floor, inf, lgamma, log, log1p, sqrt
from statistics import NormalDist
from typing import Any

SIGNIFICANCE = 0.05
POWER = 0.80
DISCORDANT = 0.20
DISCORDANT_RANGE = (0.05, 0.10, 0.20, 0.40)
SIZES = (100, 200, 500, 1319)

_NORMAL = NormalDist()
_Z = _NORMAL.inv_cdf(1 - SIGNIFICANCE / 2)
_STEP = 1e-4
_NEGLIGIBLE = 1e-10
_MANY = 15.0
_TAIL = 6
"""Standard deviations around the expected number of changed items that are looked at."""


def discordant_share(base: float, tuned: float, correlation: float) -> float:
    """Share of items whose outcome differs between models of accuracy `base` and `tuned`.

    `correlation` is that of the two outcomes over the items; 0.3 to 0.7 is usual for a model and its tuned
    form. Raises ValueError for a correlation that these accuracies cannot have.
    """
    covariance = correlation * sqrt(base * (1 - base) * tuned * (1 - tuned))
    both = base * tuned + covariance
    fixed, broken = tuned - both, base - both
    if min(both, fixed, broken, 1 - both - fixed - broken) < -1e-12:
        raise ValueError(f"accuracies {base} and {tuned} cannot be correlated by {correlation}")
    return fixed + broken


def power(n: int, discordant: float, difference: float) -> float:
    """Chance that McNemar's exact test finds a true `difference` on `n` items, a share `discordant` changed.

    The number of items that change is binomial, and so is the number of them that are fixed (Duffy 1984,
    Biometrics 40:1005): exact while a few hundred change, to 0.001 where more do. `difference` and
    `discordant` are shares of all items.
    """
    spread = _TAIL * sqrt(n * discordant * (1 - discordant)) + _TAIL
    fewest, most = max(0, int(n * discordant - spread)), min(n, int(n * discordant + spread))
    fixed = (1 + difference / discordant) / 2
    found = 0.0
    for changed in range(fewest, most + 1):
        rarer = _critical(changed)
        if rarer >= 0:
            chance = exp(_log_chance(changed, n, discordant))
            found += chance * (_at_most(rarer, changed, fixed) + _at_most(rarer, changed, 1 - fixed))
    return found


@lru_cache(maxsize=65536)
def _critical(changed: int) -> int:
    """Up to how many items on the rarer side the exact test rejects; −1 where it never does."""
    critical = floor((changed - _Z * sqrt(changed)) / 2)  # one or two too many at most
    while critical >= 0 and _at_most(critical, changed, 0.5) >= SIGNIFICANCE / 2:
        critical -= 1
    return max(critical, -1)


def _at_most(most: int, n: int, p: float) -> float:
    """P(X ≤ most) for X binomial: the shorter tail, summed from its largest term outward.

    Where the variance is large, the normal distribution, which is right to 1e-3 for p near a half: so near
    that many changed items leave a difference in doubt.
    """
    deviation = sqrt(n * p * (1 - p))
    if deviation > _MANY:
        return _NORMAL.cdf((most + 0.5 - n * p) / deviation)
    if most >= n * p:
        return 1 - _at_most(n - most - 1, n, 1 - p) if most < n else 1.0
    if most < 0 or p == 1:
        return 0.0
    term = total = exp(_log_chance(most, n, p))
    for k in range(most, 0, -1):
        term *= k / (n - k + 1) * (1 - p) / p
        total += term
        if term < _NEGLIGIBLE * total:
            break
    return total


def _log_chance(k: int, n: int, p: float) -> float:
    """Logarithm of P(X = k) for X binomial."""
    if p == 1:
        return 0.0 if k == n else -inf
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(p) + (n - k) * log1p(-p)


@lru_cache(maxsize=1024)
def detectable_before(n: int, discordant: float = DISCORDANT) -> float | None:
    """Smallest true difference found with 80 % power at 5 % on `n` items, a share `discordant` changing.

    Rounded up to 0.01 points. None when even a difference of `discordant`, every change going one way,
    would be missed.
    """
    if n == 0 or discordant == 0 or power(n, discordant, discordant) < POWER:
        return None
    steps = range(int(discordant / _STEP))
    first = bisect_left(steps, POWER, key=lambda step: power(n, discordant, step * _STEP))
    return round(first * _STEP, 4)


def items_needed(difference: float, discordant: float = DISCORDANT) -> int:
    """Fewest items on which a true `difference` is found with 80 % power at 5 %.

    The exact test moves in whole items, so a slightly larger number may find it a hair less often. Raises
    ValueError unless 0 < difference ≤ discordant ≤ 1.
    """
    if not 0 < difference <= discordant <= 1:
        raise ValueError(f"a difference of {difference} needs at least as large a share of changed items")
    enough = 1
    while power(enough, discordant, difference) < POWER:
        enough *= 2
    return bisect_left(range(enough), POWER, key=lambda n: power(n, discordant, difference))


def plan_items(
    sizes: Sequence[int] = SIZES, discordant: Sequence[float] = DISCORDANT_RANGE
) -> list[dict[str, Any]]:
    """For each number of items and each share that may change, the smallest difference that is found.

    [{"n": 100, "detectable": [{"discordant": 0.05, "difference": None}, ...]}, ...]
    """
    return [
        {
            "n": n,
            "detectable": [
                {"discordant": share, "difference": detectable_before(n, share)} for share in discordant
            ],
        }
        for n in sizes
    ]
