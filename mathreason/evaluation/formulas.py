"""The formula that a response ends with, where no marker names its answer.

    closing_formula("Therefore, the area is $12\\sqrt{3}$.")           -> "12\\sqrt{3}"
    closing_formula("Thus:\n\\[\n(r, \\theta) = (3, \\pi)\n\\]")          -> "(3,\\pi)"
    closing_formula("The roots are $x = 1$ and $x = -3$.")            -> "1,-3"
    closing_formula("Therefore, Janet makes $18 every day.")          -> None

Plain numbers are left to `claims`, which reads them with their sentence. Takes `markup.plain_characters`
text; every search is linear and looks at a limited number of places.
"""

from __future__ import annotations

import re

from mathreason.evaluation.normalisation import normalise_answer
from mathreason.evaluation.numbers import read_number

MAX_PARAGRAPH = 2_000
"""Characters at the end of the last paragraph that are looked at."""

_FORMULA = re.compile(
    r"\\\[(.{1,1000}?)\\\]|\$\$(.{1,1000}?)\$\$|\\\((.{1,300}?)\\\)|(?<![\\$\w])\$([^$\n]{1,300})(?<!\\)\$(?![\w$])",
    re.DOTALL,
)
_ENDING = re.compile(r"[^\d$\\=]{0,60}")
_JOINT = re.compile(r",?\s{0,3}(?:and|or|,)\s{0,3}")
_CLAIMS = re.compile(
    r"(?:\b(?:is|are|be|equals?|get|obtain|have|gives?|yields?|becomes?|or"
    r"|(?:equal|simplif\w{3}|reduces|evaluates|comes|down|up)\sto|ha(?:s|ve)\s(?:an?\s)?[a-z]{3,12})|[:=])[\s*]{0,8}$"
)
_CONDITION = re.compile(r"\b(?:when|where|if|since|because|for|of|in|Note:)\s{1,3}$", re.IGNORECASE)
_MATHEMATICAL = re.compile(
    r"\\[A-Za-z]|[\^_]|[(\[][^()\[\]]{1,100},[^()\[\]]{1,100}[)\]]|[a-z]\s?[-+*/=]|[-+*/]\s?[a-z]\b|\d[a-z]\b"
)
_PROSE = re.compile(r"(?<!\\)\b[A-Za-z]{2,}[\s,.]+[A-Za-z]{2,}\b")
_TEXT = re.compile(r"\\text\w{0,6}\s?\{[^{}]*\}")
_RELATION = re.compile(r"(?<![<>:])=|\\(?:Rightarrow|implies|in)(?![A-Za-z])|(?<!\\)[({\[]|(?<!\\)[)}\]]")
_NAMES = {"", *"abcdfghjklmnopqrstuvwxyz", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"}  # but for the constants e and i


def closing_formula(text: str) -> str | None:
    """The value of the formula that the last paragraph ends with, or of several that it lists."""
    start = _last_paragraph(text)
    if start is None or ("$" not in text and "\\" not in text):
        return None
    formulas = list(_FORMULA.finditer(text, start))
    if not formulas or not _ENDING.fullmatch(text.rstrip(), formulas[-1].end()):
        return None
    listed = [formulas[-1]]
    for formula in reversed(formulas[:-1]):
        if not _JOINT.fullmatch(text, formula.end(), listed[0].start()):
            break
        listed.insert(0, formula)
    contents = [_last_row(next(filter(None, formula.groups()))) for formula in listed]
    before = text[max(0, listed[0].start() - 40) : listed[0].start()]
    sides = [_sides(content) for content in contents]
    related = sides[-1][0] or "=" in contents[-1]
    claimed = _CLAIMS.search(before) or (related and not _CONDITION.search(before))
    if not claimed or not all(map(_is_mathematical, contents)):
        return None
    if len({left for left, _ in sides}) > 1:  # "b = 6 and m + b = 5" lists no solutions
        sides = sides[-1:]
    values = [normalise_answer(right) for _, right in sides]
    if len(values) == 1 and (values[0] in _NAMES or read_number(values[0])):
        return None
    return normalise_answer(", ".join(values)) or None


def _last_paragraph(text: str) -> int | None:
    """Where the last paragraph starts that is more than words such as "I hope this helps!"."""
    end = len(text)
    for _ in range(4):
        start = text.rfind("\n\n", 0, end)
        if re.search(r"[\d$\\]", text[max(start, 0) : end]):
            return max(start, 0, end - MAX_PARAGRAPH)
        if start < 0:
            return None
        end = start
    return None


def _last_row(content: str) -> str:
    """The last row of a display; a matrix is left whole."""
    rows = [content] if "\\begin" in content else [row for row in content.split("\\\\") if row.strip()]
    return rows[-1].replace("&", "").strip(" \n.,") if rows else ""


def _sides(content: str) -> tuple[str, str]:
    """What stands before and after the last "=" outside brackets; before it nothing where there is none."""
    depth, split = 0, None
    for relation in _RELATION.finditer(content):
        if relation[0] in "({[":
            depth += 1
        elif relation[0] in ")}]":
            depth -= 1
        elif depth == 0:
            split = relation
    if split is None or not content[split.end() :].strip():
        return "", content
    return content[: split.start()].strip(), content[split.end() :].strip()


def _is_mathematical(content: str) -> bool:
    """Whether a formula is one: between two amounts in dollars there are words."""
    return (content in "ei" or _MATHEMATICAL.search(content) is not None) and _PROSE.search(
        _TEXT.sub("", content)
    ) is None
