"""One form for equal answers: numbers as `Number.text`, all else as text without what changes nothing.

    normalise_answer("x = \\$5.00")                                     -> "5.00"
    normalise_text("\\left( \\dfrac12\\pi \\right)")                    -> "(\\frac{1}{2}\\pi)"

Both take any text, and look at its first `numbers.MAX_LENGTH` characters.
"""

from __future__ import annotations

import re

from mathreason.evaluation.markup import TEXT_COMMAND, TRAILING_UNIT, plain, plain_characters
from mathreason.evaluation.numbers import MAX_LENGTH, number_at, read_number

_EQUALS = re.compile(r"(?<![<>!:=])==?(?![=<>])")
_CONDITION = re.compile(  # 2x + 3y = 5, x^2 = 9, x = 3 and y = 4: an equation that is itself the answer
    r"[A-Za-z)]\s?\^|\d(?!x\s?\d)[A-Za-z](?![A-Za-z])"
    r"|(?<![A-Za-z])[A-Za-z]\s?=[^=]{0,100}(?:,|\bor\b|\band\b)[^=]{0,100}[A-Za-z]\s?$"
)
ARITHMETIC = re.compile(
    r"[-+(]?[\d.,]{1,40}%?(?:/[A-Za-z]{1,20})?(?:\s[A-Za-z]{1,20}){0,3}\s?(?:[-+*/^=()]|x\s?\d)"
)
"""Matches where a sentence begins with a calculation such as `3 eggs * 6`."""


def normalise_answer(text: str) -> str:
    """A boxed or a reference answer in the form in which answers are compared; "" if nothing is there.

    A number with or without a unit, and the right-hand side of `x = 5`, become `Number.text`; anything
    else goes through `normalise_text`.
    """
    text = re.sub(r"\\f?box(?:ed)?(?![A-Za-z])", "", plain_characters(text[:MAX_LENGTH]))
    if number := read_number(text):
        return number.text
    line = unbracketed(plain(text))
    value = right_hand_side(line)
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


def unbracketed(text: str) -> str:
    """`[18]`, `(18)` and `<18>` without their brackets; `(3, 4)` keeps them."""
    inner = text[1:-1]
    is_single = text[:1] + text[-1:] in {"()", "[]", "<>"} and "," not in inner and read_number(inner)
    return inner if is_single else text


def right_hand_side(sentence: str) -> str:
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
