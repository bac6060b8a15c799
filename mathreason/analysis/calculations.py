"""Finds the calculations a response writes down and says which are wrong, in exact arithmetic.

    first_wrong("Natalia sold 48/2 = <<48/2=24>>24 clips, so 48 + 24 = 73 in all.")
        Calculation(start=49, end=61, text="48 + 24 = 73", right=False)

A response is hostile text: nothing is evaluated as code, numbers are Fractions of bounded length and the
work grows linearly with the text. What cannot be read with certainty (units between the numbers, a
variable, a power, "3 times 4 + 2") is passed over: a calculation is called wrong only when it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

MAX_CHARACTERS = 20_000
MAX_DIGITS = 30
MAX_TOKENS = 40
MAX_CALCULATIONS = 200

_TOKEN = re.compile(
    r"""(?P<number>(?:\$[ ]?)?(?:\d+(?:,\d+)*(?:\.\d+)?|\.\d+)%?)
      | (?P<times>[x×](?=\s*[$(]?\.?\d)|\bof\b(?=\s*[$(]?\.?\d))
      | (?P<operator>[-+*/÷·−–])
      | (?P<bracket>[()])
      | (?P<equals>=)
      | (?P<word>[^\W\d_]+|\S)""",
    re.VERBOSE,
)
_OPERATORS = {"x": "*", "×": "*", "of": "*", "·": "*", "÷": "/", "−": "-", "–": "-"}
_EXPRESSION = frozenset({"number", "times", "operator", "bracket"})
# A word that makes the expression after it only a part of what was meant.
_JOINING = {"plus", "minus", "less", "more", "times", "multiplied", "divided", "by", "of", "per"}
_JOINING |= {"percent", "half", "third", "quarter", "double", "twice"}
_SCALES = {"hundred", "thousand", "million", "billion", "trillion", "dozen", "k", "m", "b"}
# Written for the same thing; the replacement is padded so that positions in the response stay true.
_SPELLINGS = ((r"\times", "*"), (r"\cdot", "*"), (r"\div", "/"), (r"\$", "$"), (r"\%", "%"), ("**", ""))
# 1,234 and 1234 are numbers; 1,23 and 007 are something else.
_NUMBER = re.compile(r"(?:0|[1-9]\d*|[1-9]\d{0,2}(?:,\d{3})+)?(?:\.\d+)?")
_POWER = re.compile(r"(?<=\d)\*\*(?=\s*\d)")
_DELIMITERS = re.compile(r"\\[()\[\],;!]")


@dataclass(frozen=True, slots=True)
class Calculation:
    """A written `expression = result`; `response[start:end]` is its text."""

    start: int
    end: int
    text: str
    right: bool


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


# The comparison, the categories and the report ask for the same responses.
@lru_cache(maxsize=8192)
def first_wrong(response: str) -> Calculation | None:
    """The first calculation of `response` whose result is not what the left side gives."""
    return next((found for found in _found(response) if not found.right), None)


def calculations(response: str) -> list[Calculation]:
    """Every calculation that can be read with certainty, in order.

    A decimal result may be rounded or cut at its last written digit; a whole result must be exact.
    Only the first 20 000 characters and the first 200 calculations are looked at.
    """
    return list(_found(response))


def _found(response: str) -> Iterator[Calculation]:
    return islice(_read(response), MAX_CALCULATIONS)


def _read(response: str) -> Iterator[Calculation]:
    for start, line in _lines(_respell(response[:MAX_CHARACTERS])):
        if "=" not in line:
            continue
        tokens = [
            _Token(match.lastgroup or "", match.group(), start + match.start(), start + match.end())
            for match in _TOKEN.finditer(line)
        ]
        for position, token in enumerate(tokens):
            if token.kind == "equals" and (judged := _judge(tokens, position)) is not None:
                begin, end, right = judged
                yield Calculation(begin, end, response[begin:end], right)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    for line in text.split("\n"):
        yield start, line
        start += len(line) + 1


def _respell(text: str) -> str:
    text = _POWER.sub("^^", text)
    text = _DELIMITERS.sub("  ", text)
    for written, plain in _SPELLINGS:
        text = text.replace(written, plain.ljust(len(written)))
    return text


def _judge(tokens: list[_Token], equals: int) -> tuple[int, int, bool] | None:
    """Start, end and rightness of the calculation around an equals sign; None when it is unclear."""
    left = _left_side(tokens, equals)
    right = _right_side(tokens, equals)
    if not left or not right or len(left) > MAX_TOKENS or len(right) > MAX_TOKENS:
        return None
    if not any(token.kind in ("operator", "times") for token in left[1:]):
        return None
    results = _readings(left)
    if not results:
        return None
    shown = _results_shown(right)
    if not shown:
        return None
    agrees = any(_same(value, result, digits) for value in results for result, digits in shown)
    return left[0].start, _first_result_end(right), agrees


def _left_side(tokens: list[_Token], equals: int) -> list[_Token]:
    """The longest run of expression tokens that ends at the equals sign; empty when it is only a part."""
    start, open_brackets = equals, 0
    while start > 0 and tokens[start - 1].kind in _EXPRESSION and equals - start <= MAX_TOKENS:
        open_brackets += {")": 1, "(": -1}.get(tokens[start - 1].text, 0)
        if open_brackets < 0:
            break
        start -= 1
    side = tokens[start:equals]
    before = tokens[start - 1] if start else None
    if side and before is None and _is_bullet(side):
        side = side[1:]
    if not side or before is None:
        return side
    touching = before.end == side[0].start and before.text not in "=<>([{|~*"
    signed = side[0].kind == "operator" and before.text not in "=<:,("
    joined = before.text.lower() in _JOINING or before.text in "^_\\!"
    return [] if touching or signed or joined else side


def _is_bullet(side: list[_Token]) -> bool:
    return len(side) > 1 and side[0].kind == "operator" and side[1].start > side[0].end


def _right_side(tokens: list[_Token], equals: int) -> list[_Token]:
    """The run of expression tokens after the equals sign; empty when its number is only a part of one."""
    end, open_brackets = equals + 1, 0
    while end < len(tokens) and tokens[end].kind in _EXPRESSION and end - equals <= MAX_TOKENS + 1:
        open_brackets += {"(": 1, ")": -1}.get(tokens[end].text, 0)
        if open_brackets < 0:
            break
        end += 1
    while end > equals + 1 and tokens[end - 1].kind != "number" and tokens[end - 1].text != ")":
        end -= 1
    side = tokens[equals + 1 : end]
    if not side or end == len(tokens):
        return side
    after = tokens[end]
    touching = after.start == side[-1].end and (after.text.isalpha() or after.text in ":_!/")
    scaled = after.text.lower() in _SCALES or after.text in "^\\"
    return [] if touching or scaled else side


def _first_result_end(right: list[_Token]) -> int:
    """End of the number the calculation arrives at: what follows starts the next one."""
    numbers = [token for token in right if token.kind == "number"]
    opening = right[0].kind == "bracket"
    return right[-1].end if opening else numbers[0].end


def _results_shown(right: list[_Token]) -> list[tuple[Fraction, int]]:
    """The results a right side can mean, each with its written decimals: its first number, or all of it.

    "2 + 3 = 5 * 2 = 10" runs on from its first number; "3 * 4 = 2 * 6" gives an expression.
    """
    shown: list[tuple[Fraction, int]] = []
    signed = right[0].kind == "operator" and len(right) > 1
    first = right[:2] if signed else right[:1]
    if first[-1].kind == "number":
        shown += [(value, _decimals(first[-1].text)) for value in _readings(first)]
    if len(right) > len(first):
        shown += [(value, 0) for value in _readings(right)]
    return shown


def _decimals(number: str) -> int:
    """Digits written after the point; a percentage counts in hundredths and so has two more."""
    written = len(number.rstrip("%").partition(".")[2])
    return written + 2 if number.endswith("%") else written


def _same(value: Fraction, result: Fraction, decimals: int) -> bool:
    if value == result:
        return True
    return decimals > 0 and abs(value - result) < Fraction(1, 10**decimals)


def _readings(tokens: list[_Token]) -> list[Fraction]:
    """Values the expression can mean; "20%" is read as 0.2 and as 20. Empty when it cannot be read."""
    percentages = [token for token in tokens if token.text.endswith("%")]
    added = any(token.text in "+-−–" for token in tokens)
    if percentages and added and any(t.kind == "number" and t not in percentages for t in tokens):
        return []
    hundredths = (True, False) if percentages else (True,)
    values = [_Reader(tokens, each).value() for each in hundredths]
    return [value for value in values if value is not None]


class _Reader:
    """Recursive descent over one expression: sums of products of signed numbers and brackets.

    The depth is bounded by MAX_TOKENS, the size of every Fraction by MAX_TOKENS × MAX_DIGITS digits.
    """

    def __init__(self, tokens: list[_Token], hundredths: bool) -> None:
        self.tokens = tokens
        self.hundredths = hundredths
        self.position = 0

    def value(self) -> Fraction | None:
        """The value; None when the tokens are no expression or divide by zero."""
        try:
            result = self._sum()
        except (_UnreadableError, ZeroDivisionError):
            return None
        return result if self.position == len(self.tokens) else None

    def _next(self) -> str:
        if self.position == len(self.tokens):
            return ""
        text = self.tokens[self.position].text
        return _OPERATORS.get(text, text)

    def _sum(self) -> Fraction:
        total = self._product()
        while (operator := self._next()) in ("+", "-"):
            self.position += 1
            term = self._product()
            total = total + term if operator == "+" else total - term
        return total

    def _product(self) -> Fraction:
        total = self._factor()
        while (operator := self._next()) in ("*", "/"):
            self.position += 1
            term = self._factor()
            total = total * term if operator == "*" else total / term
        return total

    def _factor(self) -> Fraction:
        text = self._next()
        self.position += 1
        if text in ("+", "-") and self.position < len(self.tokens):
            if self.tokens[self.position].kind == "operator":
                raise _UnreadableError
            factor = self._factor()
            return -factor if text == "-" else factor
        if text == "(":
            inner = self._sum()
            if self._next() != ")":
                raise _UnreadableError
            self.position += 1
            return inner
        if not text or self.tokens[self.position - 1].kind != "number":
            raise _UnreadableError
        return self._number(text)

    def _number(self, text: str) -> Fraction:
        digits = text.lstrip("$ ").rstrip("%")
        if len(digits) > MAX_DIGITS or not _NUMBER.fullmatch(digits):
            raise _UnreadableError
        value = Fraction(digits.replace(",", ""))
        return value / 100 if text.endswith("%") and self.hundredths else value


class _UnreadableError(Exception):
    """The tokens are not an expression this module reads."""
