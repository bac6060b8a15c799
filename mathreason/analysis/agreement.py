"""Whether a written result is what its expression gives, and whether a difference can only be a slip.

    agrees(Fraction(10, 3), Result(Fraction(333, 100), 2, end), left, right, False)    True: rounded

The rules are those the docstring of `calculations` states; `left` and `right` are the tokens of the sides.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import product
from typing import NamedTuple

from mathreason.analysis.expressions import MAX_TOKENS, read
from mathreason.analysis.tokens import Token, decimals, number_value, operator_of, words

ROUNDING = words("about approximately approx roughly around nearly almost")
MAX_STOPS = 8

_MEASURES = (
    "second minute hour day week fortnight month year decade century",
    "inch foot feet yard furlong mile mm cm m km centimeter meter kilometer millimeter",
    "gram g kg kilogram pound lb ounce oz ton mg",
    "ml milliliter liter l cup pint quart gallon tablespoon teaspoon",
    "cent penny pennies nickel dime quarter dollar $ buck",
    "pair single dozen pack box",
)
_FAMILY = {word: family for family, words in enumerate(_MEASURES) for word in words.split()}
_CONVERSIONS = frozenset(Fraction(factor) for factor in (7, 10, 12, 24, 30, 52, 60, 100, 365, 1000, 3600))
_REPEATING = re.compile(r"\.(?:\d{3,}|0?(\d)\1|33|66|67|17|83|43|57|14|29|71|86|11|22|44|55|77|88)$")


class Result(NamedTuple):
    """A result as written, its decimals, and where its text ends."""

    value: Fraction
    places: int
    end: int


def first_result(right: list[Token]) -> list[Token]:
    """The number a calculation arrives at: what follows it starts the next one."""
    if right[0].kind == "number":
        return right[:1]
    if right[0].kind == "operator" and len(right) > 1 and right[1].kind == "number":
        return right[:2]
    return right


def is_sum(right: list[Token]) -> bool:
    return len([token for token in right if token.kind != "unit"]) > len(first_result(right))


def results_of(right: list[Token]) -> list[Result]:
    """The results a right side can mean: its first number, or all of it, or what goes before an operator.

    "2 + 3 = 5 * 2 = 10" runs on from its first number; "3 * 4 = 2 * 6" gives an expression.
    """
    first = first_result(right)
    places = decimals(first[-1]) if first[-1].kind == "number" else 0
    shown = [Result(value, places, first[-1].end) for value in read(first).values]
    for stop in _stops(right):
        shown += [Result(value, 0, right[stop - 1].end) for value in read(right[:stop]).values]
    return shown


def _stops(right: list[Token]) -> list[int]:
    """Where a right side can end: before each operator outside brackets that follows one, and at its end."""
    stops, depth = [], 0
    for position, token in enumerate(right):
        depth += {"open": 1, "close": -1}.get(token.kind, 0)
        if depth == 0 and position > 1 and token.kind in ("operator", "word operator"):
            stops.append(position)
    return [*stops[:MAX_STOPS], len(right)] if is_sum(right) else []


def is_approximate(tokens: list[Token], equals: int) -> bool:
    nearby = tokens[max(0, equals - 1) : equals + 3]
    return any(token.kind == "approx" or token.text.lower() in (*ROUNDING, "~") for token in nearby)


def agrees(value: Fraction, found: Result, left: list[Token], right: list[Token], approximate: bool) -> bool:
    """Whether the result found is `value`, exactly or rounded in one of the ways the module allows."""
    result, places, _ = found
    if value == result:
        return True
    gap = abs(value - result)
    if places > 0 and gap < Fraction(1, 10**places):
        return True
    operators, outer = _operators(left)
    multiplied = bool(operators & {"*", "/"})
    product_of_all = multiplied and not outer & {"+", "-"}
    # The whole number next to a product or a quotient: 17 shared by 4 is 4.
    if product_of_all and abs(value) > 1 and value.denominator > 1 == result.denominator and gap < 1:
        return True
    if approximate and gap < _last_digit(result, places):
        return True
    if is_sum(right) and gap <= _left_open(value, right, always=True):
        return True
    return multiplied and not operators & {"+", "-", "^"} and gap <= _left_open(value, left)


def _operators(side: list[Token]) -> tuple[set[str], set[str]]:
    """All operators of an expression, and those outside its brackets."""
    every: set[str] = set()
    outer: set[str] = set()
    depth = 0
    for token in side:
        depth += {"open": 1, "close": -1}.get(token.kind, 0)
        if token.kind in ("operator", "word operator", "frac"):
            operator = "/" if token.kind == "frac" else operator_of(token)
            every.add(operator)
            outer |= {operator} if depth == 0 else set()
    return every, outer


def _last_digit(result: Fraction, places: int) -> Fraction:
    """The worth of the last digit that is not zero: 1 200 is known to the hundred."""
    if places or result == 0 or result.denominator != 1:
        return Fraction(1, 10**places)
    digits = str(abs(result.numerator))
    return Fraction(10 ** (len(digits) - len(digits.rstrip("0"))))


def _left_open(value: Fraction, tokens: list[Token], always: bool = False) -> Fraction:
    """How far a product may be off because a factor was written rounded (0.33 for a third).

    A right side goes on from the left one and may have rounded any of its decimals (`always`).
    """
    share = Fraction(0)
    for token in tokens:
        if token.kind == "number" and (
            (always and decimals(token)) or _REPEATING.search(token.text.rstrip("% "))
        ):
            number = number_value(token.text)
            if number:
                share += Fraction(1, 10 ** len(token.text.rstrip("% ").partition(".")[2])) / number
    return abs(value) * share


def is_certain(tokens: list[Token], equals: int, left: list[Token], right: list[Token]) -> bool:
    """Whether a disagreement can only be a slip, and not another way of counting."""
    values, results = read(left).values, [result.value for result in results_of(right)]
    if _is_share(left, values, results) or _is_range(left, values) or _is_defined(left, right):
        return False
    if any(token.text == "base" for token in tokens[max(0, equals - MAX_TOKENS) : equals]):
        return False
    if any(token.kind == "word operator" for token in left) and _mixes_operators(left):
        return False
    named = [*left, *right, *_trailing_units(tokens, equals + 1 + len(right))]
    if _counts_in_two_units(named):
        return False
    measured = any(token.kind == "unit" or token.text[0] in "$€£" or "%" in token.text for token in named)
    return not any(
        _is_conversion(value, result, measured, left) for value, result in product(values, results)
    )


def _is_share(left: list[Token], values: tuple[Fraction, ...], results: list[Fraction]) -> bool:
    """ "1/4 = 5": a fraction of something, followed by how many that is."""
    plain = [token for token in left if token.kind not in ("unit", "open", "close")]
    bare = [token.kind for token in plain] in (["number", "operator", "number"], ["frac", "number", "number"])
    return bare and all(0 < value < 1 for value in values) and all(result >= 1 for result in results)


def _is_defined(left: list[Token], right: list[Token]) -> bool:
    """What an operation means (2 * 6 = 2^6 + 6^2, 500 / 13 = 13 * 38 + 6), or a unit (60 s / 1 min = 1)."""
    added = any(operator_of(token) in ("^", "+") for token in right if token.kind == "operator")
    if added and {token.text for token in left if token.kind == "operator"} in ({"*"}, {"/"}, {"÷"}):
        return True
    measured = any(token.kind == "unit" for token in (*left, *right))
    return measured and "1" in (
        left[0].text if len(left) == 1 else "",
        right[0].text if len(right) == 1 else "",
    )


def _is_range(left: list[Token], values: tuple[Fraction, ...]) -> bool:
    """ "pages 10-15 = 6 pages": two numbers joined by a dash, the smaller first."""
    if len(left) != 3 or left[1].kind != "operator" or operator_of(left[1]) != "-":
        return False
    return left[0].end == left[1].start and left[1].end == left[2].start and values[0] < 0


def _mixes_operators(left: list[Token]) -> bool:
    operators = {operator_of(token) for token in left if token.kind in ("operator", "word operator")}
    return len(operators) > 1


def _trailing_units(tokens: list[Token], position: int) -> list[Token]:
    following = tokens[position : position + 3]
    return [token for token in following if token.kind in ("unit", "word")]


def _counts_in_two_units(named: list[Token]) -> bool:
    """Whether two units of one kind are named: hours and minutes, dollars and cents."""
    units: dict[int, set[str]] = {}
    for token in named:
        word = "$" if token.text.startswith("$") else token.text.lower()
        singular = word if word in _FAMILY else word.removesuffix("s")
        if singular in _FAMILY:
            name = {"$": "dollar", "buck": "dollar"}.get(singular, singular)
            units.setdefault(_FAMILY[singular], set()).add(name)
    return any(len(names) > 1 for names in units.values())


def _is_conversion(value: Fraction, result: Fraction, measured: bool, left: list[Token]) -> bool:
    """Whether the two differ by a factor between units, or by the 100 of an unwritten percent sign."""
    if not value or not result:
        return False
    ratio = abs(value / result)
    ratio = 1 / ratio if ratio < 1 else ratio
    divided = any(token.kind == "frac" or token.text in ("/", "÷") for token in left)
    return (measured and ratio in _CONVERSIONS) or (divided and ratio == 100)
