"""Finds the calculations a response writes down and says which are wrong, in exact arithmetic.

    first_wrong("Natalia sold 48/2 = <<48/2=24>>24 clips, so 48 + 24 = 73 in all.")
        Calculation(start=49, end=61, text="48 + 24 = 73", stated="73", true="72", right=False, ...)

A calculation is `expression = result`, in plain text, calculator notation (`<<48/2=24>>`) or LaTeX, with
units between the numbers; a chain `a = b = c` holds one at each equals sign. It is called wrong only when
nothing else can be meant. What is passed over: variables, units of one kind that differ (2 hours / 4 =
30 minutes), clock times, remainders, a fraction said to be a number of things (1/4 = 5 students).

Rounding is no slip: a decimal result may be rounded or cut at its last written digit, a result after ≈ or
"about" at its last digit that is not zero, and a product or quotient that is not whole may be given as
the whole number next to it. So is a result within what a rounded factor (0.33, 16.667) leaves open.

A response is hostile text: its first 100 000 characters and first 1 000 calculations are looked at, and
the work grows linearly with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import islice

from mathreason.analysis.agreement import (
    ROUNDING,
    Result,
    agrees,
    is_approximate,
    is_certain,
    results_of,
)
from mathreason.analysis.expressions import MAX_TOKENS, Reading, read
from mathreason.analysis.tokens import (
    EXPRESSION,
    Token,
    is_unit_word,
    number_value,
    operator_of,
    tokenise,
    words,
)

MAX_CHARACTERS = 100_000
MAX_CALCULATIONS = 1000

# Before an expression: it is only a part of what was meant.
_PARTS = words(
    "plus minus less more than times multiplied divided by of per percent half third quarter double twice "
    "triple at @ every sin cos tan log ln mod gcd lcm square cube root to through modulo ratio"
)
# After a result: the number is only a part of the result, or is counted in another way.
_SCALED = words(
    "hundred hundreds thousand thousands million millions billion billions trillion dozen dozens k m b mod "
    "modulo am pm a.m p.m o'clock remainder r percent percentage more less fewer times"
)
_ATTACHED = frozenset(("_", "!", "\\", "…", "^", "\\boxed"))
_JOINING = frozenset(("to", "from", "by", "with"))
# "a total of 5*3": the words before "of" take nothing away from what follows.
_WHOLES = words("total totals sum cost price value amount result answer product difference")


@dataclass(frozen=True, slots=True)
class Calculation:
    """A written `expression = result`; `response[start:end]` is its text.

    `stated` is the result as written, `true` what the expression gives. `operators` are those of the
    expression (+ - * / ^ and %) and `operands` its numbers, both in order.
    """

    start: int
    end: int
    text: str
    stated: str
    true: str
    right: bool
    value: Fraction
    operators: tuple[str, ...]
    operands: tuple[Fraction, ...]


def first_wrong(response: str) -> Calculation | None:
    """The first calculation of `response` whose result is not what the left side gives."""
    return next((found for found in _found(response) if not found.right), None)


def calculations(response: str) -> list[Calculation]:
    """Every calculation that can be read with certainty, in order."""
    return list(_found(response))


# The comparison, the categories and the report ask for the same responses.
@lru_cache(maxsize=4096)
def _found(response: str) -> tuple[Calculation, ...]:
    return tuple(islice(_read(response), MAX_CALCULATIONS))


def _read(response: str) -> Iterator[Calculation]:
    tokens = tokenise(response[:MAX_CHARACTERS])
    for position, token in enumerate(tokens):
        if token.kind in ("equals", "approx") or _says_equal(tokens, position):
            found = _calculation(response, tokens, position)
            if found is not None:
                yield found


def _says_equal(tokens: list[Token], position: int) -> bool:
    """Whether the word "is" stands between an expression and a number: "5 times 3 is 15"."""
    token = tokens[position]
    if token.text != "is" or not 0 < position < len(tokens) - 1:
        return False
    return tokens[position - 1].kind in ("number", "close") and tokens[position + 1].kind == "number"


def _calculation(response: str, tokens: list[Token], equals: int) -> Calculation | None:
    """The calculation around an equals sign; None when there is none, or it is unclear."""
    left, right = _left_side(tokens, equals), _right_side(tokens, equals)
    if not left or not right:
        return None
    calculated = _has_operator(left)
    if not calculated and not (_has_operator(right) and _stands_alone(tokens, equals, left)):
        return None
    given, results = read(left), results_of(right)
    if not given.values or not results:
        return None
    approximate = is_approximate(tokens, equals)
    agreeing = (
        result
        for result in results
        if any(agrees(value, result, left, right, approximate) for value in given.values)
    )
    found = next(agreeing, None)
    certain = given.certain and read(right).values != () and is_certain(tokens, equals, left, right)
    if found is None and not certain:
        return None
    return _made(response, left, right, given, found)


def _made(
    response: str, left: list[Token], right: list[Token], given: Reading, found: Result | None
) -> Calculation:
    shown = found or results_of(right)[-1]
    # A number token takes in the bracket of "\\(5" or "\\[5" in front of it, as if it were a currency sign.
    start = left[0].start + (left[0].kind == "number" and response[left[0].start] in "([")
    numbers = [token for token in left if token.kind == "number"]
    written = [operator_of(token) for token in left if token.kind in ("operator", "word operator")]
    operators = written + ["/" for token in left if token.kind == "frac"]
    operators += ["%"] if any(token.text.endswith("%") for token in numbers) else []
    return Calculation(
        start=start,
        end=shown.end,
        text=response[start : shown.end],
        stated=response[right[0].start : shown.end].strip(),
        true=_written(given.values[0]),
        right=found is not None,
        value=shown.value,
        operators=tuple(operators),
        operands=tuple(value for token in numbers if (value := number_value(token.text)) is not None),
    )


def _written(value: Fraction) -> str:
    """A value for people: whole, as a short decimal, or as a fraction."""
    if value.denominator == 1:
        return str(value.numerator) if abs(value) < 10**30 else f"{float(value):.6g}"
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest == 1 and abs(value) < 10**15 and value.denominator <= 10**6:
        return f"{float(value):.15g}"
    return f"{float(value):.6g}"


# -- the two sides ---------------------------------------------------------------------------------


def _left_side(tokens: list[Token], equals: int) -> list[Token]:
    """The longest expression that ends at the equals sign; empty when it is only a part of one."""
    last = equals - 1 if equals and tokens[equals - 1].kind == "delimiter" else equals
    start, depth = last, 0
    while start > 0 and tokens[start - 1].kind in EXPRESSION and last - start <= MAX_TOKENS:
        depth += {"close": 1, "open": -1}.get(tokens[start - 1].kind, 0)
        if depth < 0:
            break
        start -= 1
    side = tokens[start:last]
    while side and side[0].kind == "unit":
        side, start = side[1:], start + 1
    before = tokens[start - 1] if start else None
    if side and (before is None or before.text == "\n") and _is_bullet(side):
        side, start = side[1:], start + 1
    if side and side[0].text.lower() == "of" and before is not None and before.text.lower() in _WHOLES:
        return side[1:]
    return [] if before is not None and side and _is_part(tokens, start, side) else side


def _is_bullet(side: list[Token]) -> bool:
    return len(side) > 1 and side[0].text in ("-", "*", "–") and side[1].start > side[0].end


def _is_part(tokens: list[Token], start: int, side: list[Token]) -> bool:
    """Whether what stands before the expression belongs to it: a variable, a word, a sign."""
    before, word = tokens[start - 1], tokens[start - 1].text.lower()
    if before.kind == "unit" and side[0].kind != "operator":
        return word in _PARTS
    if before.kind == "command" or before.text in _ATTACHED or word in _PARTS or _is_priced(tokens, start):
        return True
    if word == "the" and start > 1 and tokens[start - 2].text.lower() in _JOINING:
        return True
    return _touches(before, side) or _goes_on(before, side)


def _touches(before: Token, side: list[Token]) -> bool:
    """Whether a word or a number stands without a space before the expression, or f ( 2 ) with one."""
    if side[0].kind == "open" and before.kind == "word" and len(before.text) == 1 and before.text.isalpha():
        return True
    joined = before.kind in ("word", "number", "unit") and before.text not in ":,<>|~*;"
    return joined and before.end == side[0].start


def _goes_on(before: Token, side: list[Token]) -> bool:
    """Whether the expression starts with an operator that joins it to what stands before."""
    if side[0].kind not in ("operator", "word operator"):
        return False
    if before.kind == "break":
        return side[0].text == "+" or before.text == "\f"
    return before.kind not in ("equals", "approx", "delimiter", "open") and before.text not in "<:,;"


def _is_priced(tokens: list[Token], start: int) -> bool:
    """Whether a price stands before: in "3 shirts for $5 + $2" the sum is only a part."""
    if tokens[start - 1].text.lower() not in ("for", "costing", "worth", "with", "x", "from", "in"):
        return False
    return any(token.kind == "number" for token in tokens[max(0, start - 4) : start - 1])


def _right_side(tokens: list[Token], equals: int) -> list[Token]:
    """The expression after the equals sign; empty when its number is only a part of something."""
    begin = equals + 1
    while begin < len(tokens) and (
        tokens[begin].kind in ("delimiter", "approx") or tokens[begin].text.lower() in ROUNDING
    ):
        begin += 1
    end, depth = begin, 0
    while end < len(tokens) and tokens[end].kind in EXPRESSION and end - begin <= MAX_TOKENS:
        depth += {"open": 1, "close": -1}.get(tokens[end].kind, 0)
        if depth < 0:
            break
        end += 1
    side = tokens[begin:end]
    if not side or end == len(tokens):
        return side
    after = tokens[end]
    if len(side) > 1 and side[-1].text == "/" and is_unit_word(after):
        return side[:-1]
    touching = after.start == side[-1].end and (after.text.isalpha() or after.text in ":_!/")
    scaled = after.text.lower() in _SCALED or after.text in "^\\_" or after.kind == "command"
    if following := tokens[end + 1 : end + 2]:
        scaled = scaled or (after.text == "." and following[0].kind == "command")
        scaled = scaled or (after.text == "and" and following[0].text in ("a", "one", "half"))
    return [] if touching or scaled or (side[-1].kind == "operator" and after.kind != "break") else side


def _has_operator(side: list[Token]) -> bool:
    return any(
        token.kind in ("operator", "word operator", "frac", "root", "power") for token in side[1:]
    ) or (side[0].kind in ("frac", "root"))


def _stands_alone(tokens: list[Token], equals: int, left: list[Token]) -> bool:
    """Whether a bare number on the left is an equation's side ("72 = 8 * 9") and no label ("day 2 = ...")."""
    position = equals - len(left) - 1
    while position >= 0 and tokens[position].kind == "delimiter":
        position -= 1
    before = tokens[position].kind if position >= 0 else "break"
    return len(left) == 1 and left[0].kind == "number" and before in ("break", "equals")
