"""The audit separates gsm-hard, which is the GSM8K test set, from the GSM8K training set, which is not."""

from __future__ import annotations

import json
from pathlib import Path

from mathreason.data.audit import Audit, masked, words
from mathreason.data.problem import Problem


def questions(path: Path, column: str) -> list[str]:
    return [json.loads(line)[column] for line in path.read_text(encoding="utf-8").splitlines()]


def item(question: str, identifier: str = "t/0") -> Problem:
    return Problem(question, "", "1", "t", identifier)


LONG = "A farmer has several fields with apples and pears that he sells each day at the market for 5 dollars"


def test_numbers_do_not_hide_a_test_item() -> None:
    audit = Audit({"t": [item("Tom has 3 apples and 1,250.50 pears. How many?")]})
    [match] = audit.match("tom has 7123 apples, and 4 pears; how many?")
    assert (match.benchmark, match.item, match.reason) == ("t", "t/0", "exact after masking numbers")
    assert audit.match("Tom has 3 apples and 4 plums. How many?") == []


def test_thirteen_words_in_a_row_are_found_in_question_and_solution() -> None:
    audit = Audit({"t": [item(LONG)]})
    twelve, thirteen = " ".join(LONG.split()[:12]), " ".join(LONG.split()[:13])
    assert audit.match(f"So {twelve} now") == []
    assert audit.match(f"So {thirteen} now")[0].reason == "13-gram"
    assert audit.match("Another question", f"We know: {thirteen}.")[0].shared == thirteen.lower()


def test_each_benchmark_is_named_once() -> None:
    audit = Audit({"a": [item(LONG, "a/0"), item(LONG, "a/1")], "b": [item(LONG, "b/0")]})
    assert [(m.benchmark, m.item) for m in audit.match(LONG)] == [("a", "a/0"), ("b", "b/0")]


def test_words_ignore_case_punctuation_and_width() -> None:
    assert words("Ｔｏｍ’s  “3” apples!") == ["tom", "s", "3", "apples"]
    assert masked("It costs $1,234.50, not ١٢.") == "it costs # not #"


def test_real_gsm_hard_is_caught_and_real_gsm8k_train_is_not(real_data: Path) -> None:
    test = [
        item(q, f"gsm8k/test/{n}")
        for n, q in enumerate(questions(real_data / "gsm8k/test.jsonl", "question"))
    ]
    audit = Audit({"gsm8k": test})
    hard = questions(real_data / "gsm_hard/train.jsonl", "input")
    train = questions(real_data / "gsm8k/train.jsonl", "question")
    assert sum(bool(audit.match(q)) for q in hard) == 1316
    assert sum(bool(audit.match(q)) for q in train) == 4
