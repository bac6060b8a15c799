"""Values as Python, sympy and numpy print them, in the notation of LaTeX.

    latex_notation("Rational(1, 2)")                       -> "\\\\frac{1}{2}"
    latex_notation("Union(Interval.open(-oo, 2), {5})")     -> "(-\\\\infty,2)\\\\cup\\\\{5\\\\}"
    latex_notation("Matrix([[1, 2]])")                      -> "\\\\begin{pmatrix}1&2\\\\end{pmatrix}"

Text that no program prints comes back as it is. The work is linear in the text for each of at most
`MAX_CALLS` calls, and nothing is ever executed.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

MAX_CALLS = 60
"""Calls such as `Rational(1, 2)` that are rewritten, counted from the end."""

_CALL = re.compile(
    r"(?<![A-Za-z\\])(Rational|Fraction|Interval(?:\.open|\.Lopen|\.Ropen)?|Union|FiniteSet|Eq|Tuple"
    r"|(?:Mutable|Immutable)?(?:Dense)?Matrix|(?:np\.)?array|Abs|exp|sqrt)\("
)
_PRINTED = re.compile(r"[A-Za-z]\(|\[\[|(?<![A-Za-z\\])oo(?![A-Za-z])|\*I|\*\*|\{[a-z]: ")
_POWER = re.compile(r"(?<![A-Za-z])([A-Za-z])\*\*(?=\d)")
_BRACKET = re.compile(r"[(\[{]|[)\]}]|,")
_INFINITY = re.compile(r"(?<![A-Za-z\\])oo(?![A-Za-z])")
_IMAGINARY = re.compile(r"(?<=\*)I(?![A-Za-z(])|(?<=[-+]\s)I(?![A-Za-z(])")
_SOLUTIONS = re.compile(r"\[?\{([a-z]: [^{}:]{1,100}(?:, [a-z]: [^{}:]{1,100})*)\}\]?")


def latex_notation(text: str) -> str:
    """`text` with the values that programs print as LaTeX writes them."""
    if _PRINTED.search(text) is None:
        return text
    text = _IMAGINARY.sub("i", _INFINITY.sub(r"\\infty ", _POWER.sub(r"\1^", text)))
    if solutions := _SOLUTIONS.fullmatch(text.strip()):  # {x: 1, y: 2}
        return solutions[1].replace(":", "=")
    for call in reversed(deque(_CALL.finditer(text), maxlen=MAX_CALLS)):  # the innermost before its outer one
        found = _arguments(text, call.end())
        if found is not None:
            arguments, end = found
            text = text[: call.start()] + _WRITERS[call[1].rpartition("np.")[2]](arguments) + text[end:]
    return _matrix([text.strip()]) if text.strip().startswith("[[") else text


def _arguments(text: str, start: int) -> tuple[list[str], int] | None:
    """The arguments of a call whose opening bracket ends at `start`, and where it ends."""
    arguments, depth, begin = [], 1, start
    for bracket in _BRACKET.finditer(text, start):
        if bracket[0] == ",":
            if depth == 1:
                arguments.append(text[begin : bracket.start()].strip())
                begin = bracket.end()
            continue
        depth += 1 if bracket[0] in "([{" else -1
        if depth == 0:
            return [*arguments, text[begin : bracket.start()].strip()], bracket.end()
    return None


def _matrix(arguments: list[str]) -> str:
    """A matrix of rows `[[1, 2], [3, 4]]`, or a column `[1, 2]`."""
    rows = _items(arguments[0]) if arguments else None
    if rows is None:
        return ",".join(arguments)
    cells = [_items(row) or [row] for row in rows]
    return "\\begin{pmatrix}" + "\\\\".join("&".join(row) for row in cells) + "\\end{pmatrix}"


def _items(text: str) -> list[str] | None:
    found = _arguments(text, 1) if text.startswith("[") else None
    return found[0] if found and found[1] == len(text) else None


def _interval(left: str, right: str) -> Callable[[list[str]], str]:
    def write(bounds: list[str]) -> str:
        closing = [
            "(" if "\\infty" in bounds[0] else left,
            ")" if "\\infty" in bounds[-1] else right,
        ]
        return closing[0] + ",".join(bounds[:2]) + closing[1]

    return write


def _fraction(parts: list[str]) -> str:
    return f"\\frac{{{parts[0]}}}{{{parts[1]}}}" if len(parts) == 2 else parts[0]


_MATRICES = (
    *(f"{kind}{dense}Matrix" for kind in ("Mutable", "Immutable", "") for dense in ("Dense", "")),
    "array",
)
_WRITERS: dict[str, Callable[[list[str]], str]] = {
    "Rational": _fraction,
    "Fraction": _fraction,
    "Interval": _interval("[", "]"),
    "Interval.open": _interval("(", ")"),
    "Interval.Lopen": _interval("(", "]"),
    "Interval.Ropen": _interval("[", ")"),
    "Union": lambda parts: "\\cup ".join(re.sub(r"^\{(.*)\}$", r"\\{\1\\}", part) for part in parts),
    "FiniteSet": lambda items: "\\{" + ",".join(items) + "\\}",
    "Eq": "=".join,
    "Tuple": lambda items: "(" + ",".join(items) + ")",
    "Abs": lambda items: "|" + ",".join(items) + "|",
    "exp": lambda items: "e^{" + ",".join(items) + "}",
    "sqrt": lambda items: "\\sqrt{" + ",".join(items) + "}",
    **dict.fromkeys(_MATRICES, _matrix),
}
