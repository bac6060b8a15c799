"""The numbers a question or a response names, as digits or in words.

    first_places("Two dozen eggs cost $3.60.")      {2: 0, 12: 4, 3.6: 19, ...}
    largest_number("Two dozen eggs cost $3.60.")    Fraction(18, 5): digits only

COMMON holds those that nobody needs to name.
"""

from __future__ import annotations

from fractions import Fraction

from mathreason.analysis.calculations import MAX_CHARACTERS
from mathreason.analysis.tokens import Token, number_value, tokenise

# Small counts, and what no question needs to say: parts of a day, a year, a circle, a metre, a percentage.
COMMON = frozenset(
    Fraction(number)
    for number in (*range(13), 16, 20, 24, 30, 31, 36, 50, 52, 60, 90, 100, 144, 180, 360, 365)
) | frozenset((Fraction(366), Fraction(1000), Fraction(3600), Fraction(5280), Fraction(1, 2), Fraction(1, 4)))
_COUNTED = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORDS = {word: value for value, word in enumerate(_COUNTED.split())}
_WORDS |= {word: 10 * value for value, word in enumerate(_TENS.split(), start=2)}
_WORDS |= {"hundred": 100, "thousand": 1000, "million": 10**6, "dozen": 12, "score": 20, "fifth": 5}


def first_places(text: str) -> dict[Fraction, int]:
    """Where each number of `text` is first named; what is left of a percentage counts as named with it."""
    places: dict[Fraction, int] = {}
    tens = Fraction(0)
    for token in tokenise(text[:MAX_CHARACTERS]):
        if token.text == "-":  # thirty-five
            continue
        value = number_value(token.text) if token.kind == "number" else _worded(token)
        if value is None:
            tens = Fraction(0)
            continue
        named = [value, value + tens, value / 100]
        if value <= 100:
            named += [100 - value, 1 - value / 100, 1 + value / 100, 100 + value]
        for number in named:
            places.setdefault(number, token.start)
        tens = value if token.kind == "word" and 20 <= value <= 90 else Fraction(0)
    return places


def _worded(token: Token) -> Fraction | None:
    word = token.text.lower()
    number = _WORDS.get(word, _WORDS.get(word.removesuffix("s")))
    return None if number is None else Fraction(number)


def largest_number(text: str) -> Fraction | None:
    """The largest number written in digits; None without one."""
    values = (number_value(token.text) for token in tokenise(text[:MAX_CHARACTERS]) if token.kind == "number")
    return max((value for value in values if value is not None), default=None)
