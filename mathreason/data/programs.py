"""gsm-hard's Python programs as written steps, without ever running Python.

    def solution():
        eggs_per_day = 16
        eggs_eaten = 3
        eggs_left = eggs_per_day - eggs_eaten
        return eggs_left

becomes

    eggs per day = 16
    eggs eaten = 3
    eggs left = 16 - 3 = 13

A small interpreter walks the syntax tree with exact fractions. It knows assignments, arithmetic,
comparisons in `if`, and a handful of functions; a program with anything else (loops, imports,
attributes) raises `UnsupportedProgram`, since it has no one-line-per-step writing.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

MAX_SOURCE_CHARACTERS = 20_000
MAX_STATEMENTS = 200
MAX_BITS = 4096  # of a numerator or denominator
MAX_EXPONENT = 64
SHOWN_DECIMALS = 6


class UnsupportedProgram(Exception):
    """The program uses something that has no step-by-step writing here."""


@dataclass(frozen=True)
class Worked:
    """The program's value and its written steps."""

    value: Fraction
    steps: list[str]


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1 or abs(exponent) > MAX_EXPONENT:
        raise UnsupportedProgram("an exponent that is large or no integer")
    return base ** int(exponent)


_BINARY: dict[type[ast.operator], tuple[str, Callable[[Fraction, Fraction], Fraction]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.FloorDiv: ("//", lambda a, b: Fraction(a // b)),
    ast.Mod: ("%", operator.mod),
    ast.Pow: ("**", _power),
}
_COMPARE: dict[type[ast.cmpop], Callable[[Fraction, Fraction], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS: dict[str, Callable[..., Fraction]] = {
    "int": lambda x: Fraction(int(x)),
    "float": lambda x: x,
    "abs": abs,
    "round": lambda x, digits=Fraction(0): Fraction(round(x, int(digits))),
    "max": max,
    "min": min,
}
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2, "**": 3}
_ATOM = 9


def work_out(source: str) -> Worked:
    """Value and steps of the `solution()` in `source`; UnsupportedProgram when it cannot be written out."""
    if len(source) > MAX_SOURCE_CHARACTERS:
        raise UnsupportedProgram("the program is too long")
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnsupportedProgram(f"not Python: {error}") from error
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    if len(tree.body) != 1 or len(functions) != 1 or functions[0].args.args:
        raise UnsupportedProgram("expected one function without arguments")
    interpreter = _Interpreter()
    try:
        value = interpreter.block(functions[0].body)
    except (ZeroDivisionError, OverflowError, TypeError, ValueError, RecursionError) as error:
        raise UnsupportedProgram(f"cannot be computed: {error}") from error
    if value is None:
        raise UnsupportedProgram("no return")
    return Worked(value, interpreter.steps)


def format_number(value: Fraction) -> str:
    """`value` as people write it: an integer, or at most six decimals, rounded half up."""
    if value.denominator == 1:
        return str(value.numerator)
    scaled = abs(value) * 10**SHOWN_DECIMALS
    rounded = (scaled.numerator * 2 + scaled.denominator) // (2 * scaled.denominator)
    whole, decimals = divmod(rounded, 10**SHOWN_DECIMALS)
    text = f"{whole}.{decimals:0{SHOWN_DECIMALS}d}".rstrip("0").rstrip(".")
    return f"-{text}" if value < 0 and rounded else text


class _Interpreter:
    def __init__(self) -> None:
        self.values: dict[str, Fraction] = {}
        self.steps: list[str] = []
        self.statements = 0

    def block(self, body: list[ast.stmt]) -> Fraction | None:
        """Run statements; the returned value, or None when the block ends without a return."""
        for statement in body:
            self.statements += 1
            if self.statements > MAX_STATEMENTS:
                raise UnsupportedProgram("too many statements")
            if isinstance(statement, ast.Return) and statement.value is not None:
                return self._return(statement.value)
            if isinstance(statement, ast.If):
                taken = statement.body if self._test(statement.test) else statement.orelse
                if (value := self.block(taken)) is not None:
                    return value
            else:
                self._statement(statement)
        return None

    def _statement(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            return  # the docstring
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            self._assign(statement.targets[0], statement.value)
        elif isinstance(statement, ast.AugAssign):
            target = statement.target
            if not isinstance(target, ast.Name):
                raise UnsupportedProgram("assignment to something other than a name")
            read = ast.Name(id=target.id, ctx=ast.Load())
            self._assign(target, ast.BinOp(left=read, op=statement.op, right=statement.value))
        else:
            raise UnsupportedProgram(f"statement {type(statement).__name__}")

    def _assign(self, target: ast.expr, expression: ast.expr) -> None:
        if not isinstance(target, ast.Name):
            raise UnsupportedProgram("assignment to something other than a name")
        value, text, precedence = self._evaluate(expression)
        self.values[target.id] = value
        if isinstance(expression, ast.Name) and target.id == "result":
            return  # `result = x` says nothing new
        name = target.id.replace("_", " ").strip()
        shown = format_number(value)
        self.steps.append(f"{name} = {shown}" if precedence == _ATOM else f"{name} = {text} = {shown}")

    def _return(self, expression: ast.expr) -> Fraction:
        value, text, precedence = self._evaluate(expression)
        if precedence != _ATOM:
            self.steps.append(f"{text} = {format_number(value)}")
        return value

    def _test(self, test: ast.expr) -> bool:
        if not isinstance(test, ast.Compare) or len(test.ops) != 1:
            raise UnsupportedProgram("a condition that is no single comparison")
        compare = _COMPARE.get(type(test.ops[0]))
        if compare is None:
            raise UnsupportedProgram("an unknown comparison")
        return compare(self._evaluate(test.left)[0], self._evaluate(test.comparators[0])[0])

    def _evaluate(self, node: ast.expr) -> tuple[Fraction, str, int]:
        """Value, text with names replaced by numbers, and precedence of an expression."""
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            value = _bounded(Fraction(str(node.value)))
            return value, format_number(value), _ATOM
        if isinstance(node, ast.Name):
            if node.id not in self.values:
                raise UnsupportedProgram(f"unknown name {node.id}")
            value = self.values[node.id]
            return value, format_number(value), _ATOM
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value, text, precedence = self._evaluate(node.operand)
            return -value, format_number(-value) if precedence == _ATOM else f"-({text})", _ATOM
        if isinstance(node, ast.BinOp):
            return self._binary(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self._call(node.func.id, node.args)
        raise UnsupportedProgram(f"expression {type(node).__name__}")

    def _binary(self, node: ast.BinOp) -> tuple[Fraction, str, int]:
        known = _BINARY.get(type(node.op))
        if known is None:
            raise UnsupportedProgram(f"operator {type(node.op).__name__}")
        symbol, apply = known
        precedence = _PRECEDENCE[symbol]
        left, left_text, left_precedence = self._evaluate(node.left)
        right, right_text, right_precedence = self._evaluate(node.right)
        if left_precedence < precedence:
            left_text = f"({left_text})"
        if right_precedence <= precedence or right < 0:
            right_text = f"({right_text})"
        return _bounded(apply(left, right)), f"{left_text} {symbol} {right_text}", precedence

    def _call(self, name: str, arguments: list[ast.expr]) -> tuple[Fraction, str, int]:
        function = _FUNCTIONS.get(name)
        if function is None:
            raise UnsupportedProgram(f"function {name}")
        worked = [self._evaluate(argument) for argument in arguments]
        value = _bounded(Fraction(function(*(value for value, _, _ in worked))))
        text = f"{name}({', '.join(text for _, text, _ in worked)})"
        return value, text, _ATOM - 1


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise UnsupportedProgram("a number too large")
    return value
