"""Benchmarks: the real files load whole, samples are seeded, bad rows are named."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from mathreason.config import BUILTIN_BENCHMARKS, BenchmarkConfig, Columns
from mathreason.data.audit import Audit, masked
from mathreason.data.sources import SourceUnavailable
from mathreason.errors import InputError
from mathreason.evaluation.benchmarks import (
    choose_items,
    few_shot_examples,
    hub_splits,
    load_items,
)
from mathreason.results import read_jsonl


@pytest.mark.parametrize(
    ("name", "count", "answer"),
    [
        ("gsm8k", 1319, "18"),
        ("svamp", 1000, "51"),
        ("asdiv", 2096, "9"),
        ("gsm_hard", 1319, "-9867630"),
        ("math", 5000, "2"),
    ],
)
def test_real_benchmarks_load_whole(real_data: Path, name: str, count: int, answer: str) -> None:
    items = load_items(BenchmarkConfig(name=name), real_data)
    assert len(items) == count
    assert items[0].answer == answer
    assert len({item.id for item in items}) == count


def test_math_items_have_type_level_and_the_boxed_answer(real_data: Path) -> None:
    items = load_items(BenchmarkConfig(name="math"), real_data)
    assert Counter(item.attributes["level"] for item in items)["Level 5"] == 1324
    assert len({item.attributes["type"] for item in items}) == 7
    assert items[2].answer == r"\dfrac{9}{7}"
    assert items[2].solution.endswith(r"=\boxed{\dfrac{9}{7}}$.")


def test_math_items_in_training_rows_are_caught(real_data: Path) -> None:
    audit = Audit({"math": load_items(BenchmarkConfig(name="math"), real_data)})
    rows = [row for _, row in read_jsonl(real_data / "numinamath_qwq_cot" / "train.jsonl")]
    assert len({row["prompt"] for row in rows}) == 50
    assert all(audit.match(row["prompt"]) for row in rows)
    clean = [row["question"] for _, row in read_jsonl(real_data / "gsm8k" / "train.jsonl")]
    assert not any(audit.match(question) for question in clean)


def test_math_row_without_a_box_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "math" / "test.jsonl"
    path.parent.mkdir()
    row = {"problem": "1 + 1?", "type": "Algebra", "level": "Level 1", "solution": "It is 2."}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_items(BenchmarkConfig(name="math"), tmp_path)
    assert f"{path}:1: the row cannot be a benchmark item (no_answer)" in str(caught.value)


def test_platinum_is_read_in_gsm8ks_columns(tmp_path: Path) -> None:
    path = tmp_path / "gsm8k_platinum" / "test.jsonl"
    path.parent.mkdir()
    row = {"question": "Q?", "answer": "1 + 1 = <<1+1=2>>2\n#### 2", "cleaning_status": "verified"}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    [item] = load_items(BenchmarkConfig(name="gsm8k_platinum"), tmp_path)
    assert (item.solution, item.answer, item.id) == ("1 + 1 = 2", "2", "gsm8k_platinum/test/0")


def test_every_known_benchmark_can_be_loaded() -> None:
    for name in BUILTIN_BENCHMARKS:
        if name != "generator":
            [(source, split)] = hub_splits([BenchmarkConfig(name=name)])
            with pytest.raises(SourceUnavailable, match=f"'{source}' \\(split {split}\\) cannot be had"):
                load_items(BenchmarkConfig(name=name), Path("/nowhere"))


def test_limit_is_a_seeded_sample_in_the_original_order(real_data: Path) -> None:
    items = load_items(BenchmarkConfig(name="gsm8k"), real_data)
    chosen = choose_items(items, 50, seed=1)
    assert chosen == choose_items(items, 50, seed=1)
    assert chosen != choose_items(items, 50, seed=2)
    positions = [items.index(item) for item in chosen]
    assert positions == sorted(positions)
    assert choose_items(items, None, 1) == choose_items(items, 5000, 1) == items


def test_generated_items_are_not_generated_training_problems() -> None:
    from mathreason.data.generator import generate

    items = load_items(BenchmarkConfig(name="generator", count=200, seed=3), None)
    train = {masked(problem.question) for problem in generate("train", count=2000, seed=3)}
    assert len(items) == 200
    assert not train & {masked(item.question) for item in items}


def test_own_file_with_columns(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"q": "1 + 1?", "a": 2}\n', encoding="utf-8")
    config = BenchmarkConfig(name="mine", path=str(path), columns=Columns(question="q", answer="a"))
    [item] = load_items(config, None)
    assert (item.question, item.answer, item.id) == ("1 + 1?", "2", "mine/0")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "Q"}, ":2: no column 'answer'"),
        ({"question": "Q", "answer": ""}, ":2: the row cannot be a benchmark item (no_answer)"),
        ({"question": "", "answer": 1}, ":2: the row cannot be a benchmark item (empty)"),
    ],
)
def test_bad_item_names_file_and_line(tmp_path: Path, row: dict[str, object], said: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"question": "1 + 1?", "answer": 2}\n' + json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_items(BenchmarkConfig(name="mine", path=str(path)), None)
    assert f"{path}{said}" in str(caught.value)


def test_missing_benchmark_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match=r"svamp/test\.jsonl does not exist"):
        load_items(BenchmarkConfig(name="svamp"), tmp_path)
    with pytest.raises(SourceUnavailable, match=r"the file nowhere\.jsonl does not exist"):
        load_items(BenchmarkConfig(name="mine", path="nowhere.jsonl"), tmp_path)


def test_few_shot_examples_are_seeded_training_problems(real_data: Path) -> None:
    shots = few_shot_examples(BenchmarkConfig(name="gsm8k"), 5, 1, real_data)
    assert shots == few_shot_examples(BenchmarkConfig(name="svamp"), 5, 1, real_data)
    assert all(shot.id.startswith("gsm8k/train/") and shot.solution for shot in shots)
    assert few_shot_examples(BenchmarkConfig(name="gsm8k"), 0, 1, Path("/nowhere")) == []
