"""A short answer, such as what follows "The answer is", to the value it gives.

    leading_value(first_sentence("about **35 + 70 = 105** eggs. Next")) -> "105"
    leading_value("4 hours and 30 minutes")                             -> "4.5"
    leading_value("7 or 8 eggs")                                        -> HEDGE
    formula_value("the point \\\\((3, 4)\\\\), as shown")                   -> "(3,4)"

A line is `markup.plain_characters` text. Numbers come out as `numbers.Number.text`, everything else as
`normalisation.normalise_text`. Every search is linear and looks at a limited number of places. Whole
sentences are read by `claims`.
"""

from __future__ import annotations

import re
from fractions import Fraction

from mathreason.evaluation.markup import plain
from mathreason.evaluation.normalisation import normalise_answer, right_hand_side, unbracketed
from mathreason.evaluation.numbers import Number, number_at

MAX_SPAN = 300
"""Characters of a line that are read for the value at its beginning."""


class Hedge:
    """Two answers at once, or a refusal: no answer, and no weaker reading may find one."""


HEDGE = Hedge()
Found = str | Hedge | None
"""A value as normalised text, `HEDGE`, or None where no value is stated."""

REFUSAL = re.compile(
    r"(?:n/a\b|_{3,}|unknown\b|undetermined\b|(?:cannot|can't|can not|could not|couldn't)\s(?:be\s)?"
    r"(?:determine|solve|calculate|compute|answer|say|tell|find)|(?:not\s(?:possible|enough)|impossible|insufficient)\b"
    r"|(?:don't|do not)\s(?:know|have enough))",
    re.IGNORECASE,
)
"""Matches where a sentence says that there is no answer."""

COMPARED = re.compile(r"\s(?:[a-z]+\s)?(?:more|less|fewer|times)\b")
"""Follows a number that is a difference: "which is 3 more than", "2 apples less"."""

# -- one line --------------------------------------------------------------------------------------

_FILLER = re.compile(
    r"(?:[\s:=>\"'*_]|(?:about|approximately|approx\.|around|roughly|exactly|only|just|simply|equal to"
    r"|a total of|also"
    r"|still|indeed|now|so|therefore|thus|hence|probably|likely|at (?:least|most))\b,?\s){0,12}",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(
    r"(?<![ap]\.m)(?<!\bRs)(?<!\bM[rs])(?<!\bDr)(?<!\bMrs)(?<!\.\.)[.!?;](?=\s|$)|\n|\u3002", re.IGNORECASE
)
_ATTACHED_UNIT = re.compile(r"(?<=\d)(?=[A-Za-z]{2}|[gmLlhsAWVCF]\b)(?!(?:st|nd|rd|th)\b)")
_SCALE_LETTER = re.compile(r"(?<![\w.,$\\^{])(\d[\d,]{0,20}(?:\.\d{1,9})?)(?:([kK])|M)(?![\w^$])")
_BILLS = re.compile(r"(?<=\d)\s\\?\$(?=\d)")  # 2 $10 bills
_ACCOUNTING = re.compile(r"^([\s*:]{0,9})\(\\?\$\s?([\d.,]{1,20})\)")  # ($500) is a loss


def spaced(line: str) -> str:
    """`line` without markup, and with a space between a number and its unit: "24K", "5kg", "2 $10 bills"."""
    if "k" in line or "K" in line or "M" in line:
        line = _SCALE_LETTER.sub(lambda m: f"{m[1]} {'thousand' if m[2] else 'million'}", line)
    if "$" in line:
        line = _BILLS.sub(" of the ", line)
    line = _ATTACHED_UNIT.sub(" ", plain(line))
    return _IN_PARTS.sub(r"\1", line) if " (" in line or " or " in line else line


def without_closing(text: str) -> str:
    """`text` without its closing punctuation; the dots of `0.666...` stay."""
    return text if text.endswith("...") else text.rstrip(" !?.,:;*")


def first_sentence(line: str) -> str:
    """The first sentence of a marker's line, without markup and filler words."""
    text = spaced(_ACCOUNTING.sub(r"\1-\2", line[:MAX_SPAN]))
    text = _FILLER.sub("", text, count=1)
    end = _SENTENCE_END.search(text)
    return without_closing(text[: end.start()] if end else text)


# -- the value at the beginning --------------------------------------------------------------------

_CHOICE = re.compile(r"(?:\(?[A-E]|\([a-e])\)[ :.]{0,3}(?=\S)")
_NOTHING = re.compile(r"(?:none|nothing)(?!\sof\s(?:the\s(?:above|following)|these))\b", re.IGNORECASE)
_OF_SOMETHING = re.compile(r"\s(?:of|times|(?:more|less|fewer)\sthan)\s")
_WHICH_IS = re.compile(r",\s(?:(?:which|that)\s(?:is|equals|gives|makes)|or|so|i\.e\.)\s(?:just\s|only\s)?")
_RATIO = re.compile(r"\d{1,9}(?:\s?:\s?\d{1,9}){1,3}(?:\s?[ap]\.?m\b\.?)?(?![\w:])", re.IGNORECASE)
_ORDINAL = re.compile(r"(?:the\s)?(\d{1,4})(?:st|nd|rd|th)\b")
_LIST = re.compile(r"-?\d[\d./]{0,20}(?:(?:,\s?(?:and\s)?|\s(?:and|&)\s)-?\d[\d./]{0,20}){1,9}")


def leading_value(sentence: str) -> Found:
    """The value a sentence begins with, or the right-hand side of the equation it begins with."""
    if _UNDECIDED.match(sentence):
        return HEDGE
    sentence = right_hand_side(unbracketed(sentence))
    if _NOTHING.match(sentence):
        return "0"
    if choice := _CHOICE.match(sentence):
        sentence = sentence[choice.end() :]
    return value_at(sentence, 0) or _value_of_other_form(sentence)


def value_at(text: str, start: int) -> Found:
    """The number that begins at `start` with its second unit, or `HEDGE` if another one is offered."""
    found = number_at(text, start)
    is_part = _OF_SOMETHING.match(text, found[1]) is not None if found else start == 0
    which = _WHICH_IS.search(text, start) if is_part else None
    restated = number_at(text, which.end()) if which else None
    if restated and not COMPARED.match(text, restated[1]):
        found = restated
    return settled(text, *found) if found else None


def _value_of_other_form(sentence: str) -> str | None:
    """`3:2`, `9:30 pm`, `the 6th` and `2, 3`, where they are the whole or begin the sentence."""
    if ratio := _RATIO.match(sentence):
        return normalise_answer(ratio[0])
    if ordinal := _ORDINAL.match(sentence):
        return str(int(ordinal[1]))
    return list_at(sentence, 0, whole=True)


def list_at(text: str, start: int, whole: bool = False) -> str | None:
    """The list of numbers at `start`, such as `24 and 12`, when it ends the text; `1,234` is none."""
    match = _LIST.match(text, start)
    if match is None or (match.end() < len(text) and (whole or text[match.end()] not in " .")):
        return None
    items = re.split(r",\s?(?:and\s)?|\s(?:and|&)\s", match[0])
    return normalise_answer(", ".join(items)) or None


# -- a number and what qualifies it ----------------------------------------------------------------

_HEDGED = re.compile(
    r"((?:\s[A-Za-z]{1,20}){0,3}),?\s(?:or|[a-z ,]{0,30}\b(?:could|might|may)(?:\salso)?\sbe)"
    r"(?:,?\s(?:maybe|perhaps|possibly|about|around|even|equivalently)){0,2},?\s"
)
_UNDECIDED = re.compile(r"(?:either|between|one of)\b.{0,80}\d", re.IGNORECASE)
_LEADING_WORD = re.compile(r"\s([A-Za-z]+)")
_UNIT = "hours?|hrs?|minutes?|mins?|feet|foot|ft|years?|weeks?|days?|pounds?|lbs?|dollars?"
_PART = "minutes?|mins?|seconds?|secs?|inch(?:es)?|months?|days?|hours?|hrs?|ounces?|oz|cents?"
_SECOND_UNIT = re.compile(
    rf"\s(?P<unit>{_UNIT})(?:,?\sand\s|,?\s)(?P<count>\d{{1,3}})\s(?P<part>{_PART})\b", re.IGNORECASE
)
_IN_PARTS = re.compile(  # 2 hours and 40 minutes (160 minutes)
    rf"(?<![\d.,])\d{{1,4}}\s(?:{_UNIT})(?:,?\sand\s|,?\s)\d{{1,3}}\s(?:{_PART})"
    rf"(?:,?\sor\s|\s\((?:or\s)?)(\d[\d,]{{0,9}}\s(?:{_PART}))\)?",
    re.IGNORECASE,
)
_PARTS = {
    "ho mi": 60, "hr mi": 60, "mi se": 60, "fe in": 12, "fo in": 12, "ft in": 12, "ye mo": 12, "we da": 7,
    "da ho": 24, "da hr": 24, "po ou": 16, "po oz": 16, "lb oz": 16, "do ce": 100,
}  # fmt: skip
"""How many of the second unit make the first one, by their first two letters."""


def compound_at(text: str, number: Number, end: int) -> tuple[str, int] | None:
    """`number`, which ends at `end`, with its second unit, and where that ends.

    "4 hours and 30 minutes" is 4.5.
    """
    second = _SECOND_UNIT.match(text, end)
    if second is None or number.value.denominator != 1:
        return None
    per = _PARTS.get(f"{second['unit'][:2].lower()} {second['part'][:2].lower()}")
    count = int(second["count"])
    if per is None or count >= per:
        return None
    value = number.value + Fraction(-count if number.value < 0 else count, per)
    return _decimal(value), second.end()


def settled(text: str, number: Number, end: int) -> str | Hedge:
    """`number`, which ends at `end` of `text`, with its second unit; `HEDGE` if "or" another number follows.

    "120 minutes or 2 hours" is one answer in two units, and "0.6 or 60%" is 60%, which can be compared
    with either.
    """
    if compound := compound_at(text, number, end):
        return compound[0]
    match = _HEDGED.match(text, end)
    other = match and number_at(text, match.end())
    if not match or not other:
        return number.text
    if other[0].value == number.value:
        return other[0].text if other[0].percent else number.text
    unit, other_unit = match[1].strip(), _LEADING_WORD.match(text, other[1])
    two_units = unit and other_unit and unit.split()[0].rstrip("s") != other_unit[1].rstrip("s")
    return number.text if two_units else HEDGE


def _decimal(value: Fraction) -> str:
    """`value` as a decimal of at most four places, or else as a fraction."""
    scaled = value * 10**4
    return f"{float(value):.4f}".rstrip("0").rstrip(".") if scaled.denominator == 1 else str(value)


# -- a formula -------------------------------------------------------------------------------------

_MATHEMATICS = re.compile(r"\\\((.{1,300}?)\\\)|(?<!\\)\$([^$]{1,300})(?<!\\)\$")


def formula_value(line: str) -> str | None:
    """The formula of a line; with several, or none marked as one, the whole first sentence."""
    formulas = [first or second for first, second in _MATHEMATICS.findall(line)]
    if len(formulas) == 1:
        return normalise_answer(formulas[0]) or None
    end = _SENTENCE_END.search(line)
    return normalise_answer(line[: end.start()] if end else line) or None
