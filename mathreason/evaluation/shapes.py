"""What an answer consists of: one expression, a list, a tuple, a union of intervals, a matrix.

    shape("3,-3")                    -> Shape("list", ("3", "-3"))      like "\\\\pm3" and "\\\\{3,-3\\\\}"
    shape("(3,4)")                   -> Shape("tuple", ("3", "4"), "()")   a point, a vector or an interval
    shape("[1,2)\\\\cup(3,4)")         -> Shape("union", ("[1,2)", "(3,4)"))
    shape("x<-1or x\\\\ge2")           -> Shape("union", ("(-\\\\infty,-1)", "[2,\\\\infty)"), "x")
    shape("\\\\begin{pmatrix}1\\\\\\\\2\\\\end{pmatrix}")  -> Shape("matrix", ("1", "2"), "2 rows")

It takes `normalise_text` output, looks at each character a fixed number of times, and never fails: what it
does not know is a single expression.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from mathreason.evaluation.closed_form import closed_form

MAX_DEPTH = 10
"""Brackets within brackets; deeper ones are a single expression."""

Kind = Literal["single", "list", "tuple", "union", "matrix"]


@dataclass(frozen=True, slots=True)
class Shape:
    """`items` are normalised texts; their order has no meaning in a list or a union.

    `mark` is the pair of brackets of a tuple, the rows of a matrix, the variable of inequalities.
    """

    kind: Kind
    items: tuple[str, ...]
    mark: str = ""


_REALS = re.compile(
    r"(?:[A-Za-z]\\in)?(?:\\mathbb\{?R\}?|\\R|\(-\\infty,\\infty\))|(?:all)?realnumbers", re.IGNORECASE
)
_EMPTY = re.compile(r"\\emptyset|\\varnothing|\\\{\\\}|no(?:real)?solutions?", re.IGNORECASE)
_MEMBER = re.compile(r"(?:[A-Za-z]|\\[a-z]+)(?:\\in|=(?=\\\{))")
_NAMED = re.compile(
    r"^(?:\((?:(?:[A-Za-z]|\\[a-z]+)\s?,){1,4}(?:[A-Za-z]|\\[a-z]+)\s?\)|[A-Za-z]|\\(?:vec|mathbf)\s?\{?[A-Za-z]\}?)="
)
_CONVERTED = re.compile(r"^\d+(?:_\{?\d+\}?)?=(?=[\dA-F]+_)")  # 27=11011_2
_WITHOUT = re.compile(r"(?:\\mathbb\{?R\}?|\\R)(?:\\setminus|\\backslash|\\|-)\\\{([^{}]+)\\\}")


def shape(text: str, split_thousands: bool = False) -> Shape:
    """The shape of `text`; with `split_thousands`, "12,345\\\\pi" is a list of two."""
    compact = text.replace(" ", "")
    if _REALS.fullmatch(compact):
        return Shape("tuple", ("-\\infty", "\\infty"), "()")
    if _EMPTY.fullmatch(compact):
        return Shape("list", ())
    if without := _WITHOUT.fullmatch(_MEMBER.sub("", compact, count=1)):
        return _gaps(tuple(without[1].split(",")), "")
    text = text[member.end() :] if (member := _MEMBER.match(text)) else text
    text = _CONVERTED.sub("", text)
    unnamed = _NAMED.sub("", text, count=1)
    if found := _matrix(unnamed) or _union(text) or _bracketed(unnamed):
        return shape(found.items[0]) if found.kind == "list" and len(found.items) == 1 else found
    text = text if split_thousands else _THOUSANDS.sub("", text)
    items = tuple(item for part in _split(text, _SEPARATOR) for item in _both_signs(part))
    if intervals := _inequalities(items):
        return intervals
    return Shape("list", items) if len(items) > 1 else Shape("single", items or (text,))


# -- splitting -------------------------------------------------------------------------------------

_BRACKETS = {
    "(": 1,
    "[": 1,
    "{": 1,
    "\\{": 1,
    "\\langle": 1,
    ")": -1,
    "]": -1,
    "}": -1,
    "\\}": -1,
    "\\rangle": -1,
}
_PIECE = re.compile(
    r"\\\\|\\[{}]|\\[A-Za-z]+|[()\[\]{}]|[,;&]|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])", re.IGNORECASE
)
_SEPARATOR = frozenset({",", ";", "and", "or"})
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def _split(text: str, separators: frozenset[str]) -> list[str]:
    """The parts of `text` between separators outside of all brackets; empty parts are left out."""
    parts, start, depth = [], 0, 0
    for match in _PIECE.finditer(text):
        piece = match[0].lower()
        depth += _BRACKETS.get(piece, 0)
        if depth == 0 and piece in separators:
            parts.append(text[start : match.start()])
            start = match.end()
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def _matrix(text: str) -> Shape | None:
    match = _MATRIX.fullmatch(text)
    if match is None or "\\begin" in match["body"]:
        return None
    rows = [_split(row, frozenset("&")) for row in _split(match["body"], frozenset({"\\\\"}))]
    items = tuple(item for row in rows for item in row)
    bars = "determinant, " if match["kind"] == "v" else ""
    return Shape("matrix", items, f"{bars}{len(rows)} rows")


_MATRIX = re.compile(
    r"[(\[]?\\begin\{(?P<kind>[pbvBV]|small)?(?:matrix|array)\}(?:\{[clr|]*\})?(?P<body>.*)\\end\{\w+\}[)\]]?",
    re.DOTALL,
)


def _union(text: str) -> Shape | None:
    parts = _split(text.replace("\\bigcup", "\\cup"), frozenset({"\\cup"}))
    if len(parts) < 2:
        return None
    if all(part.startswith("\\{") for part in parts):
        return Shape("list", tuple(item for part in parts for item in shape(part).items))
    return Shape("union", tuple(parts))


def _bracketed(text: str) -> Shape | None:
    """A tuple, an interval or a set: one pair of brackets around everything, with a comma inside."""
    match = _ENCLOSED.fullmatch(text)
    if match is None or not _is_one_pair(text):
        return None
    items = tuple(_split(match["inside"], frozenset({",", ";"})))
    if match["left"] == "\\{":
        return Shape("list", tuple(item for part in items for item in _both_signs(part)))
    if len(items) < 2:
        return None
    angled = match["left"] == "\\langle"
    return Shape("tuple", items, "()" if angled else match["left"] + match["right"])


_ENCLOSED = re.compile(
    r"(?P<left>\\\{|\\langle|[(\[])(?P<inside>.*)(?P<right>\\\}|\\rangle|[)\]])", re.DOTALL
)


def _is_one_pair(text: str) -> bool:
    depth = 0
    for match in _PIECE.finditer(text):
        depth += _BRACKETS.get(match[0], 0)
        if depth > MAX_DEPTH:
            return False
        if depth == 0 and match[0] in _BRACKETS:
            return match.end() == len(text)
    return False


def _both_signs(text: str) -> tuple[str, ...]:
    """`a\\pm b` as `a+b` and `a-b`."""
    if "\\pm" not in text or not _PLUS_MINUS.search(text):
        return (text,)
    upper = _PLUS_MINUS.sub(lambda match: "+" if match[0] == "\\pm" else "-", text)
    lower = _PLUS_MINUS.sub(lambda match: "-" if match[0] == "\\pm" else "+", text)
    return (re.sub(r"(?<![^=({])\+", "", upper), lower)


_PLUS_MINUS = re.compile(r"\\(?:pm|mp)(?![A-Za-z])")

# -- inequalities as intervals ---------------------------------------------------------------------

_RELATION = re.compile(r"\\le(?![A-Za-z])|\\ge(?![A-Za-z])|\\ne(?![A-Za-z])|[<>]")
_VARIABLE = re.compile(r"[A-Za-z]|\\(?:theta|alpha|beta|lambda|phi)")
_FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne"}


def _inequalities(items: tuple[str, ...]) -> Shape | None:
    """`x<3`, `1\\le x<2`, `x<1` or `x>2`, `x\\ne3`: inequalities of one variable, as a union of intervals."""
    intervals: list[str] = []
    excluded: list[str] = []
    variables = set()
    for item in items:
        relations = _RELATION.findall(item)
        sides = [side.strip() for side in _RELATION.split(item)]
        if len(relations) not in {1, 2} or "=" in item or not all(sides):
            return None
        variable = next((side for side in sides if _VARIABLE.fullmatch(side)), None)
        interval = variable and _interval(sides, relations, variable)
        if not variable or interval is None:
            return None
        variables.add(variable)
        (excluded if relations == ["\\ne"] else intervals).append(interval)
    if len(variables) != 1 or (excluded and intervals):
        return None
    return _gaps(tuple(excluded), *variables) if excluded else Shape("union", tuple(intervals), *variables)


def _interval(sides: list[str], relations: list[str], variable: str) -> str | None:
    """The interval as text; for `x\\ne3` the value left out."""
    if len(relations) == 2:
        low, middle, high = sides
        first, second = relations
        if middle != variable or {first in {"<", "\\le"}, second in {"<", "\\le"}} == {True, False}:
            return None
        if first in {">", "\\ge"}:
            low, high, first, second = high, low, _FLIPPED[second], _FLIPPED[first]
        return f"{'(' if first == '<' else '['}{low},{high}{')' if second == '<' else ']'}"
    relation = relations[0] if sides[0] == variable else _FLIPPED[relations[0]]
    bound = sides[1] if sides[0] == variable else sides[0]
    if _VARIABLE.fullmatch(bound):
        return None
    return {
        "<": f"(-\\infty,{bound})",
        "\\le": f"(-\\infty,{bound}]",
        ">": f"({bound},\\infty)",
        "\\ge": f"[{bound},\\infty)",
        "\\ne": bound,
    }[relation]


def _gaps(excluded: tuple[str, ...], variable: str) -> Shape:
    """All real numbers but `excluded`."""
    values = [closed_form(value) for value in excluded]
    known = [value.factor * abs(value.factor) * value.radicand for value in values if value]
    if len(known) == len(excluded):  # f |f| r orders as f sqrt(r) does
        excluded = tuple(value for _, value in sorted(zip(known, excluded, strict=True)))
    bounds = ["-\\infty", *excluded, "\\infty"]
    intervals = tuple(f"({low},{high})" for low, high in pairwise(bounds))
    return Shape("union", intervals, variable)
