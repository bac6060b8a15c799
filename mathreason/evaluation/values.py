"""A sentence, or a short answer, to the value it states.

    leading_value(first_sentence("about **35 + 70 = 105** eggs. Next")) -> "105"
    leading_value("7 or 8 eggs")                                        -> HEDGE
    sentence_value("in 4 weeks Claire will eat 7 eggs")                 -> "7"
    formula_value("the point \\\\((3, 4)\\\\), as shown")                   -> "(3,4)"

A line is `markup.plain_characters` text. Numbers come out as `numbers.Number.text`, everything else as
`normalisation.normalise_text`. Every search is linear and looks at
a limited number of places.
"""

from __future__ import annotations

import re
from collections import deque

from mathreason.evaluation.markup import plain
from mathreason.evaluation.normalisation import normalise_answer, right_hand_side, unbracketed
from mathreason.evaluation.numbers import Number, number_at, words_at

MAX_SPAN = 300
"""Characters of a line that are read for the value at its beginning."""
MAX_CANDIDATES = 50
"""Numbers, and words such as "is" before one, that are looked at in one sentence."""


class Hedge:
    """Two answers at once: no answer, and no weaker reading may pick one of them."""


HEDGE = Hedge()
Found = str | Hedge | None
"""A value as normalised text, `HEDGE`, or None where no value is stated."""

# -- the value at the beginning --------------------------------------------------------------------

_FILLER = re.compile(
    r"(?:[\s:=>\"'*_]|(?:about|approximately|around|roughly|exactly|only|just|simply|equal to|a total of|also"
    r"|still|indeed|now|so|therefore|thus|hence)\b,?\s){0,12}",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<![ap]\.m)(?<!\bRs)(?<!\.\.)[.!?;](?=\s|$)|\n", re.IGNORECASE)
_ATTACHED_UNIT = re.compile(r"(?<=\d)(?=[A-Za-z]{2}|[gmLlhsAWVCF]\b)(?!(?:st|nd|rd|th)\b)")
_CHOICE = re.compile(r"\(?[A-E]\)[ :.]{0,3}(?=\S)")
_WHICH_IS = re.compile(r",\s(?:which|that)\s(?:is|equals|gives|makes)\s")
_HEDGED = re.compile(
    r"((?:\s[A-Za-z]{1,20}){0,3}),?\s(?:or|[a-z ,]{0,30}\b(?:could|might|may)(?:\salso)?\sbe)"
    r"(?:\s(?:maybe|perhaps|possibly|about|around|even)){0,2}\s"
)
_UNDECIDED = re.compile(r"(?:either|between|one of)\b.{0,80}\d", re.IGNORECASE)
_LEADING_WORD = re.compile(r"\s([A-Za-z]+)")


def first_sentence(line: str) -> str:
    """The first sentence of a marker's line, without markup and filler words."""
    text = plain(line[:MAX_SPAN])
    text = _FILLER.sub("", text, count=1)
    end = _SENTENCE_END.search(text)
    text = text[: end.start()] if end else text
    return _without_closing(_ATTACHED_UNIT.sub(" ", text))


def _without_closing(text: str) -> str:
    """`text` without its closing punctuation; the dots of `0.666...` stay."""
    return text if text.endswith("...") else text.rstrip(" !?.,:;*")


def leading_value(sentence: str) -> Found:
    """The number a sentence begins with, or the right-hand side of the equation it begins with."""
    if _UNDECIDED.match(sentence):
        return HEDGE
    sentence = right_hand_side(unbracketed(sentence))
    found = number_at(sentence, 0)
    if found is None and (choice := _CHOICE.match(sentence)):
        found = number_at(sentence, choice.end())
    if found is None and (which := _WHICH_IS.search(sentence)):
        found = number_at(sentence, which.end())
    if found is None:
        return None
    return HEDGE if _is_hedged(sentence, *found) else found[0].text


def _is_hedged(text: str, number: Number, end: int) -> bool:
    """Whether "or" and a different number follow; "120 minutes or 2 hours" is one answer in two units."""
    match = _HEDGED.match(text, end)
    other = match and number_at(text, match.end())
    if not match or not other or other[0].value == number.value:
        return False
    unit, other_unit = match[1].strip(), _LEADING_WORD.match(text, other[1])
    return not (unit and other_unit and unit.split()[0].rstrip("s") != other_unit[1].rstrip("s"))


# -- the value somewhere in a sentence -------------------------------------------------------------

_NUMBER_WORD = re.compile(
    r"\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w{3,5}teen|\w{3,5}ty)\b", re.IGNORECASE
)
_NUMBER_START = re.compile(r"(?<![\w.:/^{\\*_-])(?<!\d,)(?:(?<![\d)]\s)(?<![\w)])-)?(?=\.?\d)")
_ANCHOR = re.compile(
    r"(?:=|\b(?:is|are|was|were|be|equals?|total of|equal to|round(?:s|ed)? (?:(?:up|down) )?to)\b)\s{0,3}"
    r"(?:(?:about|approximately|around|exactly|only|just|equal to|a total of|now|still|also)\s){0,3}",
    re.IGNORECASE,
)
_DENIED = re.compile(r"\b(?:not|isn't)\s$", re.IGNORECASE)
_CONTEXT = re.compile(
    r"\b(?:in|for|after|over|within|during|every|each|per|by|with|at|from|on|than)\s(?:the\s(?:next|last|first)\s)?$",
    re.IGNORECASE,
)


def sentence_value(sentence: str, prefer_last: bool = False) -> Found:
    """The number a sentence states: after its last "=" or "is", else the one that is no circumstance.

    "in 4 weeks Claire will eat 7 dozen eggs" and "7 dozen eggs in 4 weeks" both state 7.
    """
    text = _without_closing(_ATTACHED_UNIT.sub(" ", plain(sentence)))
    claim, because, _ = text.partition(" because ")
    if because and re.search(r"\d", claim):
        text = claim
    candidates = []
    for anchor in deque(_ANCHOR.finditer(text), maxlen=MAX_CANDIDATES):
        if found := number_at(text, anchor.end()):
            candidates.append(found)
    if candidates:
        number, end = candidates[-1]
    elif numbers := _numbers(text):
        number, end = numbers[-1 if prefer_last else 0]
    else:
        return None
    return HEDGE if _is_hedged(text, number, end) else number.text


def _numbers(text: str) -> list[tuple[Number, int]]:
    """The numbers of a sentence with their ends; those of time and rate only if there are no others."""
    stated: list[tuple[Number, int]] = []
    circumstances: list[tuple[Number, int]] = []
    for match in deque(_NUMBER_START.finditer(text), maxlen=MAX_CANDIDATES):
        if found := number_at(text, match.start()):
            before = text[max(0, match.start() - 30) : match.start()]
            if _DENIED.search(before):
                continue
            (circumstances if _CONTEXT.search(before) else stated).append(found)
    if not stated and not circumstances and (word := _NUMBER_WORD.search(text)):
        stated = [found] if (found := words_at(text, word.start())) else []
    return stated or circumstances


_MATHEMATICS = re.compile(r"\\\((.{1,300}?)\\\)|(?<!\\)\$([^$]{1,300})(?<!\\)\$")


def formula_value(line: str) -> str | None:
    """The formula of a line; with several, or none marked as one, the whole first sentence."""
    formulas = [first or second for first, second in _MATHEMATICS.findall(line)]
    if len(formulas) == 1:
        return normalise_answer(formulas[0]) or None
    end = _SENTENCE_END.search(line)
    return normalise_answer(line[: end.start()] if end else line) or None
