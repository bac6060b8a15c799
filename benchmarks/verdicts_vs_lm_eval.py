"""Verdicts on thousands of responses beside those of lm-evaluation-harness 0.4.13.

    python benchmarks/verdicts_vs_lm_eval.py --data-dir data [--cache DIR] [--write-fixture FILE]

Responses are GSM8K's own solutions and the built-in generator's, each mutated in many ways, and random
strings of what the filters look for. lm_eval's own tasks gsm8k and gsm8k_cot judge every one (its filters,
its metric); so does `mathreason.evaluation.harness`. Exit code 1 when any verdict differs.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from lm_eval_venv import DEFAULT_CACHE, ask, lm_eval_python

from mathreason.data.generator import generate
from mathreason.evaluation.benchmarks import question_answer_texts
from mathreason.evaluation.harness import gsm8k_cot_verdicts, gsm8k_verdicts
from mathreason.results import write_jsonl

SEED = 20_261_122
JUDGES = {"gsm8k": gsm8k_verdicts, "gsm8k_cot": gsm8k_cot_verdicts}
SOLUTIONS = 150
RANDOM_RESPONSES = 2_000
FIXTURE_ROWS = 152

# What the filters, the metric and real responses are made of; random responses are strings of these.
PIECES = (
    *("#### ", "####", "#### #### ", "# ", "[invalid]", "Question: ", "A: ", "</s>"),
    *("The answer is ", "the answer is ", "The answer is", "five", "X", "e6", "%"),
    *("0", "5", "12", "1,234", "5.0", "18.00", "٣", "５", "½", "-", "--", "−", "- "),
    *("$", ".", "..", ",", ",,", ":", " ", "  ", "\n", "\n\n", "\t", "\r\n"),
    *("\u2028", "\u00a0", "\0", "\ud800", "[", "]"),
    *("\\boxed{5}", "\\frac{1}{2}", "$5$", "**5**", "<<2+3=5>>"),
)
ANSWERS = (
    *("5", "12", "1234", "1,234", "$5", "-5", "0", "５", "18.00", "X", "", " ", "5 ", "\n5"),
    *("5.", "5.\n", "5..", "5\0", "5\0.", "5,\0,", ".", "$", "[invalid]", "[INVALID]", "[5]", "[1, 2]"),
    *("#### 5", "#### 5\n", "####5", "#####5", "##### 5", "###,# 5", "#### ", "5 #### "),
    *("a\n#### 5", "a #### b #### 12", "x\n#### $1,234."),
)

# How responses end; {text} is a solution without its last line, {n} its answer.
ENDINGS = (
    *("{text}\n#### {n}", "{text}\n####{n}", "{text}\n####  {n}", "{text}\n#### ${n}"),
    *("{text}\n#### {n}.", "{text}\n#### {n}..", "{text}\n#### {n}.00", "{text}\n#### {n}.5"),
    *("{text}\n#### {n}%", "{text}\n#### 0{n}", "{text}\n#### −{n}", "{text}\n#### -{n}"),
    *("{text}\n#### - {n}", "{text}\n#### about {n}", "{text}\n#### {n} dozen eggs in 4 weeks"),
    *("{text}", "#### 1\n{text}\n#### {n}", "{text}\n#### {n}\n#### 7"),
    "{text}\n#### {n}\n\nQuestion: And 2 more?\nAnswer: 2\n#### 3",
    *("{text}\nThe answer is {n}.", "{text} The answer is {n}", "{text} The answer is {n}\n"),
    *("{text} the answer is {n}.", "{text} The answer is: {n}."),
    "{text} The answer is ${n}. The answer is 7.",
    *("{text} So \\boxed{{n}}.", "{text} $\\boxed{\\frac{{n}}{1}}$", "{text} Therefore **{n}**"),
    *("{text} That is {n} in all.", "{text} That is ${n}."),
    *("{n}", "  {n}\n", "{n}-{n}", "{n} - {n}", "{n}, {n}.", "[invalid] {n}"),
    *("", " \n\t ", "[invalid]"),
)
OTHER_DIGITS = (
    str.maketrans("0123456789", "０１２３４５６７８９"),
    str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩"),
)


def mutations(text: str, number: str, chance: random.Random) -> Iterator[str]:
    """Responses made of one solution."""
    for ending in ENDINGS:
        yield ending.replace("{text}", text).replace("{n}", number)
    whole = f"{text}\n#### {number}"
    yield f"{text}\n#### {','.join(number)}"
    for digits in OTHER_DIGITS:
        yield f"{text}\n#### {number.translate(digits)}"
    yield whole[: chance.randrange(len(whole))]
    yield whole[chance.randrange(len(whole)) :]
    yield "\n".join(chance.sample(lines := whole.splitlines(), len(lines)))
    yield whole.replace(chance.choice(text), chance.choice(PIECES))
    yield whole.replace(" ", "")
    yield whole.upper()


def rows(solutions: list[tuple[str, bool]], chance: random.Random) -> Iterator[dict[str, Any]]:
    """Responses to judge, each by both tasks; `made` rows hold no text of a data set."""
    for whole, made in solutions:
        text, number = (part.strip() for part in whole.rsplit("####", 1))
        answers = (whole, number.replace(",", ""))
        for response in mutations(text, number, chance):
            for task in JUDGES:
                yield {"task": task, "response": response, "answer": chance.choice(answers), "made": made}
    for _ in range(RANDOM_RESPONSES):
        response = "".join(chance.choices(PIECES, k=chance.randrange(13)))
        for task in JUDGES:
            yield {"task": task, "response": response, "answer": chance.choice(ANSWERS), "made": True}


def solutions_of(data_dir: Path, chance: random.Random) -> list[tuple[str, bool]]:
    """Whole solutions, calculator notes and `####` line included: real ones, then generated ones."""
    real = chance.sample(question_answer_texts("gsm8k", "test", data_dir), SOLUTIONS)
    generated = generate("train", count=SOLUTIONS // 3, seed=SEED)
    return [
        *((answer, False) for _, answer in real),
        *((f"{problem.solution}\n#### {problem.answer}", True) for problem in generated),
    ]


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), required=True, help="Folder with gsm8k/.")
@click.option("--cache", type=click.Path(path_type=Path), default=DEFAULT_CACHE, help="Folder for lm_eval.")
@click.option("--write-fixture", type=click.Path(path_type=Path), help="Write rows for the tests here.")
def main(data_dir: Path, cache: Path, write_fixture: Path | None) -> None:
    """Compare our verdicts in the harness's manner with its own."""
    chance = random.Random(SEED)
    asked = list(rows(solutions_of(data_dir, chance), chance))
    theirs = ask(lm_eval_python(cache), "verdicts", data_dir.resolve(), asked)
    started = time.perf_counter()
    ours = [JUDGES[row["task"]](row["response"], row["answer"]) for row in asked]
    seconds = time.perf_counter() - started
    judged = [{**row, **verdict} for row, verdict in zip(asked, theirs, strict=True)]
    different = [
        (row, our)
        for row, our in zip(judged, ours, strict=True)
        if (our.strict, our.flexible) != (row["strict"], row["flexible"])
    ]
    for row, our in different:
        click.echo(f"differs: {our} {row!a}")
    counts = Counter((row["task"], row["strict"], row["flexible"]) for row in judged)
    for (task, strict, flexible), count in sorted(counts.items()):
        click.echo(f"{task}: lm_eval says strict {strict!s:5} flexible {flexible!s:5} {count:6} times")
    click.echo(f"{len(judged)} responses judged by both, {len(different)} verdicts differ")
    click.echo(f"ours: {seconds / len(judged) * 1e6:.1f} microseconds a response")
    if write_fixture:
        write_jsonl(write_fixture, fixture(judged, chance))
    sys.exit(1 if different else 0)


def fixture(judged: list[dict[str, Any]], chance: random.Random) -> list[dict[str, Any]]:
    """FIXTURE_ROWS made rows with lm_eval's verdicts, as many of each task and pair of verdicts."""
    kinds: dict[tuple[str, bool, bool], list[dict[str, Any]]] = {}
    for row in judged:
        # A lone surrogate is no UTF-8 text and a model never writes one; the comparison above has them.
        if row["made"] and "\ud800" not in row["response"]:
            kept = {name: value for name, value in row.items() if name != "made"}
            kinds.setdefault((row["task"], row["strict"], row["flexible"]), []).append(kept)
    each = FIXTURE_ROWS // len(kinds)
    return [row for _, found in sorted(kinds.items()) for row in chance.sample(found, min(each, len(found)))]


if __name__ == "__main__":
    main()
