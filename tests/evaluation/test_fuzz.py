"""Text made of the pieces that answers are made of: never a crash, always the same grade."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mathreason.errors import InputError
from mathreason.evaluation.equivalence import equivalent
from mathreason.evaluation.grading import MAX_REFERENCE, Grader
from mathreason.evaluation.normalisation import normalise_answer, normalise_text
from mathreason.evaluation.symbolic import Verdict

_PIECES = r"""
    \boxed{ \boxed \fbox{ #### ### The answer is Answer: Therefore, so final answer = == < > <= \le \ge \ne
    \in \cup \pm \mp \infty \pi \frac{ \frac12 \dfrac \sqrt \sqrt{ \sqrt[3]{ \binom{ \text{ \text{and}
    \mathbb{R} \{ \} { } ( ) [ ] \left( \right) \begin{pmatrix} \end{pmatrix} \\ & , ; : . ! % \% $ \$
    ** * _ ^ ^{ ^\circ + - / | ~ \, \; \! and or x y i e n A B C (A) yes no even 0 1 2 3 7 10 16 100 1,000
    0.5 .5 3.14 1e9 1/2 2:30 pm million dozen five twenty-one half cm dollars 10_2 f(x)= x= y=2x+3 x^2 $$ ` "
    ' wait, Question: <<1+1=2>> >> << \
"""
PIECES = [*_PIECES.split(), *"\u2212\u00bd\u0663\uff15\u200b\u202e\u0301\ud800\x00\n\t "]
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), max_size=25).map("".join)
SPACED = st.lists(st.sampled_from(PIECES), max_size=25).map(" ".join)
ANY = st.one_of(TEXTS, SPACED, st.text(max_size=200))


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(symbolic=False) as made:
        yield made


@given(ANY)
@example("\\{" * 40 + "1" + "\\}" * 40)
@example("(1," * 160 + "1" + ")" * 160)
@example("x<" * 200)
def test_an_answer_equals_itself(answer: str) -> None:
    normal = normalise_answer(answer)
    if normal:
        assert equivalent(normal, normal, _never) == "equal"


@given(ANY, ANY)
def test_any_two_answers_have_a_verdict(candidate: str, reference: str) -> None:
    ours, theirs = normalise_answer(candidate), normalise_answer(reference)
    verdicts = {equivalent(ours, theirs, lambda _, __: "different") for _ in range(2)}
    assert len(verdicts) == 1
    assert verdicts <= {"equal", "different"}


@given(ANY, ANY)
@settings(max_examples=200)
def test_any_response_is_graded_or_its_reference_refused(grader: Grader, response: str, answer: str) -> None:
    try:
        graded = grader.grade(response, answer)
    except InputError:
        assert len(answer) > MAX_REFERENCE or not normalise_answer(answer.rpartition("####")[2])
        return
    assert graded == grader.grade(response, answer)
    assert not (graded.correct and graded.extracted is None)
    assert not graded.timed_out


@given(ANY)
def test_normal_text_is_short_and_without_markup(text: str) -> None:
    normal = normalise_text(text)
    assert len(normal) <= 20 * len(text) + 20
    for gone in ("\\left(", "\n", "\u2212", "\u200b"):
        assert gone not in normal


def _never(candidate: str, reference: str) -> Verdict:
    raise AssertionError(f"{candidate} and {reference} need no symbolic comparison")
