"""Whether two normalised answers are the same answer.

    equivalent("\\\\{2,1\\\\}", "1,2", ask)         -> "equal"          order has no meaning in a list
    equivalent("(2,1)", "(1,2)", ask)           -> "different"
    equivalent("x<3", "(-\\\\infty,3)", ask)       -> "equal"
    equivalent("2^{10}", "1024", ask)           -> "equal"          arithmetic, by its exact value
    equivalent("11+x", "x+11", ask)             -> ask("11+x", "x+11")

Numbers are compared by the rule that `grading` states. Only two single expressions that nothing here
settles are put to `ask`, and none where the reference is a number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache

from mathreason.evaluation.closed_form import Surd, closed_form
from mathreason.evaluation.numbers import Number, read_number
from mathreason.evaluation.shapes import Shape, shape
from mathreason.evaluation.symbolic import Verdict

Ask = Callable[[str, str], Verdict]
"""Candidate and reference, two single expressions, to a verdict."""

FLOAT_DECIMALS = 10
"""Decimals from which a number counts as the print of a float."""
PI = Decimal("3.14159265358979323846264338327950288419716939937510")
MAX_ITEMS = 40
"""Items of a list that is compared in any order; a longer one is compared as text."""


def equivalent(candidate: str, reference: str, ask: Ask) -> Verdict:
    """Whether `candidate` is the answer `reference`; both as `normalise_answer` gives them.

    "timeout" says that `ask` gave no verdict on a part that would have decided.
    """
    if candidate == reference:
        return "equal"
    if (choice := _LABELLED.fullmatch(candidate)) or (choice := _LABELLED.fullmatch(reference)):
        other = reference if choice.string == candidate else candidate
        return _verdict(True) if choice[1] == other else equivalent(choice[2], other, ask)
    if (theirs := _number(reference)) is not None:
        if (ours := _number(candidate)) is not None:
            return _verdict(same_number(ours, theirs))
        if _RECKONING.fullmatch(candidate):
            return "different"
        ask = _refuse
    verdict = _compare(shape(candidate), shape(reference), ask)
    if verdict == "different" and (_GROUPED.search(candidate) or _GROUPED.search(reference)):
        verdict = _compare(shape(candidate, True), shape(reference, True), ask)
    return verdict


_number = lru_cache(maxsize=8192)(read_number)
_RECKONING = re.compile(r"[-+*/\d.,\s()]*[-+*/][-+*/\d.,\s()]*")  # "35+70" is no answer yet, 2^{10} is one
_LABELLED = re.compile(r"\(([A-J])\)([^()\[\]].*)", re.DOTALL)  # (C)2, an option with its value
_GROUPED = re.compile(r"\d,\d{3}(?!\d)")


def _refuse(candidate: str, reference: str) -> Verdict:  # noqa: ARG001  # has the form of an Ask
    return "refused"


def _verdict(is_equal: bool) -> Verdict:
    return "equal" if is_equal else "different"


# -- numbers ---------------------------------------------------------------------------------------


def same_number(ours: Number, theirs: Number) -> bool:
    """Whether `ours` is `theirs`, exactly but for the two readings that `grading` leaves open."""
    if ours.clock and theirs.clock and ours.text[-1] == theirs.text[-1] == "m":
        return ours.text == theirs.text
    if ours.percent == theirs.percent:
        return _equal(ours, 1, theirs.value)
    if ours.percent:
        return _equal(ours, 1, theirs.value) or _equal(ours, 100, theirs.value)
    return _equal(ours, 1, theirs.value) or _equal(ours, 1, theirs.value * 100)


def _equal(number: Number, scale: int, value: Fraction) -> bool:
    """Whether `number` times `scale` is `value`, or is `value` rounded where no decimal can write it."""
    ours = number.value * scale
    if ours == value:
        return True
    if number.decimals is None or number.decimals < 2 or _terminates(value):
        return False
    places = number.decimals + (2 if number.percent and scale == 1 else 0)
    return ours == round(value, places)


def _terminates(value: Fraction) -> bool:
    """Whether a finite decimal writes `value`: its denominator has no prime factors but 2 and 5."""
    rest = value.denominator
    while (common := math.gcd(rest, 10)) > 1:
        rest //= common
    return rest == 1


# -- lists, tuples, unions, matrices ---------------------------------------------------------------


def _compare(candidate: Shape, reference: Shape, ask: Ask) -> Verdict:
    if candidate.kind == reference.kind == "single":
        return _same_expression(candidate.items[0], reference.items[0], ask)
    candidate, reference = _alike(candidate, reference)
    if candidate.kind != reference.kind or len(candidate.items) != len(reference.items):
        return "different"
    if candidate.kind in {"list", "union"}:
        other_variable = candidate.mark and reference.mark and candidate.mark != reference.mark
        return "different" if other_variable else _in_any_order(candidate, reference, ask)
    return _in_order(candidate, reference, ask) if candidate.mark == reference.mark else "different"


def _alike(candidate: Shape, reference: Shape) -> tuple[Shape, Shape]:
    """An interval beside a union is a union of one.

    A row, a column, and `x=1,y=2` beside a tuple are tuples; `[2,3]` for "2,3" is a program's list.
    """
    kinds = {candidate.kind, reference.kind}
    if candidate.kind == "tuple" and candidate.mark == "[]" and reference.kind == "list":
        return Shape("list", candidate.items), reference
    if kinds == {"union", "tuple"}:
        return _as_union(candidate), _as_union(reference)
    if kinds in ({"matrix", "tuple"}, {"list", "tuple"}):
        return _as_tuple(candidate), _as_tuple(reference)
    return candidate, reference


def _as_union(one: Shape) -> Shape:
    if one.kind == "union":
        return one
    return Shape("union", (one.mark[0] + ",".join(one.items) + one.mark[1],))


def _as_tuple(one: Shape) -> Shape:
    if one.kind == "list":
        named = [item.partition("=") for item in one.items]
        names = [name for name, _, value in named if len(name) == 1 and value]
        if len(names) == len(named) > 1 and names == sorted(set(names)):
            return Shape("tuple", tuple(value for _, _, value in named), "()")
    is_vector = one.kind == "matrix" and one.mark in {"1 rows", f"{len(one.items)} rows"}
    return Shape("tuple", one.items, "()") if is_vector else one


def _in_any_order(candidate: Shape, reference: Shape, ask: Ask) -> Verdict:
    """Each item of the reference is paired with the first item of the candidate that is equal to it."""
    if len(reference.items) > MAX_ITEMS:
        return _verdict(sorted(candidate.items) == sorted(reference.items))
    left, timed_out = list(candidate.items), False
    for theirs in reference.items:
        if theirs in left:
            left.remove(theirs)
            continue
        verdicts = _until("equal", (_compare(shape(ours), shape(theirs), ask) for ours in left))
        if verdicts[-1] == "equal":
            del left[len(verdicts) - 1]
        elif "timeout" in verdicts:
            timed_out = True
        else:
            return "different"
    return "timeout" if timed_out else "equal"


def _in_order(candidate: Shape, reference: Shape, ask: Ask) -> Verdict:
    pairs = zip(candidate.items, reference.items, strict=True)
    verdicts = _until("different", (_compare(shape(ours), shape(theirs), ask) for ours, theirs in pairs))
    if "different" in verdicts:
        return "different"
    return "timeout" if "timeout" in verdicts else "equal"


def _until(wanted: Verdict, verdicts: Iterable[Verdict]) -> list[Verdict]:
    """The verdicts up to the first that is `wanted`: nothing is asked in vain."""
    found: list[Verdict] = []
    for verdict in verdicts:
        found.append(verdict)
        if verdict == wanted:
            break
    return found


# -- single expressions ----------------------------------------------------------------------------

_NAME = re.compile(  # y, f(x), f^{-1}(x), AB, \angle ABC, x_1
    r"\\?[A-Za-z]{1,12}(?:[ _][A-Za-z0-9]{1,6})?'?(?:(?:\^\{-1\})?\([A-Za-z](?:,[A-Za-z])*\))?"
)
_FUNCTION = re.compile(r"y|[A-Za-z]'?\([a-z]\)")
_EQUALS = re.compile(r"(?<![<>!:=])=(?!=)")
_BASED = re.compile(r"(?P<digits>[0-9A-F.]+)_\{?\d+\}?")
_RATIO = re.compile(r"(?P<over>\d{1,30}):(?P<under>[1-9]\d{0,29})")
_CHOICE = re.compile(r"\(?(?P<letter>[A-Z])\)?[).:](?=.)")
_WORDS = re.compile(
    r"(?=.*[A-Za-z]{3})[A-Za-z][A-Za-z '-]+|no|\d{1,2}:\d\d\s?[ap]m|[A-Za-z]{3,9}\d{1,2}", re.IGNORECASE
)
_SAID = re.compile(
    r"(?:the|it|this|that|[a-z]) (?:[a-z]+ ){0,3}is (?:an? )?([a-z]+)(?: function)?", re.IGNORECASE
)


def _same_expression(candidate: str, reference: str, ask: Ask) -> Verdict:
    ours, theirs = _without_names(candidate, reference)
    if _comparable(ours) == _comparable(theirs):
        return "equal"
    number, other = _number(ours), _number(theirs)
    if number and other:
        return _verdict(same_number(number, other))
    values = (_exact(ours, number), _exact(theirs, other))
    if number and not other and _is_its_float(number, theirs):
        return "equal"
    if None not in values:
        return _verdict(values[0] == values[1])
    if re.fullmatch("[A-Z]", theirs) and (choice := _CHOICE.match(ours)):
        return _verdict(choice["letter"] == theirs)
    if number and (ratio := _RATIO.fullmatch(theirs)):
        return _verdict(number.value == Fraction(int(ratio["over"]), int(ratio["under"])))
    if other and other.decimals is None and (ratio := _RATIO.fullmatch(ours)):
        return _verdict(other.value == Fraction(int(ratio["over"]), int(ratio["under"])))
    if based := _BASED.fullmatch(theirs):
        return _verdict(ours == based["digits"])
    if based := _BASED.fullmatch(ours):
        return _verdict(theirs == based["digits"])
    if _WORDS.fullmatch(ours) or _WORDS.fullmatch(theirs):
        said = _SAID.fullmatch(ours)
        return _verdict(said is not None and _comparable(said[1]) == _comparable(theirs))
    verdict = ask(ours, theirs)
    return "different" if verdict == "refused" else verdict


def _is_its_float(number: Number, expression: str) -> bool:
    """Whether `number` is what a program prints for a multiple of a root or of pi.

    An irrational number has no decimal, and 1.414 is no \\sqrt{2}; but ten digits are those of a float,
    which nobody writes by hand. The last of them may be off by two.
    """
    if number.decimals is None or number.decimals < FLOAT_DECIMALS:
        return False
    value = closed_form(expression)
    factor = PI if value is None and "\\pi" in expression else None
    if factor:
        once, twice = (closed_form(expression.replace("\\pi", f"({count})")) for count in (1, 2))
        is_multiple = once and twice and Surd(2 * once.factor, once.radicand) == twice
        value = once if is_multiple else None
    if value is None:
        return False
    with localcontext(prec=60):
        exact = Decimal(value.factor.numerator) / value.factor.denominator
        exact *= Decimal(value.radicand).sqrt() * (factor or 1)
        ours = Decimal(number.value.numerator) / number.value.denominator
        return abs(ours - exact) <= 2 * Decimal(10) ** -number.decimals


def _exact(text: str, number: Number | None) -> Surd | None:
    return Surd(number.value, 1) if number else closed_form(text)


def _comparable(text: str) -> str:
    """`text` in lower case and without spaces if it is words; case tells variables apart."""
    if not _WORDS.fullmatch(text):
        return text.replace(" ", "")
    return re.sub(r"[ '-]", "", text.lower())


def _without_names(candidate: str, reference: str) -> tuple[str, str]:
    """Both without the `y=` or `f(x)=` in front, unless they are equations of two different names."""
    ours, theirs = _EQUALS.split(candidate), _EQUALS.split(reference)
    if len(theirs) == 1:
        if len(ours) == 2 and _NAME.fullmatch(ours[1]) and not _NAME.fullmatch(ours[0]):
            return ours[0], reference
        is_named = len(ours) > 2 or _NAME.fullmatch(ours[0])
        return (ours[-1] if is_named else candidate), reference
    if len(theirs) == 2 and _NAME.fullmatch(theirs[0]):
        if len(ours) == 1:
            return candidate, theirs[1]
        alike = ours[0] == theirs[0] or bool(_FUNCTION.fullmatch(ours[0]) and _FUNCTION.fullmatch(theirs[0]))
        if alike and len(ours) == 2:
            return ours[1], theirs[1]
    return candidate, reference
