"""Cuts written arithmetic into tokens: plain text, calculator notation and LaTeX, with units.

    [token.kind for token in tokenise(r"3 red eggs \\times \\frac{1}{2} = 1.5")]
        ["number", "unit", "unit", "operator", "frac", "open", "number", "close", ..., "equals", "number"]

A response is hostile text: every regular expression here takes time linear in it.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

MAX_DIGITS = 30
MAX_UNIT_WORDS = 5

EXPRESSION = frozenset(
    {"number", "operator", "open", "close", "frac", "root", "power", "unit", "word operator"}
)


def words(text: str) -> frozenset[str]:
    """The words of `text`, as a set."""
    return frozenset(text.split())


_TOKEN = re.compile(
    r"""(?P<number>(?:[$€£][ ]?)?(?:\d+(?:(?:,|\{,\}|,\\!)\d+)*(?:\.\d+)?|\.\d+)(?:[ ]?%)?)
      | (?P<frac>\\[dtc]?frac(?![a-zA-Z]))
      | (?P<root>\\sqrt(?![a-zA-Z]))
      | (?P<approx>≈|≃|\\approx(?![a-zA-Z])|\\simeq(?![a-zA-Z]))
      | (?P<equals>(?<![<>!:=~])=(?![>=])|\bequals\b)
      | (?P<operator>[-+*/÷·⋅∙×−–^]|[xX](?=[ ]*[$({]?[ ]*\.?\d))
      | (?P<power>[²³])
      | (?P<open>[({\[])
      | (?P<close>[)}\]])
      | (?P<delimiter>\$|\\boxed(?![a-zA-Z]))
      | (?P<command>\\[a-zA-Z]+)
      | (?P<break>[\n\f])
      | (?P<word>[^\W\d_]+(?:['’][^\W\d_]+)?|\S)""",
    re.VERBOSE,
)
_OPERATORS = {"x": "*", "X": "*", "×": "*", "·": "*", "⋅": "*", "∙": "*", "÷": "/", "−": "-", "–": "-"}
_WORD_OPERATORS = {"plus": "+", "minus": "-", "times": "*", "of": "*"}
_TWO_WORD_OPERATORS = {("multiplied", "by"): "*", ("divided", "by"): "/"}

# Spellings of the same thing; each is padded so that positions in the response stay true.
_SPELLINGS = (
    ("\\\\", "\f"),  # a LaTeX line goes on where a bullet would stand
    (r"\times", "*"),
    (r"\cdot ", "*"),
    (r"\cdot", "*"),
    (r"\div", "/"),
    (r"^{\circ}", ""),
    (r"^\circ", ""),
    ("°", ""),
    (r"\$", "$"),
    (r"\%", "%"),
    ("**", ""),
    ("&", ""),
    ("\t", ""),
)
_POWER = re.compile(r"(?<=[\d)])\*\*(?=[\d(])|(?<=[\d)] )\*\*(?= [\d(])")
_SIZED = re.compile(r"\\(?:left|right|bigl|bigr|Bigl|Bigr|big|Big)[ ]?([()\[\]|])")
_DOTS = re.compile(r"\\cdots")
_MATH = re.compile(r"\\[()\[\]]")
_SPACES = re.compile(r"\\[;: ]|(?<!,)\\!|\\,|\\q?quad\b")
_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|operatorname|mbox)[ ]?\{([^{}\n]{0,80})\}")
# 1,234 and 1234 are numbers; 1,23 and 007 are something else.
_NUMBER = re.compile(r"(?:0|[1-9]\d*|[1-9]\d{0,2}(?:,\d{3})+)?(?:\.\d+)?")

# Words that change the meaning of the number before them, and so are no unit.
_NO_UNIT = words(
    "and or is are was so then than plus minus less more times multiplied divided by of percent half third "
    "quarter double twice triple hundred thousand million billion trillion dozen mod modulo am pm remainder "
    "k m b to at from if squared cubed which that but because since"
)


_TOUCHING_UNITS = words("cm mm km kg mg ml lb lbs ft hr hrs min mins oz mph kph gb mb sq yd pts")
_VOWELS = frozenset("aeiouy")


class Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


def tokenise(text: str) -> list[Token]:
    """The tokens of `text`; `text[token.start:token.end]` is where each was written.

    Line breaks around an equals sign are left out: a chain may be written over several lines.
    """
    plain = _respell(text)
    tokens = [
        Token(match.lastgroup or "", match.group(), match.start(), match.end())
        for match in _TOKEN.finditer(plain)
    ]
    return _without_continued_breaks(_with_units(_with_word_operators(tokens)))


def decimals(number: Token) -> int:
    """Digits written after the point; a percentage counts in hundredths and so has two more."""
    written = len(number.text.rstrip("% ").partition(".")[2])
    return written + 2 if number.text.endswith("%") else written


def number_value(text: str) -> Fraction | None:
    """The value of a number token without its percent sign; None when it is none."""
    digits = text.lstrip("$€£ ").rstrip("% ").replace("{,}", ",").replace(",\\!", ",")
    if len(digits) > MAX_DIGITS or not digits or not _NUMBER.fullmatch(digits):
        return None
    return Fraction(digits.replace(",", ""))


def operator_of(token: Token) -> str:
    """One of + - * / ^ for an operator token written in any way."""
    if token.kind == "word operator":
        first = token.text.lower().split()[0]
        return _WORD_OPERATORS.get(first) or _TWO_WORD_OPERATORS[(first, "by")]
    return _OPERATORS.get(token.text, token.text)


def _respell(text: str) -> str:
    text = _TEXT.sub(lambda found: found.group(1).rjust(len(found.group()) - 1) + " ", text)
    text = _POWER.sub("^ ", text)
    text = _SIZED.sub(_sized, text)
    text = _DOTS.sub("……    ", text)
    for written, plain in _SPELLINGS:
        text = text.replace(written, plain.ljust(len(written)))
    text = _MATH.sub(" $", text)
    return _SPACES.sub(lambda found: " " * len(found.group()), text)


def _sized(found: re.Match[str]) -> str:
    """A sized bracket as a plain one, at the outer end of its command."""
    bracket, width = found.group(1), len(found.group())
    return bracket.ljust(width) if bracket in "([" else bracket.rjust(width)


def _with_word_operators(tokens: list[Token]) -> list[Token]:
    """Words such as "times" between two numbers become operators; "of" needs a number on its left."""
    made: list[Token] = []
    position = 0
    while position < len(tokens):
        token = tokens[position]
        word = token.text.lower()
        following = tokens[position + 1] if position + 1 < len(tokens) else None
        if following and (word, following.text.lower()) in _TWO_WORD_OPERATORS:
            token = Token("word operator", f"{word} by", token.start, following.end)
            position += 1
        elif word in _WORD_OPERATORS and following and following.kind in ("number", "open", "frac"):
            token = Token("word operator", token.text, token.start, token.end)
        made.append(token)
        position += 1
    return made


def _with_units(tokens: list[Token]) -> list[Token]:
    """Words between a number and the operator, equals sign or bracket after it become units."""
    made = list(tokens)
    position = 1
    while position < len(tokens):
        if tokens[position - 1].kind not in ("number", "close"):
            position += 1
            continue
        end = _unit_end(tokens, position)
        closed = end < len(tokens) and tokens[end].kind in (
            "operator", "word operator", "equals", "approx", "close", "break", "delimiter",
        )  # fmt: skip
        if end > position and (closed or end == len(tokens)):
            made[position:end] = [token._replace(kind="unit") for token in tokens[position:end]]
        position = max(end, position + 1)
    return made


def _unit_end(tokens: list[Token], position: int) -> int:
    """Where the words that can be a unit end: "miles/hour", "dollars per shirt", "cm^2", "(apples)"."""
    words = 0
    while position < len(tokens) and words < MAX_UNIT_WORDS:
        token = tokens[position]
        following = tokens[position + 1] if position + 1 < len(tokens) else None
        if is_unit_word(token) and (words or _is_set_off(tokens, position)):
            words += 1
        elif token.text == "/" and following and is_unit_word(following):
            pass
        elif words and token.text == "^" and following and following.text in ("2", "3"):
            position += 1
        elif token.text == "(" and _is_note(tokens, position):
            position += 2
        elif not (words and token.kind == "power"):
            break
        position += 1
    return position


def is_unit_word(token: Token) -> bool:
    """Whether the token can be a word of a unit."""
    if token.kind != "word" or len(token.text) < 2 or token.text.lower() in _NO_UNIT:
        return False
    return (not token.text.isupper() and any(letter in _VOWELS for letter in token.text.lower())) or (
        token.text.lower() in _TOUCHING_UNITS
    )


def _is_set_off(tokens: list[Token], position: int) -> bool:
    """Whether a space or a bracket parts the word from its number: 2xy is a product, 2kg is not."""
    token, before = tokens[position], tokens[position - 1]
    return token.start > before.end or before.text == "/" or token.text.lower() in _TOUCHING_UNITS


def _is_note(tokens: list[Token], position: int) -> bool:
    inside = tokens[position + 1 : position + 3]
    noted = len(inside) == 2 and is_unit_word(inside[0]) and inside[1].text == ")"
    return noted and tokens[position].start > tokens[position - 1].end


def _without_continued_breaks(tokens: list[Token]) -> list[Token]:
    """A chain goes on over line breaks after an operator, and before or after an equals sign."""
    made: list[Token] = []
    for token in tokens:
        if token.kind in ("equals", "approx"):
            while made and made[-1].kind == "break":
                made.pop()
        if token.kind == "break" and made and made[-1].kind in ("equals", "approx", "operator", "break"):
            continue
        made.append(token)
    return made
