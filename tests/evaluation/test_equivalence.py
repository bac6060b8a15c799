"""Equal answers are found equal in whatever form, and others are not, in written cases and MATH's answers."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mathreason.evaluation.equivalence import equivalent
from mathreason.evaluation.grading import Grader
from mathreason.evaluation.normalisation import normalise_answer
from mathreason.evaluation.symbolic import Verdict


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as made:
        yield made


def is_right(grader: Grader, candidate: str, reference: str) -> bool:
    graded = grader.grade(f"So the answer is $\\boxed{{{candidate}}}$.", reference)
    assert not graded.timed_out
    return graded.correct


CASES = [
    json.loads(line)
    for line in Path(__file__).with_name("equal_answers.jsonl").read_text(encoding="utf-8").splitlines()
]


@pytest.mark.parametrize("case", CASES, ids=[f"{case['one']} | {case['other']}" for case in CASES])
def test_two_answers_are_equal_or_not_in_both_directions(grader: Grader, case: dict[str, str | bool]) -> None:
    one, other = str(case["one"]), str(case["other"])
    assert is_right(grader, other, one) is case["equal"]
    if case.get("both", True):
        assert is_right(grader, one, other) is case["equal"]


def test_a_number_as_reference_never_asks() -> None:
    def ask(candidate: str, reference: str) -> Verdict:
        raise AssertionError((candidate, reference))

    for candidate in ("x+1", "\\pi", "\\sqrt{2}+1", "(3,4)", "3,4", "x<3", "\\{5,x\\}", "2^{10}"):
        assert equivalent(normalise_answer(candidate), "5", ask) == "different"


def test_a_timeout_counts_only_where_it_decides() -> None:
    def ask(candidate: str, reference: str) -> Verdict:
        return "timeout" if "x" in candidate and "x" in reference else "different"

    assert equivalent("(x+1,y)", "(1+x,y)", ask) == "timeout"
    assert equivalent("(x+1,y)", "(1+x,z)", ask) == "different"
    assert equivalent("x+1,y", "1+x,y", ask) == "timeout"
    assert equivalent("x+1,y", "1+x,z", ask) == "different"
    assert equivalent("x+1,y", "x+1,y", ask) == "equal"


# -- the answers of MATH's test set ----------------------------------------------------------------


@pytest.fixture(scope="module")
def answers(real_data: Path) -> list[str]:
    """What the last box of each solution of MATH's test set holds; only those that differ."""
    lines = (real_data / "math" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    boxes = [re.split(r"\\boxed\s*\{", json.loads(line)["solution"])[-1] for line in lines]
    return sorted({_until_closed(box) for box in boxes})


def _until_closed(text: str) -> str:
    depth = 1
    for match in re.finditer(r"\\[{}]|[{}]", text):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return text[: match.start()]
    return text.partition("$")[0]


REWRITINGS: dict[str, Callable[[str], str]] = {
    "itself": lambda text: text,
    "dfrac": lambda text: text.replace("\\frac", "\\dfrac"),
    "spaces": lambda text: re.sub(r"(?<=[-+=])|(?<=,)(?![\d\\}\s])|(?=[-+=])", " ", text),
    "thin spaces": lambda text: re.sub(r"(?<![\d{]),|,(?=-)", r",\\,", text),
    "no spaces": lambda text: re.sub(r"(?<![A-Za-z\\]) | (?<!\\ )(?![A-Za-z])", "", text),
    "left and right": lambda text: re.sub(r"(?<!left)\((.*?)(?<!right)\)", r"\\left(\1\\right)", text),
    "brackets of matrices": lambda text: text.replace("pmatrix", "bmatrix"),
    "display style": lambda text: "\\displaystyle " + text,
    "in dollars": lambda text: f"${text}$",
    "a full stop": lambda text: text + ".",
    "unicode minus": lambda text: text.replace("-", "\u2212"),
    "unicode pi": lambda text: re.sub(r"\\pi(?![A-Za-z])", "\u03c0", text),
    "cdot": lambda text: re.sub(r"(?<=\d) ?(?=\\sqrt|\\pi)", r"\\cdot ", text),
    "braces": lambda text: re.sub(r"([_^])(\w)", r"\1{\2}", text),
    "without degrees": lambda text: re.sub(r"\^\{?\\circ\}?", "", text),
    "without text": lambda text: re.sub(r"\\text\{([^{}]*)\}$", r"\1", text),
}


@pytest.mark.parametrize("rewriting", REWRITINGS)
def test_every_answer_of_math_stays_equal_when_written_otherwise(
    grader: Grader, answers: list[str], rewriting: str
) -> None:
    assert len(answers) > 1500
    rewritten = [(text, REWRITINGS[rewriting](text)) for text in answers]
    changed = [pair for pair in rewritten if rewriting == "itself" or pair[0] != pair[1]]
    differing = [pair for pair in changed if not is_right(grader, pair[1], pair[0])]
    assert differing == []
    assert len(changed) > 5


def test_reordered_terms_and_lists_stay_equal(grader: Grader, answers: list[str]) -> None:
    plain = re.compile(r"[^\\,()=<>\[\]{}&]+(?: ?[+-] ?[^\\,()=<>\[\]{}&+-]+)+")
    sums = [text for text in answers if plain.fullmatch(text) and re.search("[a-z]", text)]
    for text in sums:
        terms = re.findall(r"[+-]?[^+-]+", text.replace(" ", ""))
        turned = "".join(term if term[0] in "+-" else "+" + term for term in reversed(terms))
        assert is_right(grader, turned, text), (turned, text)
    lists = [
        text
        for text in answers
        if re.fullmatch(r"[^()\[\]&!]+(?:,\s[^()\[\]&!]+)+", text) and "text" not in text
    ]
    for text in lists:
        assert is_right(grader, ", ".join(reversed(text.split(","))), text), text
        assert is_right(grader, "\\{" + text + "\\}", text), text
    assert len(sums) > 50
    assert len(lists) > 30


def test_the_answers_of_other_problems_are_wrong(grader: Grader, answers: list[str]) -> None:
    """Distinct texts that count as equal are few, and each pair of them is one value in two notations."""
    chance = random.Random(0)
    formulas = [text for text in answers if not re.fullmatch(r"[-\d., ]+", text)]
    pairs = [(text, chance.choice(formulas)) for text in formulas]
    equal = [(one, other) for one, other in pairs if one != other and is_right(grader, other, one)]
    assert len(pairs) > 1000
    assert len(equal) <= 3, equal
