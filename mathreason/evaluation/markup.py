"""Text as a model writes it, brought down to plain ASCII without markup.

    plain_characters("−½ ٤٢")                      -> "- 1/2 42"
    plain("**$\\\\frac{1}{2}$** \\\\text{of it}")      -> "1/2  of it"

`plain_characters` goes first, over a whole response; `plain` then takes a short span, a line or an
answer. No pattern backtracks over more than a few characters.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# -- characters ------------------------------------------------------------------------------------

_MINUS_SIGNS = "\u2010\u2011\u2012\u2013\u2212\u207b\ufe63\uff0d"
_CHARACTERS = {
    **dict.fromkeys(_MINUS_SIGNS, "-"),
    **dict.fromkeys("\u00d7\u00b7\u22c5\u2219\u2217", "*"),
    **dict.fromkeys("\u2044\u2215\u00f7", "/"),
    **dict.fromkeys("\u2248\u2243\u2245", "="),
    **dict.fromkeys("\u2018\u2019\u2032", "'"),
    **dict.fromkeys("\u201c\u201d", '"'),
    **dict.fromkeys("\u066c\uff0c", ","),
    **dict.fromkeys("\r\u0085\u2028\u2029", "\n"),
    "\u066b": ".",
    "\u2026": "...",
    "\u03c0": "\\pi ",
    "\u221a": "\\sqrt ",
    "\u221e": "\\infty ",
    "\u222a": "\\cup ",
    "\u00b0": "^\\circ ",
}
_ESCAPES = (("\x08oxed", "\\boxed"), ("\x0crac", "\\frac"))  # a backslash that a JSON or Python reader took
_SUPERSCRIPTS = re.compile("[\u207b\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+")
_NOT_PLAIN = re.compile(r"[^\t\n -~]+")


def plain_characters(text: str) -> str:
    """`text` with look-alike characters as ASCII: minus signs, digits of every script, fractions, spaces.

    Characters that cannot be seen (direction marks, lone surrogates) are dropped, control characters
    become spaces. Each character is treated alone, which keeps hostile input linear.
    """
    if _NOT_PLAIN.search(text) is None:
        return text
    for escaped, command in _ESCAPES:
        text = text.replace(escaped, command)
    text = _SUPERSCRIPTS.sub(lambda run: "^{" + "".join(map(_superscript, run[0])) + "}", text)
    return _NOT_PLAIN.sub(lambda run: "".join(map(_plain_character, run[0])), text)


def _superscript(character: str) -> str:
    return "-" if character == "\u207b" else str(unicodedata.digit(character))


@lru_cache(maxsize=4096)
def _plain_character(character: str) -> str:
    if character in _CHARACTERS:
        return _CHARACTERS[character]
    category = unicodedata.category(character)
    if category in {"Cf", "Cs", "Co", "Cn"}:
        return ""
    if category in {"Cc", "Zs"}:
        return " "
    if category == "Nd":
        return str(unicodedata.decimal(character))
    compatible = unicodedata.normalize("NFKC", character)
    if "\u2044" in compatible:  # a vulgar fraction: 1½ must become "1 1/2", never "11/2"
        return " " + compatible.replace("\u2044", "/")
    return character if compatible == character else plain_characters(compatible)


# -- LaTeX, Markdown and currency ------------------------------------------------------------------

TEXT_COMMAND = r"\\(?:text\w{0,6}|mbox|math(?:rm|bf|it)|operatorname|boldsymbol|underline)\s{0,3}"
TRAILING_UNIT = re.compile(
    r"(?<=[^\s~{(])(?<!\\[,;:!])(?:\\[,;: !]|[\s~])*+"
    r"\\(?:text|mbox|mathrm)\{(?!\s?[apAP]\.?[mM]\b)[^{}]*+\}(?:\^\{?\d\}?)?[\s.]*$"
)
_LATEX = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|displaystyle|[bB]igg?[lr]?)(?![A-Za-z])", ""),
        (r"\\[dtc]frac", r"\\frac"),
        (r"\\!|(?<=\d)\\[,;: ](?=\d{3})", ""),
        (r"\\[,;: ]|\\q?quad(?![A-Za-z])", " "),
        (r"\{,\}", ","),
        (TEXT_COMMAND + r"\{([^{}]*+)\}", r" \1 "),
        (TEXT_COMMAND + r"\{([^{}]*+)\}", r" \1 "),
        (r"\^\s?\{?\s?\\circ\s?\}?|\\degree(?![A-Za-z])", " "),
        (r"\\(?:times|cdot|ast)(?![A-Za-z])", "*"),
        (r"\\div(?![A-Za-z])", "/"),
        (r"\\(?:approx|simeq)(?![A-Za-z])", "="),
        (r"\\[lc]?dots(?![A-Za-z])", "..."),
        (r"\\frac\s?\{\s?(-?\s?[\d.,]++)\s?\}\s?\{\s?(\d[\d,]*+)\s?\}", r" \1/\2"),
        (r"\\frac\s?(\d)\s?\{\s?(\d[\d,]*+)\s?\}", r" \1/\2"),
        (r"\\frac\s?\{\s?(-?\s?[\d.,]++)\s?\}\s?(\d)", r" \1/\2"),
        (r"\\frac\s?(\d)\s?(\d)", r" \1/\2"),
        (r"\\[()\[\]]", ""),
        (r"\\([$%#&_])", r"\1"),
    )
)
_FACTORIAL = re.compile(r"(?<=\d)!(?=\s?(?:\$|\\[)\]]))")
_CURRENCY_SCALE = re.compile(  # $24k and $1.5M, but neither $5k$ nor $2b + 3$
    r"(?<=[$€£¥₹])\s?(\d[\d,]{0,20}(?:\.\d{1,9})?)(?:(k)|(m|mn|mm|mil)|(b|bn))(?![\w$])(?!\s?[-+*/=^<>()\\])",
    re.IGNORECASE,
)
_DECIMAL_COMMA = re.compile(r"(?<=€)\s?(\d{1,9}),(\d\d)(?![\d,])|(?<![\d.,])(\d{1,9}),(\d\d)(?=\s?€)")
_CURRENCY_BETWEEN = re.compile(r"(?<=\d)\$(?=\d)")
_CURRENCY = re.compile("[$€£¥₹₽₩¢]")
_CURRENCY_WORD = re.compile(r"(?<![A-Za-z])(?:USD?|EUR|GBP|INR|CAD|AUD|Rs\.?)\s?(?=[-\d.])", re.IGNORECASE)
_STRONG = re.compile(r"(?<![\d*])\*\*(?=[^\s*])([^*\n]{0,199}[^\s*])\*\*(?![\d*])")
_EMPHASIS = re.compile(r"\*{3}|\*\*(?!\s?\d)|(?<![\d\s*])\*\*|^\s*\*\*|[`\"]|(?<![\w\s)*])\*(?!\s)|\*$|__")


def _in_words(scaled: re.Match[str]) -> str:
    return f"{scaled[1]} {'thousand' if scaled[2] else 'million' if scaled[3] else 'billion'}"


def plain(text: str) -> str:
    """A short span of `plain_characters` text without LaTeX, Markdown and currency markup.

    LaTeX commands that stand for a quantity (`\\pi`, `\\sqrt`) stay, so that `7\\pi` is not read as 7.
    """
    if "!" in text:
        text = _FACTORIAL.sub(r" \\factorial ", text)
    if "\\" in text or "{," in text:
        for pattern, replacement in _LATEX:
            text = pattern.sub(replacement, text)
    if _CURRENCY.search(text):
        text = _CURRENCY_SCALE.sub(_in_words, text)
        text = _DECIMAL_COMMA.sub(lambda m: f"{m[1] or m[3]}.{m[2] or m[4]}", text)
        text = _CURRENCY.sub("", _CURRENCY_BETWEEN.sub(" ", text))
    if "**" in text:
        text = _STRONG.sub(r"\1", text)
    if "*" in text or "`" in text or '"' in text or "__" in text:
        text = _EMPHASIS.sub("", text)
    text = _CURRENCY_WORD.sub("", text.replace("~", " "), count=1).strip()
    while text.startswith("{") and text.endswith("}") and text.count("{") == 1:
        text = text[1:-1].strip()
    return text
