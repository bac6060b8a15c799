"""The exact value of an arithmetic expression: `2^{10}`, `\\frac{8}{2}`, `\\sqrt{16}`, `5!`, `\\binom{5}{2}`.

    closed_form("2^{10}")                      -> Surd(1024, 1)
    closed_form("\\frac{\\sqrt{12}}{4}")         -> Surd(1/2, 3)          (that is 1/2 * sqrt(3))
    closed_form("1+\\sqrt{2}")                  -> None                  (no single surd)
    closed_form("9^{9^{9^{9}}}")               -> None                  (too large)

A recursive descent over the text: nothing in it is ever executed, and every integer stays below
`MAX_BITS`. It takes `normalise_text` output, and None means "not such an expression, or too large".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from math import comb, factorial, isqrt

MAX_LENGTH = 400
"""Characters of an expression."""
MAX_DEPTH = 30
"""Nested brackets, fractions, roots and exponents."""
MAX_BITS = 4096
"""Bits of any numerator or denominator on the way."""
MAX_FACTORIAL = 500
MAX_RADICAND = 10**12
"""Radicands above it are not searched for square factors."""


@dataclass(frozen=True, slots=True)
class Surd:
    """`factor * sqrt(radicand)`, the radicand a whole number without square factors; 1 for a rational."""

    factor: Fraction
    radicand: int


def closed_form(text: str) -> Surd | None:
    """The exact value of `text`; None for anything with a variable, a sum of unlike roots, or too large."""
    if len(text) > MAX_LENGTH:
        return None
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != _SPACE.sub("", text):
        return None
    try:
        return _Reader(tokens).whole()
    except _NoClosedForm:
        return None


_TOKEN = re.compile(
    r"\d+(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+\.?\d*|\.\d+|\*\*|\\(?:d?frac|sqrt|d?binom|cdot|times|div)"
    r"|[-+*/^!(){}\[\]|]"
)
_SPACE = re.compile(r"\s+")


class _NoClosedForm(Exception):
    """The text is no expression of this module, or a value in it is too large."""


def _require(condition: bool) -> None:
    if not condition:
        raise _NoClosedForm


class _Reader:
    """Recursive descent: sum -> product -> power -> atom."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = [*tokens, ""]
        self._at = 0
        self._depth = 0

    def whole(self) -> Surd:
        value = self._sum()
        _require(self._tokens[self._at] == "")
        return value

    def _next(self) -> str:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _take(self, *wanted: str) -> str:
        """The next token if it is one of `wanted`, else ""."""
        return self._next() if self._tokens[self._at] in wanted else ""

    def _sum(self) -> Surd:
        self._depth += 1
        _require(self._depth <= MAX_DEPTH)
        total = self._product()
        while sign := self._take("+", "-"):
            term = self._product()
            total = _add(total, term if sign == "+" else _multiply(term, _MINUS_ONE))
        self._depth -= 1
        return total

    def _product(self) -> Surd:
        if sign := self._take("+", "-"):
            value = self._product()
            return value if sign == "+" else _multiply(value, _MINUS_ONE)
        value = self._power()
        while True:
            if self._take("*", "\\cdot", "\\times"):
                value = _multiply(value, self._signed_power())
            elif self._take("/", "\\div"):
                value = _divide(value, self._signed_power())
            elif self._tokens[self._at] in _BEGINS_FACTOR:
                value = self._juxtaposed(value)
            else:
                return value

    def _signed_power(self) -> Surd:
        sign = self._take("+", "-")
        value = self._power()
        return _multiply(value, _MINUS_ONE) if sign == "-" else value

    def _juxtaposed(self, value: Surd) -> Surd:
        """`2\\sqrt{3}` is a product, and so is `3(4)`; `2\\frac{1}{3}` is a mixed number."""
        before = self._tokens[self._at - 1]
        is_fraction = self._tokens[self._at] in {"\\frac", "\\dfrac"}
        factor = self._power()
        if is_fraction and before.isdigit() and value == Surd(Fraction(int(before)), 1):
            _require(0 < factor.factor < 1 and factor.radicand == 1)
            return _add(value, factor)
        return _multiply(value, factor)

    def _power(self) -> Surd:
        value = self._atom()
        if self._take("!"):
            _require(self._tokens[self._at] != "!")  # a double factorial is something else
            value = _factorial(value)
        if not self._take("^", "**"):
            return value
        sign = self._take("-")
        exponent = self._atom()
        _require(self._tokens[self._at] not in {"^", "**", "!"})
        return _raise(value, _multiply(exponent, _MINUS_ONE) if sign else exponent)

    def _atom(self) -> Surd:
        first = self._next()
        if first[:1].isdigit() or first.startswith("."):
            _require(len(first) <= MAX_BITS // 4)
            return _bounded(Fraction(first.replace(",", "").rstrip(".")))
        if first in _CLOSING:
            value = self._sum()
            _require(self._take(_CLOSING[first]) != "")
            return _multiply(value, _MINUS_ONE) if first == "|" and value.factor < 0 else value
        if first in {"\\frac", "\\dfrac"}:
            over = self._group()
            return _divide(over, self._group())
        if first in {"\\binom", "\\dbinom"}:
            n = _whole_number(self._group())
            return _binomial(n, _whole_number(self._group()))
        _require(first == "\\sqrt")
        degree = 2
        if self._take("["):
            degree = _whole_number(self._sum())
            _require(self._take("]") != "")
        return _root(self._group(), degree)

    def _group(self) -> Surd:
        _require(self._take("{") != "")
        value = self._sum()
        _require(self._take("}") != "")
        return value


_CLOSING = {"(": ")", "{": "}", "[": "]", "|": "|"}
_BEGINS_FACTOR = {"(", "\\frac", "\\dfrac", "\\sqrt", "\\binom", "\\dbinom"}

# -- arithmetic with bounds ------------------------------------------------------------------------


def _bounded(factor: Fraction, radicand: int = 1) -> Surd:
    _require(max(factor.numerator.bit_length(), factor.denominator.bit_length()) <= MAX_BITS)
    return Surd(factor, radicand if factor else 1)


_MINUS_ONE = Surd(Fraction(-1), 1)


def _add(one: Surd, other: Surd) -> Surd:
    if not one.factor or not other.factor:
        return one if one.factor else other
    _require(one.radicand == other.radicand)
    return _bounded(one.factor + other.factor, one.radicand)


def _multiply(one: Surd, other: Surd) -> Surd:
    product = one.factor * other.factor
    if one.radicand == other.radicand:
        return _bounded(product * one.radicand)
    root = _square_root(Fraction(one.radicand * other.radicand))
    return _bounded(product * root.factor, root.radicand)


def _divide(one: Surd, other: Surd) -> Surd:
    _require(other.factor != 0)
    return _multiply(one, _bounded(1 / (other.factor * other.radicand), other.radicand))


def _whole_number(value: Surd) -> int:
    _require(value.radicand == 1 and value.factor.denominator == 1 and value.factor >= 0)
    return value.factor.numerator


def _factorial(value: Surd) -> Surd:
    n = _whole_number(value)
    _require(n <= MAX_FACTORIAL)
    return _bounded(Fraction(factorial(n)))


def _binomial(n: int, k: int) -> Surd:
    _require(n <= MAX_FACTORIAL)
    return _bounded(Fraction(comb(n, k)))


def _raise(base: Surd, exponent: Surd) -> Surd:
    _require(exponent.radicand == 1)
    power, degree = exponent.factor.numerator, exponent.factor.denominator
    size = max(base.factor.numerator.bit_length(), base.factor.denominator.bit_length())
    _require(abs(power) * (size + base.radicand.bit_length() - 2) <= MAX_BITS)
    _require(base.factor != 0 or power > 0)
    whole = base.factor**power * Fraction(base.radicand) ** (power // 2)
    value = _bounded(whole) if power % 2 == 0 else _bounded(whole, base.radicand)
    return value if degree == 1 else _root(value, degree)


def _root(value: Surd, degree: int) -> Surd:
    """The real root; of degree 2 with what is left under the sign, of another degree only if exact."""
    _require(value.radicand == 1 and 2 <= degree <= 64)
    _require(value.factor >= 0 or degree % 2 == 1)
    if degree == 2:
        return _square_root(value.factor)
    over, under = (_exact_root(abs(part), degree) for part in value.factor.as_integer_ratio())
    return _bounded(Fraction(over if value.factor >= 0 else -over, under))


def _exact_root(number: int, degree: int) -> int:
    low, high = 0, 1 << (number.bit_length() // degree + 1)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if middle**degree < number else (low, middle)
    _require(low**degree == number)
    return low


def _square_root(value: Fraction) -> Surd:
    """sqrt(p/q) = sqrt(p q) / q, with the square factors of p q taken out."""
    radicand, under = value.numerator * value.denominator, value.denominator
    root = isqrt(radicand)
    if root * root == radicand:
        return _bounded(Fraction(root, under))
    _require(radicand <= MAX_RADICAND)
    outside, rest = _square_part(radicand)
    return _bounded(Fraction(outside, under), rest)


def _square_part(number: int) -> tuple[int, int]:
    """(s, r) with number = s² r and r free of squares.

    Trial division up to the cube root: what is left then has at most two prime factors.
    """
    outside, rest, prime = 1, 1, 2
    while prime**3 <= number:
        count = 0
        while number % prime == 0:
            number, count = number // prime, count + 1
        outside, rest = outside * prime ** (count // 2), rest * prime ** (count % 2)
        prime += 1
    root = isqrt(number)
    if root * root == number:
        return outside * root, rest
    return outside, rest * number
