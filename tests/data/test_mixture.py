"""The mixture takes what was asked for, and counts every row that it did not take."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mathreason.config import DataConfig, PromptConfig
from mathreason.data.mixture import Mixture, balance_by_steps, build_mixture, split_validation
from mathreason.data.problem import Problem
from mathreason.data.prompts import Prompter
from mathreason.errors import InputError
from mathreason.progress import Reporter


def row(question: str, answer: int = 1, steps: int = 1) -> dict[str, str]:
    return {"question": question, "answer": "one step = 1\n" * steps + f"#### {answer}"}


def mix(
    tmp_path: Path, tokenizer: Any, rows: list[Any], items: list[Problem] | None = None, **options: Any
) -> Mixture:
    path = tmp_path / "gsm8k" / "train.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    count = options.pop("count", None)
    config = DataConfig.model_validate({"mixture": [{"source": "gsm8k", "count": count}], **options})
    benchmarks = {"t": items or []}
    return build_mixture(
        config, benchmarks, Prompter(PromptConfig(), tokenizer), tmp_path, Reporter(quiet=True)
    )


NAMES = ["Ann", "Bob", "Cid", "Dot", "Eve", "Fay", "Gus", "Hal", "Ivy", "Jon"]


def clean_rows(count: int) -> list[dict[str, str]]:
    return [
        row(f"{NAMES[n % 10]} and {NAMES[n // 10 % 10]} have {n} pens. How many?", n) for n in range(count)
    ]


def test_count_is_taken_and_only_what_was_needed_is_read(tmp_path: Path, tokenizer: Any) -> None:
    mixture = mix(tmp_path, tokenizer, clean_rows(60), count=20, validation_fraction=0.2)
    report = mixture.sources[0]
    assert (report.taken, report.read, report.asked) == (20, 20, 20)
    assert (len(mixture.train), len(mixture.validation)) == (16, 4)


def test_every_row_that_is_not_taken_has_its_reason(tmp_path: Path, tokenizer: Any) -> None:
    rows = [
        *clean_rows(5),
        row("Ann and Ann have 0 pens. How many?", 0),  # the first row again
        {"question": "No marker?", "answer": "5"},
        row("A test item with 7 cups?"),
        row("word " * 400),
    ]
    mixture = mix(
        tmp_path, tokenizer, rows, [Problem("A test item with 99 cups?", "", "1", "t", "t/0")], max_length=300
    )
    assert mixture.sources[0].dropped == Counter(duplicate=1, no_answer=1, contaminated=1, too_long=1)
    assert mixture.sources[0].taken == 5
    audit = mixture.audit.to_dict()
    assert (audit["checked"], audit["matched"], audit["exact"], audit["kept_contaminated"]) == (9, 1, 1, 0)
    assert audit["examples"][0]["item"] == "t/0"


def test_allow_keeps_contaminated_rows_and_counts_them(tmp_path: Path, tokenizer: Any) -> None:
    items = [Problem("Ann and Ann have 99 pens. How many?", "", "1", "t", "t/0")]
    mixture = mix(tmp_path, tokenizer, clean_rows(5), items, on_contamination="allow")
    assert mixture.audit.to_dict()["kept_by_benchmark"] == {"t": 1}


def test_fail_names_the_row_and_the_item(tmp_path: Path, tokenizer: Any) -> None:
    items = [Problem("Ann and Ann have 99 pens. How many?", "", "1", "t", "t/0")]
    with pytest.raises(InputError, match=r"train.jsonl:\d: this row is item t/0 of benchmark t"):
        mix(tmp_path, tokenizer, clean_rows(3), items, on_contamination="fail")


def test_row_without_its_column_names_file_and_line(tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(InputError, match=r"train.jsonl:1: no column 'answer'"):
        mix(tmp_path, tokenizer, [{"question": "Q"}])


def test_max_length_below_every_sample_says_what_would_do(tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(
        InputError, match=r"data.max_length is 8, and every sample is longer: the shortest has \d+"
    ):
        mix(tmp_path, tokenizer, clean_rows(3), max_length=8)


def test_same_question_with_other_solutions_is_kept_unless_deduplicated_by_question(
    tmp_path: Path, tokenizer: Any
) -> None:
    rows = [row("One question?", steps=1), row("One question?", steps=2), row("Another one?")]
    assert mix(tmp_path, tokenizer, rows).sources[0].taken == 3
    assert mix(tmp_path, tokenizer, rows, dedup="question").sources[0].taken == 2


def test_validation_never_shares_a_question_with_training() -> None:
    named = [Problem(f"{NAMES[n // 8]} asks?", str(n), "1", "s", f"s/{n}") for n in range(80)]
    train, validation = split_validation(named, 0.2, seed=1)
    assert (len(train), len(validation)) == (64, 16)
    assert not {p.question for p in train} & {p.question for p in validation}
    assert split_validation(named, 0.2, seed=1) == split_validation(named, 0.2, seed=1)
    assert split_validation(named, 0.0, seed=1) == (named, [])


def test_balance_takes_evenly_over_the_number_of_steps() -> None:
    sizes = {1: 100, 2: 30, 3: 4}
    pool = [
        Problem("q", "\n".join(["x"] * steps), "1", "s", f"{steps}/{n}")
        for steps, size in sizes.items()
        for n in range(size)
    ]
    chosen = balance_by_steps(pool, 34)
    assert Counter(problem.steps for problem in chosen) == {1: 15, 2: 15, 3: 4}
    assert len(balance_by_steps(pool, None)) == 134


def test_real_mixture_drops_the_test_set_and_keeps_the_rest(tokenizer: Any, real_data: Path) -> None:
    from mathreason.config import BenchmarkConfig
    from mathreason.evaluation.benchmarks import load_items

    items = {"gsm8k": load_items(BenchmarkConfig(name="gsm8k"), real_data)}
    config = DataConfig.model_validate(
        {"mixture": [{"source": "gsm8k"}, {"source": "gsm_hard", "count": 1000}], "max_length": 4096}
    )
    mixture = build_mixture(
        config, items, Prompter(PromptConfig(), tokenizer), real_data, Reporter(quiet=True)
    )
    gsm8k, hard = mixture.sources
    assert hard.dropped["contaminated"] == 1316
    assert hard.read == 1319
    assert gsm8k.dropped["contaminated"] == 4
    assert gsm8k.taken == 7473 - sum(gsm8k.dropped.values())
