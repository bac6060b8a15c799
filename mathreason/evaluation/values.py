"""A sentence, or a short answer, to the value it states.

    leading_value(first_sentence("about **35 + 70 = 105** eggs. Next")) -> "105"
    leading_value("7 or 8 eggs")                                        -> HEDGE
    sentence_value("in 4 weeks Claire will eat 7 eggs")                 -> "7"
    formula_value("the point \\\\((3, 4)\\\\), as shown")                   -> "(3,4)"
    normalise_answer("x = \\\\$5.00")                                     -> "5.00"
    normalise_text("\\\\left( \\\\dfrac12\\\\pi \\\\right)")                    -> "(\\\\frac{1}{2}\\\\pi)"

A line is `markup.plain_characters` text; `normalise_answer` and `normalise_text` take any text. Numbers
come out as `numbers.Number.text`, everything else as `normalise_text`. Every search is linear and looks at
a limited number of places.
"""

from __future__ import annotations

import re
from collections import deque

from mathreason.evaluation.markup import TEXT_COMMAND, TRAILING_UNIT, plain, plain_characters
from mathreason.evaluation.numbers import MAX_LENGTH, Number, number_at, read_number, words_at

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
_EQUALS = re.compile(r"(?<![<>!:=])==?(?![=<>])")
_CONDITION = re.compile(  # 2x + 3y = 5, x^2 = 9, x = 3 and y = 4: an equation that is itself the answer
    r"[A-Za-z)]\s?\^|\d(?!x\s?\d)[A-Za-z](?![A-Za-z])"
    r"|(?<![A-Za-z])[A-Za-z]\s?=[^=]{0,100}(?:,|\bor\b|\band\b)[^=]{0,100}[A-Za-z]\s?$"
)
ARITHMETIC = re.compile(
    r"[-+(]?[\d.,]{1,40}%?(?:/[A-Za-z]{1,20})?(?:\s[A-Za-z]{1,20}){0,3}\s?(?:[-+*/^=()]|x\s?\d)"
)
"""Matches where a sentence begins with a calculation such as `3 eggs * 6`."""
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
    sentence = _right_hand_side(_unbracketed(sentence))
    found = number_at(sentence, 0)
    if found is None and (choice := _CHOICE.match(sentence)):
        found = number_at(sentence, choice.end())
    if found is None and (which := _WHICH_IS.search(sentence)):
        found = number_at(sentence, which.end())
    if found is None:
        return None
    return HEDGE if _is_hedged(sentence, *found) else found[0].text


def _unbracketed(text: str) -> str:
    """`[18]`, `(18)` and `<18>` without their brackets; `(3, 4)` keeps them."""
    inner = text[1:-1]
    is_single = text[:1] + text[-1:] in {"()", "[]", "<>"} and "," not in inner and read_number(inner)
    return inner if is_single else text


def _right_hand_side(sentence: str) -> str:
    """What follows the last equals sign of an equation such as `35 + 70 = 105` or `x = 5`."""
    signs = [match for match in _EQUALS.finditer(sentence) if not _inside_brackets(sentence, match.start())]
    if not signs:
        return sentence
    left, right = sentence[: signs[-1].start()].rstrip(), sentence[signs[-1].end() :].lstrip()
    if number_at(sentence, 0) and not ARITHMETIC.match(sentence):
        return sentence
    if len(signs) == 1 and not number_at(right, 0) and read_number(left):
        return left
    return sentence if _CONDITION.search(left) else right


def _inside_brackets(text: str, position: int) -> bool:
    return text.count("(", 0, position) > text.count(")", 0, position)


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


# -- one form for equal answers --------------------------------------------------------------------


def normalise_answer(text: str) -> str:
    """A boxed or a reference answer in the form in which answers are compared; "" if nothing is there.

    A number with or without a unit, and the right-hand side of `x = 5`, become `Number.text`; anything
    else goes through `normalise_text`.
    """
    text = re.sub(r"\\f?box(?:ed)?(?![A-Za-z])", "", plain_characters(text[:MAX_LENGTH]))
    if number := read_number(text):
        return number.text
    line = _unbracketed(plain(text))
    value = _right_hand_side(line)
    if number := read_number(value):
        return number.text
    quantity = number_at(value, 0)
    if quantity and re.fullmatch(
        r"(?:\s(?:[A-Za-z]{2,}|a)\.?|/[A-Za-z]{2,}|\^\{?\d\}?)+", value[quantity[1] :]
    ):
        return quantity[0].text
    normal = normalise_text(text)
    # "45, 135" without its space would come back as the number 45135
    return normal if read_number(normal) is None else " ".join(line.split())


_BOUND = TEXT_COMMAND + r"\{([^{}]*+)\}"
_TEXT_FORMS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|displaystyle|[bB]igg?[lr]?)(?![A-Za-z])", ""),
        (r"\\[dtc]frac", r"\\frac"),
        (r"\^\s?\{?\s?\\circ\s?\}?|\\degree(?![A-Za-z])", ""),
        (r"(?i)\b([ap])\.?\s?m(?:\.|\b)", r"\1m"),
        (TRAILING_UNIT.pattern, ""),
        (_BOUND, r" \1 "),
        (_BOUND, r" \1 "),
        (r"\\[!,;:]|\\ |~|\\q?quad(?![A-Za-z])", " "),
        (r"\\\(|\\\)|\\\[|\\\]|\\?\$|[*`]{2,}|^[*_`\"' ]+|[*_`\"' ]+$", ""),
        (r"\\frac\s?([^\s{\\])", r"\\frac{\1}"),
        (r"(\\frac\{[^{}]{0,200}\})\s?([^\s{\\])", r"\1{\2}"),
        (r"\\sqrt\s?([^\s{\\\[])", r"\\sqrt{\1}"),
        (r"([_^])\{([^{}])\}", r"\1\2"),
        (r"\{,\}", ","),
        (r"[\s.]+$|^\s+", ""),
        (r"\s+(?![A-Za-z])|(?<![A-Za-z])\s+", ""),
        (r"\s+", " "),
    )
)


def normalise_text(text: str) -> str:
    """An answer that is no number, with everything taken out that does not change its meaning.

    Spaces, `\\left` and `\\right`, degree signs, `\\text{}`, units, dollar signs, the trailing period;
    `\\dfrac` and `\\frac12` become `\\frac{1}{2}`, `(A)` becomes `A`.
    """
    text = plain_characters(text[:MAX_LENGTH])
    for pattern, replacement in _TEXT_FORMS:
        text = pattern.sub(replacement, text)
    while text.startswith("{") and text.endswith("}") and text.count("{") == 1:
        text = text[1:-1]
    return text[1:-1] if re.fullmatch(r"\([A-Za-z]\)", text) else text
