"""Several responses to each item: is one of k right (pass@k), is the most frequent answer of k right (maj@k).

    one item, 8 responses: 18 18 18 20 20 7 none none          the right answer is 18
    pass_at_k(right=3, n=8, k=2)          # 0.643: 18 of the 28 pairs hold an 18
    votes(responses)                      # Votes(right=3, wrong=(1, 2), silent=2)
    majority_at_k(votes, 5)               # chance that 18 wins among 5 of the 8

Both are exact averages over every way to choose k of the n responses: nothing is drawn at random, so there
is no seed and the same responses always give the same figure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import comb
from typing import Any

from mathreason.analysis.clustered import Clusters, clustered_mean
from mathreason.analysis.samples import Sample

_NUMBER = re.compile(r"-?\d{1,40}(?:\.\d{1,40})?(?:/0*[1-9]\d{0,39})?")


@dataclass(frozen=True)
class Votes:
    """One item's responses: right ones, how many gave each wrong answer (ascending), those without any."""

    right: int
    wrong: tuple[int, ...]
    silent: int

    @property
    def n(self) -> int:
        return self.right + sum(self.wrong) + self.silent


def pass_at_k(right: int, n: int, k: int) -> float:
    """1 − C(n − right, k) / C(n, k): the chance that k of the n responses hold a right one.

    The unbiased estimate of Chen et al. 2021 (arXiv 2107.03374, eq. 1). Raises ValueError unless k ≤ n.
    """
    if not 1 <= k <= n:
        raise ValueError(f"{k} of {n} responses cannot be chosen")
    return 1 - comb(n - right, k) / comb(n, k)


def votes(responses: Sequence[Sample]) -> Votes:
    """Count equal answers. The right ones are one answer, whatever their form: the grader found them equal.

    Wrong ones are equal as numbers (20 and 20.0) or as text without spaces and case. A response without an
    answer does not vote.
    """
    wrong = Counter(
        _answer(sample.extracted)
        for sample in responses
        if not sample.correct and sample.extracted is not None
    )
    right = sum(sample.correct for sample in responses)
    return Votes(right, tuple(sorted(wrong.values())), len(responses) - right - wrong.total())


def _answer(text: str) -> Fraction | str:
    bare = "".join(text.split()).casefold()
    if not _NUMBER.fullmatch(bare):
        return bare
    numerator, _, denominator = bare.partition("/")
    return Fraction(numerator) / Fraction(denominator or 1)


@lru_cache(maxsize=65536)
def majority_at_k(item: Votes, k: int) -> float:
    """Chance that the right answer is the most frequent one among k of the responses.

    Of answers that tie, each is taken with equal chance; where no response votes, nothing is right
    (self-consistency of Wang et al. 2022, arXiv 2203.11171, unweighted). Exact: choices of k responses in
    which the right answer has v votes and t others tie with it are counted for each v and t.
    Raises ValueError unless k ≤ n.
    """
    if not 1 <= k <= item.n:
        raise ValueError(f"{k} of {item.n} responses cannot be chosen")
    won = 0.0
    for level in range(1, min(item.right, k) + 1):
        for (used, ties), ways in _losing(item.wrong, level, k - level).items():
            rest = comb(item.silent, k - level - used)
            won += comb(item.right, level) * ways * rest / (ties + 1)
    return won / comb(item.n, k)


def _losing(wrong: Sequence[int], level: int, most: int) -> Counter[tuple[int, int]]:
    """Ways to choose up to `most` wrong responses, no answer above `level`, by how many and how many tie."""
    ways = Counter({(0, 0): 1})
    for size in wrong:
        longer: Counter[tuple[int, int]] = Counter()
        for (used, ties), count in ways.items():
            for chosen in range(min(size, level, most - used) + 1):
                longer[used + chosen, ties + (chosen == level)] += count * comb(size, chosen)
        ways = longer
    return ways


def ladder(n: int) -> list[int]:
    """The k that are reported: powers of two below n, and n."""
    return [1 << exponent for exponent in range(n.bit_length()) if 1 << exponent < n] + [n]


def at_k(items: Sequence[Sequence[Sample]], clusters: Clusters) -> dict[str, list[dict[str, Any]]]:
    """{"pass_at_k": [...], "maj_at_k": [...]}, each row {"k": 4, "value": 0.61, "low": 0.55, "high": 0.67}.

    Every item has the same number of responses. The intervals are `clustered.clustered_mean`'s, items (or
    their groups) being what is independent.
    """
    n = len(items[0])
    counted = [votes(item) for item in items]
    rows: dict[str, list[dict[str, Any]]] = {"pass_at_k": [], "maj_at_k": []}
    for k in ladder(n):
        scores = {
            "pass_at_k": [pass_at_k(item.right, n, k) for item in counted],
            "maj_at_k": [majority_at_k(item, k) for item in counted],
        }
        for name, values in scores.items():
            value, low, high = clustered_mean(values, n * len(items), clusters)
            rows[name].append({"k": k, "value": value, "low": low, "high": high})
    return rows
