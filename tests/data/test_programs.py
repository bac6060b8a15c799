"""gsm-hard programs are worked out exactly and never executed."""

from __future__ import annotations

from fractions import Fraction

import pytest

from mathreason.data.programs import UnsupportedProgram, format_number, work_out


def program(*lines: str) -> str:
    return "def solution():\n" + "".join(f"    {line}\n" for line in lines)


def test_assignments_become_steps_with_numbers_for_names() -> None:
    worked = work_out(
        program(
            '"""A question."""',
            "eggs_per_day = 16",
            "eaten = 3",
            "left = eggs_per_day - eaten",
            "return left * 2",
        )
    )
    assert worked.steps == ["eggs per day = 16", "eaten = 3", "left = 16 - 3 = 13", "13 * 2 = 26"]
    assert worked.value == 26


def test_brackets_keep_the_value_of_the_written_expression() -> None:
    worked = work_out(
        program("a = 2", "b = (a + 3) * (a - 5)", "c = a - (a - 1)", "d = a / (a / 4)", "return b")
    )
    assert worked.steps[1:] == [
        "b = (2 + 3) * (2 - 5) = -15",
        "c = 2 - (2 - 1) = 1",
        "d = 2 / (2 / 4) = 4",
    ]


def test_arithmetic_is_exact() -> None:
    assert work_out(program("return 0.1 + 0.2")).value == Fraction(3, 10)
    assert work_out(program("x = 10", "x += 5", "return x / 3")).value == 5
    assert work_out(program("if 3 > 2:", "    a = 1", "else:", "    a = 2", "return a")).value == 1
    assert work_out(program("return max(3, round(7.5), int(2.9))")).value == 8


@pytest.mark.parametrize(
    "source",
    [
        "import os\n" + program("return 1"),
        program("return __import__('os').system('true')"),
        program("open('/tmp/x', 'w')", "return 1"),
        program("return (1).__class__"),
        program("return 9 ** 9 ** 9"),
        program("return 2 ** 0.5"),
        program("x = 10 ** 60", "x = x ** 64", "return x"),
        program("while True:", "    pass"),
        program("return 1 / 0"),
        program("return unknown"),
        program("a = 1"),
        program("return int(1, 2, 3)"),
        "def solution(x):\n    return x\n",
        "def solution(:\n",
        "x = 1",
        "(" * 5000,
        "def solution():\n    return " + "-" * 15000 + "1\n",
    ],
)
def test_anything_else_is_unsupported(source: str) -> None:
    with pytest.raises(UnsupportedProgram):
        work_out(source)


def test_long_chain_does_not_overflow_the_stack() -> None:
    with pytest.raises(UnsupportedProgram):
        work_out(program("return " + "1+" * 9000 + "1"))


def test_numbers_are_rounded_half_up_at_six_decimals() -> None:
    assert format_number(Fraction(10, 3)) == "3.333333"
    assert format_number(Fraction(1, 2)) == "0.5"
    assert format_number(Fraction(-1, 3)) == "-0.333333"
    assert format_number(Fraction(1, 10**9)) == "0"
    assert format_number(Fraction(5, 10**7)) == "0.000001"
    assert format_number(Fraction(12)) == "12"
