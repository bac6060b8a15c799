"""Written numbers, read exactly and without evaluating anything.

    parse_number("$1,234.50")      -> Fraction(2469, 2)
    parse_number("1 1/2")          -> Fraction(3, 2)
    parse_number("\\\\frac{1}{3}")    -> Fraction(1, 3)
    parse_number("3 \\\\times 10^6")  -> Fraction(3000000)
    parse_number("twenty-one")     -> Fraction(21)
    parse_number("50%")            -> Fraction(1, 2)    (the grader also knows that 50 was written)
    parse_number("9:30")           -> None              (nor are 3 + 4, 5x, 1,2 or 9**9**9 numbers)

The text comes from a model and is hostile: no pattern backtracks over more than a few characters, and
digits and exponents are limited before they become an integer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from mathreason.evaluation.markup import TRAILING_UNIT, plain, plain_characters

MAX_LENGTH = 2_000
"""Characters of one written answer; a longer one is not a number."""
MAX_DIGITS = 1_000
"""Digits on one side of the decimal point, or of the fraction bar."""
MAX_EXPONENT = 400
"""Magnitude of the power of ten in scientific notation."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number and how it was written.

    `value` is exact, with a percent sign as a division by 100. `decimals` counts the digits after the
    point of a plain decimal (0 for an integer), and is None for any other form. `text` is the number in
    plain ASCII without thousands separators, currency or unit: "1234.50", "50%", "3/2", "2:00 pm".
    """

    value: Fraction
    text: str
    decimals: int | None = None
    percent: bool = False
    clock: bool = False


def parse_number(text: str) -> Fraction | None:
    """The exact value of `text` if all of it is one written number, else None.

    Currency signs, thousands separators, LaTeX spacing, `\\text{unit}`, degree signs and bold are
    passed over. "50%" is 1/2; "2:00 pm" is 2; "1.234" is a decimal, "1.234.567" a whole number.
    """
    number = read_number(text)
    return number.value if number else None


def read_number(text: str) -> Number | None:
    """As `parse_number`, with the way the number was written."""
    if len(text) > MAX_LENGTH:
        return None
    line = plain(TRAILING_UNIT.sub("", plain_characters(text)))
    if line.endswith(".") and not line.endswith(".."):
        line = line[:-1].rstrip()
    found = number_at(line, 0)
    return found[0] if found and found[1] == len(line) else None


# -- numerals --------------------------------------------------------------------------------------

_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_INDIAN_SCALES = {"lakh": 10**5, "crore": 10**7}
_NUMERAL = re.compile(
    r"""
    (?P<sign>[-+]\s?|(?:minus|negative)\s)?
    (?: (?P<european>\d{1,3}(?:\.\d{3})(?:(?:\.\d{3})++(?:,\d{1,2})?|,\d{2}))(?![\d.]|,\d)
      | (?: (?!\d{1,3}\s\d{3}\s?/)(?P<grouped>\d{1,3}(?P<separator>[ ,_'])\d{3}(?:(?P=separator)\d{3})*+)
              (?!\d|(?P=separator)\d|-[A-Za-z])
          | (?P<indian>\d{1,2}(?:,\d{2}){1,6},\d{3})(?!\d|,\d)
          | (?P<digits>\d++)
          | (?=\.\d) )
        (?:\.(?=[\d\\])(?P<decimals>\d*+))?
        (?:\\overline\s?\{(?P<repetend>\d{1,50})\} | (?P<ellipsis>\.\.\.))?
    )
    (?: (?P<scientific>[eE][-+]?\d{1,9}(?![\w.])
            | \s{0,2}[*x]\s{0,2}10\s?(?:\^|\*\*)\s?(?:\{\s?[-+]?\d{1,9}\s?\}|[-+]?\d{1,9}))
      | \^\s?(?P<power>\{\s?-?\d{1,9}\s?\}|-?\d{1,9})
      | (?P<clock>:00(?::00)?(?:\s{0,2}[ap]\.?m\b\.?)? | \s{0,2}[ap]\.?m\b\.?)
      | \s{0,2}/\s{0,2}(?P<denominator>\d{1,3}(?:,\d{3})++(?!\d)|\d++)
      | \s{1,2}(?P<mixed_over>\d++)\s?/\s?(?P<mixed_under>\d++)
      | (?P<half>\s+and\s+(?:a|one)[- ]half\b)
      | (?P<scale>(?:\s{0,2}(?:hundred|thousand|million|billion|trillion|lakh|crore)\b){1,2})
    )?
    (?P<percent>\s{0,2}(?:%|percent\b|per\scent\b))?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_CONTINUES = re.compile(
    r"""\s{0,3}(?:[*^=<>|\\]|[-+/]\s?[\d(\\.]|\+|,\s?[-+(]?\s?\d|,\s?\\|:\s?\d|\d(?!\d{0,6}-[A-Za-z])|\.\d|(?:and|&|to|plus|minus|times)\s[-\d]|x\s?\d)
      | _[\w{]|\((?![a-z]{2,20}\))|[!A-Za-z]""",
    re.VERBOSE,
)


def number_at(text: str, start: int) -> tuple[Number, int] | None:
    """The number that begins at `start` of a `plain` text, and the position after it.

    None where no number begins, or where what follows makes it a part of something else: `9:30`,
    `3 + 4`, `5x`, `7\\pi`, `1, 2`, `5!`. A unit after a space is no part of the
    number and does not disturb it.
    """
    match = _NUMERAL.match(text, start)
    if match is None:
        return words_at(text, start)
    if _CONTINUES.match(text, match.end()) or match.end() == match.end("sign"):
        return None
    number = _numeral(match)
    return (number, match.end()) if number else None


def _numeral(match: re.Match[str]) -> Number | None:
    group = match.groupdict()
    whole, decimals = _digits(group)
    bars = (group["denominator"], group["mixed_over"], group["mixed_under"])
    if max(map(len, (whole, decimals, *(bar or "" for bar in bars)))) > MAX_DIGITS:
        return None
    if group["ellipsis"] and not decimals:
        return None
    value = Fraction(int(whole or "0")) + Fraction(int(decimals or "0"), 10 ** len(decimals))
    repetend = group["repetend"] or (_period(decimals) if group["ellipsis"] else "")
    if repetend:
        value += Fraction(int(repetend), 10 ** len(decimals) * (10 ** len(repetend) - 1))
    suffixed = _with_suffix(value, whole, decimals, group)
    if suffixed is None:
        return None
    negative = (group["sign"] or "+")[0] in "-mMnN"
    signed, percent = -suffixed if negative else suffixed, group["percent"] is not None
    written = f"{int(whole or '0')}" + (f".{decimals}" if decimals else "")
    is_decimal = suffixed == value and not repetend and not any(map(group.get, _SUFFIXES))
    text = f"{'-' if negative else ''}{written}" if is_decimal else str(signed)
    if clock := group["clock"]:
        half_of_day = re.search("[ap]", clock.lower())
        text += ":00" + (f" {half_of_day[0]}m" if half_of_day else "")
    return Number(
        value=signed / 100 if percent else signed,
        text=text + ("%" if percent else ""),
        decimals=len(decimals) if is_decimal else None,
        percent=percent,
        clock=group["clock"] is not None,
    )


_SUFFIXES = ("scientific", "power", "denominator", "mixed_over", "half", "scale", "clock")


def _digits(group: dict[str, str | None]) -> tuple[str, str]:
    """The digits before and after the decimal point, separators removed."""
    if european := group["european"]:
        whole, _, decimals = european.partition(",")
        return whole.replace(".", ""), decimals
    whole = group["grouped"] or group["indian"] or group["digits"] or ""
    return re.sub(r"\D", "", whole), group["decimals"] or ""


def _period(decimals: str) -> str:
    """What `0.1666...` goes on with: the shortest run of digits written at least twice at the end."""
    for length in range(1, min(len(decimals) // 2, 50) + 1):
        if decimals[-length:] == decimals[-2 * length : -length]:
            return decimals[-length:]
    return ""


def _with_suffix(value: Fraction, whole: str, decimals: str, group: dict[str, str | None]) -> Fraction | None:
    """`value` with its exponent, scale, fraction bar or clock; None when the whole is no number."""
    if scientific := group["scientific"]:
        return _times_power_of_ten(
            value, re.sub(r"^\s*(?:e|[*x]\s*10\s*(?:\^|\*\*))", "", scientific.lower())
        )
    if power := group["power"]:
        return _times_power_of_ten(Fraction(1), power) if whole == "10" and not decimals else None
    if denominator := group["denominator"]:
        under = int(denominator.replace(",", ""))
        return value / under if under else None
    if group["mixed_over"] and group["mixed_under"]:
        over, under = int(group["mixed_over"]), int(group["mixed_under"])
        return value + Fraction(over, under) if over < under and not decimals else None
    if group["half"]:
        return value + Fraction(1, 2)
    if group["clock"]:
        return value if int(whole or "99") <= 24 and not decimals else None
    for scale in (group["scale"] or "").lower().split():
        value *= (_SCALES | _INDIAN_SCALES)[scale]
    return value


def _times_power_of_ten(value: Fraction, written: str) -> Fraction | None:
    exponent = int(re.sub(r"[{}\s]", "", written))
    return value * Fraction(10) ** exponent if abs(exponent) <= MAX_EXPONENT else None


# -- number words ----------------------------------------------------------------------------------

_SMALL_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS_WORDS = "twenty thirty forty fifty sixty seventy eighty ninety"
_PART_WORDS = "half third fourth fifth sixth seventh eighth ninth tenth"
_SMALL = {word: value for value, word in enumerate(_SMALL_WORDS.split())}
_TENS = {word: 10 * value for value, word in enumerate(_TENS_WORDS.split(), start=2)}
_DENOMINATORS = {"quarter": 4} | {word: value for value, word in enumerate(_PART_WORDS.split(), start=2)}
_PLURAL_DENOMINATORS = {"halves": 2} | {part + "s": value for part, value in _DENOMINATORS.items()}
_WORD = "|".join(
    sorted((*_SMALL, *_TENS, *_SCALES, *_DENOMINATORS, *_PLURAL_DENOMINATORS), key=len, reverse=True)
)
_WORDS = re.compile(
    rf"(?:(?P<minus>minus|negative)\s)?(?P<dozen>(?P<half>half\s)?an?\sdozen\b|one\sdozen\b)?"
    rf"(?P<run>(?:an?\s)?\b(?:{_WORD})\b(?:(?:[-\s]{{1,2}}|,\s)(?:and[-\s](?:an?[-\s])?)?(?:{_WORD})\b){{0,24}})?"
    rf"(?P<percent>\s{{0,2}}(?:%|percent\b|per\scent\b))?",
    re.IGNORECASE,
)


def words_at(text: str, start: int) -> tuple[Number, int] | None:
    """A number in English words at `start`: "twenty-one", "two thirds", "one and a half", "a dozen"."""
    match = _WORDS.match(text, start)
    if match is None or not (match["dozen"] or match["run"]) or _CONTINUES.match(text, match.end()):
        return None
    if match["dozen"]:
        value: Fraction | None = Fraction(6 if match["half"] else 12) if not match["run"] else None
    else:
        value = _words_value(re.split(r"[-\s,]+", match["run"].lower()))
    if value is None:
        return None
    signed = -value if match["minus"] else value
    percent = match["percent"] is not None
    text_form = str(signed) + ("%" if percent else "")
    return Number(signed / 100 if percent else signed, text_form, percent=percent), match.end()


def _words_value(words: list[str]) -> Fraction | None:
    """The value of number words; None when they do not make one number ("five six", "one and two")."""
    last = words[-1]
    if last in _PLURAL_DENOMINATORS or last in _DENOMINATORS:
        under = (_PLURAL_DENOMINATORS | _DENOMINATORS)[last]
        before = words[:-1]
        whole = Fraction(0)
        if "and" in before:  # one and a half, two and three quarters
            cut = len(before) - 1 - before[::-1].index("and")
            head, before = _cardinal(before[:cut]), before[cut + 1 :]
            if head is None:
                return None
            whole = Fraction(head)
        over = 1 if before in ([], ["a"]) else _cardinal(before)
        if over is None or (last in _DENOMINATORS and over != 1) or (not before and last != "half"):
            return None
        return whole + Fraction(over, under)
    value = _cardinal(words)
    return None if value is None else Fraction(value)


def _cardinal(words: list[str]) -> int | None:
    total, current, limit = 0, 0, 10**15
    for position, word in enumerate(words):
        if word in {"a", "an"} and position == 0 and len(words) > 1 and words[1] in _SCALES:
            current = 1
        elif word == "and" and 0 < position < len(words) - 1 and words[position - 1] in _SCALES:
            continue
        elif word in _TENS and current % 100 == 0:
            current += _TENS[word]
        elif word in _SMALL and (
            current % 100 == 0 or (current % 10 == 0 < _SMALL[word] < 10 <= current % 100 - 10)
        ):
            current += _SMALL[word]
        elif word == "hundred" and 0 < current < 100:
            current *= 100
        elif word in _SCALES and word != "hundred" and current and _SCALES[word] < limit:
            limit = _SCALES[word]
            total, current = total + current * limit, 0
        else:
            return None
    if words in (["zero"], []) or total + current:
        return total + current if words else None
    return None
