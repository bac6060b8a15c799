"""One form for equal answers: numbers as `Number.text`, all else as text without what changes nothing.

    normalise_answer("x = \\$5.00")                                     -> "5.00"
    normalise_text("\\left( \\dfrac12\\pi \\right)")                    -> "(\\frac{1}{2}\\pi)"

Both take any text, and look at its first `numbers.MAX_LENGTH` characters.
"""

from __future__ import annotations

import re

from mathreason.evaluation.markup import TEXT_COMMAND, TRAILING_UNIT, plain, plain_characters
from mathreason.evaluation.numbers import MAX_LENGTH, number_at, read_number
from mathreason.evaluation.program_notation import latex_notation

_EQUALS = re.compile(r"(?<![<>!:=])==?(?![=<>])")
_CONDITION = re.compile(  # 2x + 3y = 5, x^2 = 9, x = 3 and y = 4: an equation that is itself the answer
    r"[A-Za-z)]\s?\^(?!\{?-1\}?\s?\()|\d\*?(?!x\s?\d)[A-Za-z](?![A-Za-z])"
    r"|(?<![A-Za-z])[A-Za-z]\s?=[^=]{0,100}(?:,|\bor\b|\band\b)[^=]{0,100}[A-Za-z]\s?$"
)
ARITHMETIC = re.compile(
    r"[-+(]?[\d.,]{1,40}%?(?:/[A-Za-z]{1,20})?(?:\s[A-Za-z]{1,20}){0,3}\s?(?:[-+*/^=()]|x\s?\d)"
)
"""Matches where a sentence begins with a calculation such as `3 eggs * 6`."""


_BOX_OR_FACE = re.compile(r"\\f?box(?:ed)?(?![A-Za-z])|\\math(?:rm|bf|it|sf)\s?\{([ie])\}")
_UNIT_WORDS = re.compile(  # "5 eggs a day", "12 cm^2"; two letters of another kind are a product: "2 xy"
    r"(?:\s(?:[A-Za-z]{3,}|a(?=\s[A-Za-z]{3})|cm|mm|km|dm|ft|in|yd|mi|kg|mg|gm|lb|oz|hr|mL|ml|cc|am|pm|sq|of|to|at|on|by|is"
    r"|or|an|as|my|no|up|he|we|it)\.?|/[A-Za-z]{2,}|(?<=[A-Za-z]{2})\^\{?\d\}?|\s?\([A-Za-z]{3,20}\))+"
)
_DOLLARS = re.compile(r"^\s*\${1,2}|(?<!\\)\${1,2}\s*$")
_GROUPED = re.compile(r",\s?\\!\s?(?=\d{3})")  # 11,\! 111
_ROUNDED = re.compile(r"([^=]*\\(?:sqrt|pi|ln|log)(?![A-Za-z])[^=]*?)\s*\\approx(?![A-Za-z])")


def normalise_answer(text: str) -> str:
    """A boxed or a reference answer in the form in which answers are compared; "" if nothing is there.

    A number with or without a unit, and the right-hand side of `x = 5`, become `Number.text`; anything
    else goes through `normalise_text`.
    """
    text = _BOX_OR_FACE.sub(r"\1", latex_notation(plain_characters(text[:MAX_LENGTH])))
    text = _GROUPED.sub(",", _DOLLARS.sub("", text))
    if rounded := _ROUNDED.match(text):
        text = rounded[1]
    if number := read_number(text):
        return number.text
    line = unbracketed(" ".join(plain(text).split()))
    value = right_hand_side(line)
    if number := read_number(value):
        return number.text
    quantity = number_at(value, 0)
    if quantity and _UNIT_WORDS.fullmatch(value, quantity[1]):
        return quantity[0].text
    normal = normalise_text(text)
    # "45, 135" without its space would come back as the number 45135
    return normal if read_number(normal) is None else line


_BOUND = TEXT_COMMAND + r"\{([^{}]*+)\}"
_SYMBOLS = str.maketrans(
    {
        "\u2264": "\\le ",
        "\u2265": "\\ge ",
        "\u2260": "\\ne ",
        "\u00b1": "\\pm ",
        "\u2208": "\\in ",
        "\u2205": "\\emptyset ",
        "\u03b8": "\\theta ",
    }
)
_FUNCTIONS = "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|ln|log"
_UNITS = (
    r"(?:(?:square|cubic|sq\.?|cu\.?) )?(?:units?|cm|mm|km|centimeters?|met(?:er|re)s?|kilomet(?:er|re)s?"
    r"|inch(?:es)?|f(?:ee|oo)t|ft|yards?|miles?|mph|degrees?|radians?|seconds?|minutes?|hours?|dollars?|cents?)"
    r"(?:(?:\^\{?[23]\}?)|(?: per |/)[A-Za-z]+| squared| cubed)?"
)
_TEXT_FORMS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|displaystyle|limits|[bB]igg?[lr]?)(?![A-Za-z])", ""),
        (r"\\[dtc]frac", r"\\frac"),
        (r"\^\s?\{?\s?\\circ\s?\}?|\\degree(?![A-Za-z])", ""),
        (r"(?i)(?<![A-Za-z])([ap])\.?\s?m(?:\.|\b)", lambda m: f"{m[1].lower()}m"),
        (TRAILING_UNIT.pattern, ""),
        (_BOUND, r" \1 "),
        (_BOUND, r" \1 "),
        (r"(?<!\\)\\[!,;: ]|~|\\q?quad(?![A-Za-z])", " "),
        (r"(?<!\\)\\[()\[\]]|\\?\$", ""),
        (r"(?<=[\w)}])\s?\*\*\s?(?=[-\w({\\])", "^"),
        (r"[*`]{2,}|^[*_`\"' ]+|[*_`\"' ]+$", ""),
        (r"\\%", "%"),
        (r"\\([lg])(?:eqslant|eqq|eq)(?![A-Za-z])", r"\\\1e "),
        (r"\\neq(?![A-Za-z])|!=", r"\\ne "),
        (r"<=", r"\\le "),
        (r">=", r"\\ge "),
        (r"\\(?:lvert|rvert|vert|mid)(?![A-Za-z])", "|"),
        (r"\\(?:cdot|times|ast)(?![A-Za-z])", "*"),
        (r"\\div(?![A-Za-z])", "/"),
        (r"(?<![A-Za-z\\])(?:infinity|inf|infty)(?![A-Za-z])|\+\s?\\infty", r"\\infty "),
        (r"(?<![A-Za-z\\])pi(?![A-Za-z])", r"\\pi "),
        (rf"(?<![A-Za-z\\])({_FUNCTIONS})(?![A-Za-z])", r"\\\1 "),
        (r"(?:\\|(?<![A-Za-z\\]))sqrt\s?\(([^()]{1,200})\)", r"\\sqrt{\1}"),
        (r"\\frac\s?([^\s{\\])", r"\\frac{\1}"),
        (r"(\\frac\{[^{}]{0,200}\})\s?([^\s{\\])", r"\1{\2}"),
        (r"\\sqrt\s?(\d+|[^\s{\\\[])", r"\\sqrt{\1}"),
        (r"\^\s?(-?\d{2,}|-\d)(?![\d.])", r"^{\1}"),
        (r"\^\s?\(([^()]{1,200})\)", r"^{\1}"),
        (r"([_^])\s?\{\s?([^{}\s])\s?\}", r"\1\2"),
        (r"\{,\}", ","),
        (r",\s?(?:\\text\{[a-z ]*\})?\s?[a-z]\s?\\in\s?\\(?:mathbb\s?\{?[A-Z]\}?|[A-Z])\s*$", ""),
        (r"\s+", " "),
        (rf"(?<=[\d}})])\s?{_UNITS}[\s.]*$|(?<=\\pi)\s+{_UNITS}[\s.]*$", ""),
        (r"[\s.]+$|^\s+|^\+", ""),
        # "100, 200" keeps its space: without it, it would be one number
        (
            r"(?<!\d,)\s(?![A-Za-z])|(?<=\d,)\s(?![A-Za-z]|\d{3}(?!\d))|(?<![A-Za-z,])\s|(?<=,)\s(?=[A-Za-z])",
            "",
        ),
        (r"(?<=\d)\*(?=[A-Za-z(]|\\(?!frac))", ""),
        (r"\\log_([0-9a-z])", r"\\log_{\1}"),
        (r"\\overline\{([A-Z]{2,4})\}|\\(?:angle|triangle)\s?(?=[A-Z]{1,4}$)", r"\1"),
        (r"(?i)^(?:option|choice|answer)\s?(?=\(?[A-Z]\)?$)", ""),
    )
)


_BALANCED_INSIDE = re.compile(r"\{(?:[^{}]|\{[^{}]*+\})*+\}")


def normalise_text(text: str) -> str:
    """An answer that is no number, with everything taken out that does not change its meaning.

    Spaces, `\\left` and `\\right`, degree signs, `\\text{}`, units, dollar signs, the trailing period;
    `\\dfrac` and `\\frac12` become `\\frac{1}{2}`, `x**2` becomes `x^2`, `sqrt(3)` becomes `\\sqrt{3}`, `(A)`
    becomes `A`.
    """
    text = plain_characters(text[:MAX_LENGTH]).translate(_SYMBOLS)
    for pattern, replacement in _TEXT_FORMS:
        text = pattern.sub(replacement, text)
    while text.startswith("{") and _BALANCED_INSIDE.fullmatch(text):
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
    if len(signs) == 1 and not number_at(right, 0) and "_" not in right and read_number(left):
        return left
    return sentence if _CONDITION.search(left) else right


def _inside_brackets(text: str, position: int) -> bool:
    return text.count("(", 0, position) > text.count(")", 0, position)
