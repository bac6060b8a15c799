"""A sentence to the value it claims: the result of its calculation, or the number that is no circumstance.

    sentence_value("in 4 weeks Claire will eat 7 eggs")                         -> "7"
    sentence_value("It takes 48 minutes to travel 8 kilometers")                -> "48"
    sentence_value("768 / 50 = 15.36, so she has to make 16 trips")             -> "16"
    sentence_value("He can stay 55 minutes before the 60 because 300-245 = 55") -> "55"

A sentence is `markup.plain_characters` text, and comes from the end of a response that names no answer.
Every search is linear and looks at a limited number of places.
"""

from __future__ import annotations

import re
from collections import deque

from mathreason.evaluation.normalisation import normalise_answer
from mathreason.evaluation.numbers import Number, number_at, read_number, words_at
from mathreason.evaluation.values import (
    COMPARED,
    HEDGE,
    REFUSAL,
    Found,
    compound_at,
    first_sentence,
    leading_value,
    list_at,
    settled,
    spaced,
    value_at,
    without_closing,
)

MAX_CANDIDATES = 50
"""Numbers, and words such as "is" before one, that are looked at in one sentence."""

_DIGIT = re.compile(r"\d")
_ANCHOR = re.compile(
    r"(?:(?P<equals>=|\bequals?\b)|\b(?:is|are|was|were|(?<!\bto )be|(?:total|difference|sum) of|equal to"
    r"|adds? up to|amounts? to|comes? (?:out )?to|round(?:s|ed)? (?:(?:up|down) )?to"
    r"|(?:out|calculated|found|known|determined|estimated) to be)\b)\s{0,3}"
    r"(?:(?:about|approximately|around|exactly|only|just|equal to|a total of|now|still|also|in)\s){0,3}",
    re.IGNORECASE,
)
_SOLVED = re.compile(r"(?<![\w.,/])(-?\d[\d.,/]{0,20})\s?=\s?\\?[A-Za-z]$")  # 20 = A
_CLOCK = re.compile(r"\b\d{1,2}:\d\d(?!\w)(?:\s?[ap]\.?m\b)?", re.IGNORECASE)
_NONE_LEFT = re.compile(
    r"\bno\s(?:more\s)?[a-z]+(?:\s[a-z]+){0,2}\s(?:left|remaining|remain)\b|\b(?:none|nothing)\b",
    re.IGNORECASE,
)


def sentence_value(sentence: str, prefer_last: bool = False) -> Found:
    """The number a sentence claims: after its last "=", its last "is", or else one that is no circumstance.

    Of several such numbers it is the first, which the others qualify, or with `prefer_last` the last.
    """
    if "**" in sentence and (bold := _bold_value(sentence)):
        return bold
    if sentence.lstrip().startswith("|"):
        sentence = sentence.replace("|", "  ")  # a row of a table
    text = without_closing(spaced(sentence))
    if solved := _SOLVED.search(text):
        number = read_number(solved[1])
        return number.text if number else None
    claim = _claim(text)
    if not isinstance(claim, str):
        return settled(text, *claim)
    if anchored := _anchored(claim):
        return anchored
    if numbers := _numbers(claim):
        joined = re.search(r"\band\b", claim[numbers[0][2] : numbers[-1][0]]) is not None
        conditional = _CONDITION.match(claim) is not None  # "If she sells 9 eggs at $2 she makes $18"
        _, number, end = numbers[-1 if prefer_last or joined or conditional else 0]
        return settled(claim, number, end)
    if times := _CLOCK.findall(claim):
        return normalise_answer(times[-1])
    return "0" if not _DIGIT.search(claim) and _NONE_LEFT.search(claim) else None


_BOLD = re.compile(r"(?<!^)\*\*([^*\n]{1,80}[^*\n:])\*\*(?!:)")


def _bold_value(sentence: str) -> Found:
    """The value of the only bold text with a number, when it does not head the sentence."""
    spans = [span for span in _BOLD.findall(sentence.strip()[:2_000]) if _DIGIT.search(span)]
    return leading_value(first_sentence(spans[0])) if len(spans) == 1 else None


# -- the part of a sentence that is the claim --------------------------------------------------------

_BECAUSE = re.compile(r"\sbecause\s|,\s(?:since|as)\s")
_ASIDE = re.compile(r"\s\((?=[^()]{0,60}[a-z]{2})[^()]{0,200}\)|(?<=\d)\s\(\d[^()]{0,60}\)")
_CONDITION = re.compile(r"(?:(?:so|thus|hence|therefore),?\s)?(?:since|because|as|if|when)\s", re.IGNORECASE)
_LATER_CONDITION = re.compile(r",?\s(?:if|when|while|given that|assuming)\s")
_CONSEQUENCE = re.compile(
    r",?\s(?:meaning|so|which\smeans|thus|therefore|hence|leaving|which\sleaves)\b(?!\s(?:far|much|many)\b)",
    re.IGNORECASE,
)
_REQUIRES = re.compile(
    r"\b(?:needs?|needed|(?P<takes>takes?|took)|requires?|required|uses?|used|costs?|spends?|spent|pays?|paid)\b",
    re.IGNORECASE,
)
_PURPOSE = re.compile(
    r"\sto\s(?!(?:the|an?|be|equal|h(?:is|er)|their|its|each)\b)(?P<result>get|obtain|find|give)?[a-z]*\s"
)


def _claim(text: str) -> str | tuple[Number, int]:
    """`text` without condition, reason and purpose; the number of the claim that the reason proves."""
    because = _BECAUSE.search(text)
    if because and _DIGIT.search(text, 0, because.start()):
        claim, reason = text[: because.start()], text[because.end() :]
        proven = [
            found
            for part in re.split(r"\sand\s", reason)
            for match in _anchors(part)
            if match["equals"] and (found := number_at(part, match.end()))
        ]
        if proven:
            values = {number.value for number, _ in proven}
            named = [(number, end) for _, number, end in _numbers(claim) if number.value in values]
            return named[0] if named else (proven[-1][0], len(text))
        text = claim
    if "(" in text and _DIGIT.search(without_aside := _ASIDE.sub("", text)):
        text = without_aside
    condition = _LATER_CONDITION.search(text)
    if (
        condition
        and _DIGIT.search(text, 0, condition.start())
        and not re.search("[=,]", text[condition.end() :])
    ):
        text = text[: condition.start()]
    if _CONDITION.match(text):
        _, comma, rest = text.partition(", ")
        text = rest if comma and _DIGIT.search(rest) else text
    for consequence in reversed([*deque(_CONSEQUENCE.finditer(text), maxlen=MAX_CANDIDATES)]):
        if _DIGIT.search(text, consequence.end()) and _DIGIT.search(text, 0, consequence.start()):
            text = text[consequence.end() :]
            break
    return _without_purpose(text)


def _without_purpose(text: str) -> str:
    """ "needs 132 spoons to make 16 muffins" without the muffins; "needs to add 5 to get 12" stays."""
    requires = _REQUIRES.search(text)
    if requires is None or "=" in text[requires.end() :]:
        return text
    for purpose in list(_PURPOSE.finditer(text, requires.end()))[:MAX_CANDIDATES]:
        is_result = purpose["result"] and not requires["takes"]
        if not is_result and _DIGIT.search(text, requires.end(), purpose.start()):
            return text[: purpose.start()]
    return text


# -- the numbers of a claim ------------------------------------------------------------------------


def _anchors(text: str) -> list[re.Match[str]]:
    return [*deque(_ANCHOR.finditer(text), maxlen=MAX_CANDIDATES)]


def _anchored(text: str) -> Found:
    """The value after the last "=" or "is" that has one; of `5 + 13 = 18 = 2 * 9` the 18."""
    anchors = _anchors(text)
    for match in reversed(anchors):
        compares = text.endswith("which ", 0, match.start()) and COMPARED.search(
            text, match.end(), match.end() + 30
        )
        if not compares and (found := _result_at(text, match.end())):
            return found
    equals = [match for match in anchors if match["equals"]]
    for match, following in zip(reversed(equals[:-1]), reversed(equals[1:]), strict=True):
        segment = text[: following.start()].rstrip()
        number = number_at(segment, match.end())
        if number and number[1] == len(segment):
            return number[0].text
    return None


_ORDINAL = re.compile(r"(?:the\s)?(\d{1,4})(?:st|nd|rd|th)\b")
_RATIO = re.compile(r"\d{1,9}(?:\s?:\s?\d{1,9}){1,3}$")


def _result_at(text: str, start: int) -> Found:
    if found := value_at(text, start):
        return found
    if ordinal := _ORDINAL.match(text, start):
        return str(int(ordinal[1]))
    if ratio := _RATIO.match(text, start):
        return re.sub(r"\s", "", ratio[0])
    return list_at(text, start, whole=True)


_NUMBER_WORD = re.compile(
    r"\b(?:one[-\s](?:half|third|fourth|quarter|fifth|sixth|eighth|tenth)|half(?=\s(?:of|the)\b)|two|three|four|five|six|seven|eight"
    r"|nine|ten|eleven|twelve|[a-z]{3,5}teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty)\b",
    re.IGNORECASE,
)
_NUMBER_START = re.compile(
    r"(?<![A-Za-z0-9_./^{\\*-])(?<!\d,)(?<!\d:)(?:(?<![\d)]\s)(?<![A-Za-z0-9_)])-)?(?=\.?\d)"
)
_RESTATED = re.compile(r"(?:\bor|\bi\.e\.,?|\bthat is,?)\s$")
_DENIED = re.compile(r"\b(?:not|isn't)\s$", re.IGNORECASE)
_CIRCUMSTANCE = re.compile(
    r"\b(?:in|for|after|over|within|during|every|each|per|by|with|at|from|on|than|above|below|under|past"
    r"|(?:each|out|instead)\sof|of\s(?:the|her|his|their|its|my)|all|the|these|those"
    r"|(?:after|before|by|for|from|when|while|without)\s[a-z]{2,20}ing)\s"
    r"(?:(?:the|his|her|their|its)\s)?(?:(?:next|last|first)\s)?$",
    re.IGNORECASE,
)


def _numbers(text: str) -> list[tuple[int, Number, int]]:
    """The numbers of a sentence between their starts and ends; circumstances only if there are no others.

    A circumstance is a time, a rate, a comparison, or what the sentence is about: "in 4 weeks", "the 3
    friends".
    """
    stated: list[tuple[int, Number, int]] = []
    circumstances: list[tuple[int, Number, int]] = []
    reached = 0
    for match in deque(_NUMBER_START.finditer(text), maxlen=MAX_CANDIDATES):
        if match.start() >= reached and (found := number_at(text, match.start())):
            compound = compound_at(text, *found)
            reached = compound[1] if compound else found[1]
            before = text[max(0, match.start() - 30) : match.start()]
            if not _DENIED.search(before) and not (stated and _RESTATED.search(before)):
                (circumstances if _CIRCUMSTANCE.search(before) else stated).append((match.start(), *found))
    if not stated and not circumstances and (word := _NUMBER_WORD.search(text)):
        stated = [(word.start(), *found)] if (found := words_at(text, word.start())) else []
    return stated or circumstances


# -- the end of a response -------------------------------------------------------------------------

_OPTION = re.compile(
    r"(?:\b(?:options?|choice|alternative)\s(?:is\s|would be\s)?:?\s?\(?([A-J])\)?|(?:[\s,:]|^)\(([A-E])\))"
    r"[\s.*]*$",
    re.IGNORECASE,
)


def chosen_option(text: str) -> str | None:
    """The letter of the option that the last words of a response choose: "so it is option (C)"."""
    found = _OPTION.search(text.rstrip()[-60:])
    letter = found and (found[1] or found[2])
    return letter if letter and letter.isupper() else None


def refuses(sentence: str) -> bool:
    """Whether a sentence without a number says that there is no answer."""
    return not _DIGIT.search(sentence) and REFUSAL.search(sentence) is not None


_UNFINISHED = re.compile(
    r"(?:\s[-+*/<>]|[=(\\]|\\[a-z]{1,12}|\d\s?x|\d\s?(?:[*+]|\s[-/x]\s)\s?\$?\d(?:[\d.,]{0,20}\d)?|\b(?:the|an?|of|is|are|was|by|for|to|and|or"
    r"|in|at|with|from|that|which|this|will|would|can|us|get|each|per|has|have|her|his|their|we|she|they))$",
    re.IGNORECASE,
)
_CUT_COMMAND = re.compile(r"\\[a-z]{0,12}(?:\{[^{}]{0,200})?$")


def is_unfinished(sentence: str) -> bool:
    """Whether the last sentence of a response breaks off, in a calculation or before its object."""
    return _UNFINISHED.search(sentence.rstrip()) is not None or sentence.count("{") > sentence.count("}")


def final_result(sentence: str) -> Found:
    """The number after the last "=" of a sentence that breaks off, if no other number follows it."""
    _, equals, result = _CUT_COMMAND.sub("", sentence.rstrip()).rpartition("=")
    found = number_at(text := spaced(result).strip(), 0) if equals else None
    return found[0].text if found and not _DIGIT.search(text, found[1]) else None


def last_number(text: str) -> Found:
    """The last number of a short text, unless it is part of a calculation without a result."""
    numbers = _numbers(without_closing(spaced(text)))
    return numbers[-1][1].text if numbers else HEDGE
