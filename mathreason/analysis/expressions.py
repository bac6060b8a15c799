"""Reads a written expression as exact fractions.

    read(tokenise(r"3 eggs \\times \\frac{1}{2}"))    Reading(values=(Fraction(3, 2),), certain=True)
    read(tokenise("20% of 50")).values                [Fraction(10), Fraction(1000)]
    read(tokenise("1/2(3)")).certain                  False: nobody knows what it divides by

Nothing is evaluated as code: numbers, powers and the length of an expression are bounded, and what is no
expression reads as no value at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

from mathreason.analysis.tokens import Token, number_value, operator_of

MAX_TOKENS = 60
MAX_POWER_BITS = 512


@dataclass(frozen=True, slots=True)
class Reading:
    """What an expression can be worth, most likely first; `certain` when nothing else can be meant."""

    values: tuple[Fraction, ...]
    certain: bool


def read(tokens: list[Token]) -> Reading:
    """The values the tokens can mean: "20%" is read as 0.2 and as 20; none when they are no expression."""
    tokens = [token for token in tokens if token.kind != "unit"]
    if not tokens or len(tokens) > MAX_TOKENS:
        return Reading((), False)
    numbers = [token for token in tokens if token.kind == "number"]
    percentages = [token for token in numbers if token.text.endswith("%")]
    operators = {operator_of(token) for token in tokens if token.kind in ("operator", "word operator")}
    if percentages and operators & {"+", "-"} and len(percentages) < len(numbers):
        return Reading((), False)
    readers = [_Reader(tokens, hundredths) for hundredths in ((True, False) if percentages else (True,))]
    values = [value for reader in readers if (value := reader.value()) is not None]
    return Reading(tuple(dict.fromkeys(values)), all(reader.certain for reader in readers))


class _UnreadableError(Exception):
    """The tokens are not an expression this module reads."""


class _Reader:
    """Recursive descent over one expression: sums of products of signed powers of numbers and brackets."""

    def __init__(self, tokens: list[Token], hundredths: bool) -> None:
        self.tokens = tokens
        self.hundredths = hundredths
        self.position = 0
        self.certain = True

    def value(self) -> Fraction | None:
        """The value; None when the tokens are no expression, divide by zero or grow too large."""
        try:
            result = self._sum()
        except (_UnreadableError, ZeroDivisionError):
            return None
        return result if self.position == len(self.tokens) else None

    def _peek(self, ahead: int = 0) -> Token | None:
        position = self.position + ahead
        return self.tokens[position] if position < len(self.tokens) else None

    def _operator(self) -> str:
        token = self._peek()
        return operator_of(token) if token and token.kind in ("operator", "word operator") else ""

    def _take(self, text: str) -> None:
        token = self._peek()
        if token is None or token.text != text:
            raise _UnreadableError
        self.position += 1

    def _sum(self) -> Fraction:
        total = self._product()
        while (operator := self._operator()) in ("+", "-"):
            self.position += 1
            term = self._product()
            total = total + term if operator == "+" else total - term
        return total

    def _product(self) -> Fraction:
        total = self._signed()
        divided = False
        while True:
            operator = self._operator()
            if operator in ("*", "/"):
                self.position += 1
                # 25 / 1/3 divides by a third, or by 1 and then by 3.
                self.certain = self.certain and not (divided and operator == "/")
                divided = divided or operator == "/"
                term = self._signed()
                total = total * term if operator == "*" else total / term
            elif self._multiplies_unsaid():
                # Whether 1/2(3) divides by the bracket as well is the writer's secret.
                self.certain = self.certain and not divided
                total *= self._power()
            else:
                return total

    def _multiplies_unsaid(self) -> bool:
        """Whether a bracket or a root follows directly: (3)(4), 2(5), 3√4."""
        token, before = self._peek(), self.tokens[self.position - 1]
        return token is not None and (token.text == "(" or token.kind == "root") and before.kind != "operator"

    def _signed(self) -> Fraction:
        token = self._peek()
        if token is not None and token.kind == "operator" and operator_of(token) in ("+", "-"):
            self.position += 1
            following = self._peek()
            if following is None or following.kind == "operator":
                raise _UnreadableError
            factor = self._power()
            return -factor if operator_of(token) == "-" else factor
        return self._power()

    def _power(self) -> Fraction:
        base = self._factor()
        token = self._peek()
        if token is not None and token.kind == "power":
            self.position += 1
            return _bounded_power(base, Fraction(2 if token.text == "²" else 3))
        if self._operator() != "^":
            return base
        self.position += 1
        return _bounded_power(base, self._signed() if self._operator() in ("-", "+") else self._factor())

    def _factor(self) -> Fraction:
        token = self._peek()
        if token is None:
            raise _UnreadableError
        self.position += 1
        if token.kind == "open":
            return self._closed({"(": ")", "[": "]", "{": "}"}[token.text])
        if token.kind == "frac":
            return self._fraction()
        if token.kind == "root":
            return _exact_root(self._group())
        if token.kind != "number":
            raise _UnreadableError
        value = number_value(token.text)
        if value is None:
            raise _UnreadableError
        if token.text.endswith("%"):
            return value / 100 if self.hundredths else value
        return value + self._mixed_part() if value.denominator == 1 else value

    def _mixed_part(self) -> Fraction:
        """The proper fraction of a mixed number, 1 1/2 or 1\\frac{1}{2}; 0 when none follows."""
        token = self._peek()
        if token is not None and token.kind == "frac":
            self.position += 1
            self.certain = False
            return self._fraction()
        slash, below = self._peek(1), self._peek(2)
        if token is None or token.kind != "number" or slash is None or below is None or slash.text != "/":
            return Fraction(0)
        top, bottom = number_value(token.text), number_value(below.text)
        if top is None or bottom is None or not 0 < top < bottom:
            raise _UnreadableError
        self.position += 3
        return top / bottom

    def _fraction(self) -> Fraction:
        token = self._peek()
        if token is not None and token.kind == "number" and re.fullmatch(r"[1-9]{2}", token.text):
            self.position += 1
            return Fraction(int(token.text[0]), int(token.text[1]))
        top = self._group()
        return top / self._group()

    def _group(self) -> Fraction:
        self._take("{")
        return self._closed("}")

    def _closed(self, bracket: str) -> Fraction:
        inner = self._sum()
        self._take(bracket)
        return inner


def _bounded_power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1 or abs(exponent) > MAX_POWER_BITS:
        raise _UnreadableError
    if max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(exponent) > MAX_POWER_BITS:
        raise _UnreadableError
    return Fraction(base ** int(exponent))


def _exact_root(value: Fraction) -> Fraction:
    if value < 0:
        raise _UnreadableError
    root = Fraction(isqrt(value.numerator), isqrt(value.denominator))
    if root * root != value:
        raise _UnreadableError
    return root
