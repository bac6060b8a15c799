"""What an answer consists of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathreason.evaluation.normalisation import normalise_text
from mathreason.evaluation.shapes import Shape, shape


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x+1", Shape("single", ("x+1",))),
        ("3,-3", Shape("list", ("3", "-3"))),
        ("\\pm 3", Shape("list", ("3", "-3"))),
        ("\\frac{1\\pm\\sqrt{5}}{2}", Shape("list", ("\\frac{1+\\sqrt{5}}{2}", "\\frac{1-\\sqrt{5}}{2}"))),
        ("\\{3, -3\\}", Shape("list", ("3", "-3"))),
        ("\\{5\\}", Shape("single", ("5",))),
        ("12 \\text{ and } 13", Shape("list", ("12", "13"))),
        ("1, 2, and 3", Shape("list", ("1", "2", "3"))),
        ("(3, 4)", Shape("tuple", ("3", "4"), "()")),
        ("\\langle 3, 4 \\rangle", Shape("tuple", ("3", "4"), "()")),
        ("[1, 2)", Shape("tuple", ("1", "2"), "[)")),
        ("x \\in [1, 2)", Shape("tuple", ("1", "2"), "[)")),
        ("(x, y) = (3, 4)", Shape("tuple", ("3", "4"), "()")),
        ("(1,2),(3,4)", Shape("list", ("(1,2)", "(3,4)"))),
        ("(x+1)(x-2)", Shape("single", ("(x+1)(x-2)",))),
        ("[1,2) \\cup (3,4)", Shape("union", ("[1,2)", "(3,4)"))),
        ("\\mathbb{R}", Shape("tuple", ("-\\infty", "\\infty"), "()")),
        ("no solution", Shape("list", ())),
        ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", Shape("matrix", ("1", "2", "3", "4"), "2 rows")),
        ("1{,}234\\pi", Shape("single", ("1234\\pi",))),
    ],
)
def test_shape_of_an_answer(text: str, found: Shape) -> None:
    assert shape(normalise_text(text)) == found


@pytest.mark.parametrize(
    ("text", "intervals", "variable"),
    [
        ("x<3", ("(-\\infty,3)",), "x"),
        ("3>x", ("(-\\infty,3)",), "x"),
        ("t\\ge5", ("[5,\\infty)",), "t"),
        ("-2\\le x<7", ("[-2,7)",), "x"),
        ("7>x\\ge-2", ("[-2,7)",), "x"),
        ("x<-1or x>3", ("(-\\infty,-1)", "(3,\\infty)"), "x"),
        ("x\\ne3", ("(-\\infty,3)", "(3,\\infty)"), "x"),
        ("x\\ne3,-1", None, None),
        ("x\\ne3,x\\ne-1", ("(-\\infty,-1)", "(-1,3)", "(3,\\infty)"), "x"),
    ],
)
def test_inequalities_of_one_variable_are_intervals(
    text: str, intervals: tuple[str, ...] | None, variable: str | None
) -> None:
    found = shape(text)
    if intervals is None:
        assert found.kind == "list"
    else:
        assert found == Shape("union", intervals, variable or "")


@pytest.mark.parametrize("text", ["x<y", "1<x>2", "x<1<2", "|x|<3", "x+y<3", "a<b<c<d"])
def test_other_inequalities_stay_as_they_are(text: str) -> None:
    assert shape(text).kind == "single"


def test_a_comma_in_a_number_can_be_read_both_ways() -> None:
    assert shape("1,234\\pi").items == ("1234\\pi",)
    assert shape("1,234\\pi", split_thousands=True).items == ("1", "234\\pi")


@given(st.text(alphabet="()[]{}\\,;&<>= xy1+-cupmle", max_size=80))
def test_any_text_has_a_shape_with_items_from_it(text: str) -> None:
    found = shape(text)
    assert found == shape(text)
    assert found.kind != "single" or len(found.items) == 1


def test_deep_nesting_is_one_expression() -> None:
    assert shape("(1," * 300 + "1" + ")" * 300).kind == "single"
