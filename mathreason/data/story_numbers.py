"""How a story's numbers are drawn: small whole numbers whose sums a person does in the head.

    plus(Random(0), 12)   # the story stands at 12
    {"x": 12, "y": 26, "z": 38}

Every draw takes the amount the story stands at (0 at its opening) and gives the numbers of one event by the
letter that stands for them in the wordings: x the amount before, z the amount after, the rest what the event
needs. It gives None when the event is impossible here, so that the story is drawn anew.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

LARGEST = 120  # no number in a problem is larger
TABLE = 12  # products are x * y with both factors in 2..12

Numbers = dict[str, int]
Draw = Callable[[Random, int], Numbers | None]


def anything(rng: Random, _: int) -> Numbers:
    return {"z": rng.randint(3, 60)}


def unchanged(_: Random, x: int) -> Numbers:
    return {"z": x}


def product(rng: Random, _: int) -> Numbers | None:
    n, m = rng.randint(2, TABLE), rng.randint(2, TABLE)
    return {"n": n, "m": m, "z": n * m} if n * m <= LARGEST else None


def plus(rng: Random, x: int) -> Numbers | None:
    x = x or rng.randint(3, 60)
    y = rng.randint(2, 40)
    return {"x": x, "y": y, "z": x + y} if x + y <= LARGEST else None


def minus(rng: Random, x: int) -> Numbers | None:
    x = x or rng.randint(4, 60)
    y = rng.randint(2, 40)
    return {"x": x, "y": y, "z": x - y} if y <= x - 2 else None


def times(rng: Random, x: int) -> Numbers | None:
    x, k = x or rng.randint(2, TABLE), rng.randint(3, 5)
    return {"x": x, "k": k, "z": x * k} if x <= TABLE else None


def double(rng: Random, x: int) -> Numbers | None:
    x = x or rng.randint(2, TABLE)
    return {"x": x, "k": 2, "z": x * 2} if x <= TABLE else None


def divide(rng: Random, x: int) -> Numbers | None:
    x = x or rng.randint(2, TABLE) * rng.randint(2, TABLE)
    divisors = [k for k in range(2, TABLE + 1) if x % k == 0 and 2 <= x // k <= TABLE]
    if not divisors or x > LARGEST:
        return None
    k = rng.choice(divisors)
    return {"x": x, "k": k, "z": x // k}


def halve(rng: Random, x: int) -> Numbers | None:
    x = x or 2 * rng.randint(2, TABLE)
    return {"x": x, "k": 2, "z": x // 2} if x % 2 == 0 and 2 <= x // 2 <= TABLE else None


def goal(rng: Random, x: int) -> Numbers | None:
    z = rng.randint(2, 40)
    return {"x": x, "y": x + z, "z": z} if x + z <= LARGEST else None


def plus_product(rng: Random, x: int) -> Numbers | None:
    n, m = rng.randint(2, TABLE), rng.randint(2, TABLE)
    return {"x": x, "n": n, "m": m, "y": n * m, "z": x + n * m} if x + n * m <= LARGEST else None


def minus_product(rng: Random, x: int) -> Numbers | None:
    n, m = rng.randint(2, TABLE), rng.randint(2, TABLE)
    return {"x": x, "n": n, "m": m, "y": n * m, "z": x - n * m} if n * m <= x - 2 else None
