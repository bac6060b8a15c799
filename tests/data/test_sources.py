"""Local folder first, then the Hub, then the alternative, each said; a missing source gets a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mathreason.config import DataConfig, JobConfig, PromptConfig, SourceConfig
from mathreason.data import sources
from mathreason.data.mixture import build_mixture
from mathreason.data.prefetch import needed, prefetch
from mathreason.data.prompts import Prompter
from mathreason.data.sources import SourceUnavailable, open_source
from mathreason.errors import InputError
from mathreason.jobfile import load_job
from mathreason.progress import Reporter


def gsm8k_rows(count: int) -> list[dict[str, str]]:
    return [
        {"question": f"What is {n} + 1?", "answer": f"{n} + 1 = {n + 1}\n#### {n + 1}"} for n in range(count)
    ]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def local(tmp_path: Path) -> Path:
    write_rows(tmp_path / "data" / "gsm8k" / "train.jsonl", gsm8k_rows(50))
    return tmp_path / "data"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set folder in the place of the Hub, read by the same call."""
    folder = tmp_path / "hub"
    write_rows(folder / "train.jsonl", gsm8k_rows(40))
    monkeypatch.setitem(sources.HUB_SETS, "gsm8k", (str(folder), None))
    return folder


def test_local_rows_come_in_an_order_the_seed_decides(local: Path) -> None:
    def order(seed: int) -> list[str]:
        return [raw.identifier for raw in open_source(SourceConfig(source="gsm8k"), local, seed).rows]

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert sorted(order(1)) == sorted(f"gsm8k/train/{n}" for n in range(50))


def test_hub_is_streamed_when_there_is_no_local_file(hub: Path, tmp_path: Path) -> None:
    opened = open_source(SourceConfig(source="gsm8k"), tmp_path / "none", 1)
    rows = list(opened.rows)
    assert opened.origin.startswith(f"Hub: {hub}")
    assert opened.fallback is None
    assert sorted(raw.values["question"] for raw in rows) == sorted(r["question"] for r in gsm8k_rows(40))
    assert [raw.values["question"] for raw in rows] != [r["question"] for r in gsm8k_rows(40)]  # shuffled


@pytest.mark.usefixtures("hub")
def test_local_folder_comes_before_the_hub(local: Path) -> None:
    assert open_source(SourceConfig(source="gsm8k"), local, 1).origin.startswith("local:")


def test_any_data_set_of_the_hub_is_read_with_a_column_mapping(tmp_path: Path, tokenizer: Any) -> None:
    rows = [
        {"problem": f"What is {n} plus one?", "work": f"{n} + 1 = {n + 1}", "result": n + 1} for n in range(9)
    ]
    write_rows(tmp_path / "set" / "train.jsonl", rows)
    columns = {"question": "problem", "solution": "work", "answer": "result"}
    config = DataConfig.model_validate(
        {"mixture": [{"source": "hub", "path": str(tmp_path / "set"), "columns": columns, "count": 1}]}
    )
    prompter = Prompter(PromptConfig(), tokenizer)
    mixture = build_mixture(config, {}, prompter, tmp_path, Reporter(quiet=True))
    [problem] = mixture.train
    assert problem.solution.endswith(f"= {problem.answer}")
    assert mixture.sources[0].origin.startswith("Hub: ")


def test_missing_source_says_what_where_and_how(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable) as caught:
        open_source(SourceConfig(source="gsm8k"), tmp_path, 1)
    message = str(caught.value)
    for part in ("'gsm8k'", str(tmp_path / "gsm8k" / "train.jsonl"), "openai/gsm8k", "data prefetch"):
        assert part in message


def test_alternative_is_used_and_said(tmp_path: Path) -> None:
    own = write_rows(tmp_path / "own.jsonl", gsm8k_rows(5))
    config = SourceConfig(source="gsm8k", alternative=SourceConfig(source="jsonl", path=str(own)))
    opened = open_source(config, tmp_path, 1)
    assert opened.config.source == "jsonl"
    assert opened.fallback is not None
    assert "'gsm8k'" in opened.fallback
    assert str(own) in opened.fallback


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ('{"question": "Q", "answer": "A"}\n{"question": \n', ":2: not valid JSON"),
        ('["a"]\n', ":1: expected a JSON object, found list"),
        ("\n\n{x\n", ":3: not valid JSON"),
    ],
)
def test_malformed_local_file_names_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "gsm8k" / "train.jsonl"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        open_source(SourceConfig(source="gsm8k"), tmp_path, 1)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_generator_is_a_source(tmp_path: Path) -> None:
    rows = open_source(SourceConfig(source="generator", count=1, seed=3), tmp_path, 1).rows
    assert next(rows).identifier.startswith("generator/train-3/")


JOB = """\
name: a
model: {name: embedded}
data: {mixture: [{source: gsm8k, count: 10}]}
"""


def test_prefetch_fills_the_data_folder_once(hub: Path, tmp_path: Path) -> None:
    job_path = tmp_path / "a.yaml"
    job_path.write_text(JOB, encoding="utf-8")
    job = load_job(job_path)
    write_rows(hub / "test.jsonl", gsm8k_rows(7))
    folder = tmp_path / "filled"
    sizes = list(prefetch([job], folder, only_sizes=True))
    assert [line.split(" (")[0] for line in sizes] == [
        f"gsm8k/{split}: all of Hub data set {hub}" for split in ("train", "test")
    ]
    assert not folder.exists()
    first = list(prefetch([job], folder))
    assert [line.split(" ")[1] for line in first] == ["all", "fetched", "all", "fetched"]
    assert len((folder / "gsm8k" / "train.jsonl").read_text().splitlines()) == 40
    assert len((folder / "gsm8k" / "test.jsonl").read_text().splitlines()) == 7
    assert all("already there" in line for line in prefetch([job], folder))
    assert needed(job, folder)[0].lacking() is None
    assert len(list(open_source(SourceConfig(source="gsm8k"), folder, 1).rows)) == 40


def test_prefetch_without_network_names_the_data_set_and_leaves_nothing(tmp_path: Path) -> None:
    job_path = tmp_path / "a.yaml"
    job_path.write_text(JOB, encoding="utf-8")
    with pytest.raises(SourceUnavailable, match="openai/gsm8k"):
        list(prefetch([load_job(job_path)], tmp_path / "filled"))
    assert [path for path in (tmp_path / "filled").rglob("*") if path.is_file()] == []
    svamp = ["data.mixture=[{source: generator, count: 1}]", "evaluation.benchmarks=[{name: svamp}]"]
    with pytest.raises(SourceUnavailable, match="svamp"):
        list(prefetch([load_job(job_path, svamp)], tmp_path))


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """A data set folder of 100 rows, in the place of one on the Hub."""
    return write_rows(tmp_path / "set" / "train.jsonl", gsm8k_rows(100)).parent


def numina_job(count: int, tmp_path: Path) -> JobConfig:
    path = tmp_path / "a.yaml"
    path.write_text(JOB.replace("gsm8k, count: 10", f"numinamath_qwq_cot, count: {count}"), encoding="utf-8")
    return load_job(path, ["evaluation.benchmarks=[{name: generator, count: 3}]"])


def test_part_of_a_large_set_is_fetched_again_for_a_job_that_wants_more(
    numbers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sources.HUB_SETS, "numinamath_qwq_cot", (str(numbers), None))
    folder, few, more = tmp_path / "data", numina_job(10, tmp_path), numina_job(30, tmp_path)
    path = folder / "numinamath_qwq_cot" / "train.jsonl"
    list(prefetch([few], folder))
    assert len(path.read_text().splitlines()) == 20
    [split] = needed(more, folder)
    assert str(split.lacking()).endswith(f"({path} has 20 rows of it, 30 are wanted)")
    list(prefetch([more], folder))
    assert len(path.read_text().splitlines()) == 60
    assert "already there" in next(iter(prefetch([few], folder)))
    list(prefetch([numina_job(80, tmp_path)], folder))  # 160 rows, more than there are
    assert len(path.read_text().splitlines()) == 100
    assert "already there" in next(iter(prefetch([numina_job(900, tmp_path)], folder)))


def test_what_changed_since_it_was_fetched_is_refused_and_a_file_of_ones_own_is_kept(
    numbers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sources.HUB_SETS, "numinamath_qwq_cot", (str(numbers), None))
    folder, job = tmp_path / "data", numina_job(10, tmp_path)
    path = folder / "numinamath_qwq_cot" / "train.jsonl"
    list(prefetch([job], folder))
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(InputError, match=r"train.jsonl is not what was fetched from .*SHA-256 differs"):
        list(prefetch([job], folder))
    path.with_suffix(".source.json").unlink()
    own = path.read_text()
    assert "already there" in next(iter(prefetch([numina_job(30, tmp_path)], folder)))
    assert path.read_text() == own


def test_worked_examples_and_any_set_of_the_hub_are_needed_too(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(JOB, encoding="utf-8")
    columns = "columns: {question: problem, answer: result}"
    values = [
        f"data.mixture=[{{source: hub, path: some/set, subset: small, {columns}}}]",
        "evaluation={benchmarks: [{name: svamp}], few_shot: 4}",
    ]
    found = {str(each): each.path for each in needed(load_job(path, values), tmp_path)}
    assert found == {
        "some/set/train": tmp_path / "hub" / "some--set--small" / "train.jsonl",
        "svamp/test": tmp_path / "svamp" / "test.jsonl",
        "gsm8k/train": tmp_path / "gsm8k" / "train.jsonl",
    }


@pytest.mark.parametrize(
    ("source", "alternative", "lacking"),
    [
        ("source: jsonl, path: none.jsonl", "source: gsm8k", ["gsm8k/train"]),
        ("source: gsm8k", "source: jsonl, path: none.jsonl", ["gsm8k/train"]),
        ("source: gsm8k", "source: generator, count: 5", []),
        ("source: gsm8k", "source: gsm_hard", ["gsm8k/train", "gsm_hard/train"]),
    ],
)
def test_source_is_lacking_where_neither_it_nor_its_alternative_is_here(
    source: str, alternative: str, lacking: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(JOB, encoding="utf-8")
    mixture = f"data.mixture=[{{{source}, alternative: {{{alternative}}}}}]"
    job = load_job(path, [mixture, "evaluation.benchmarks=[{name: generator, count: 3}]"])
    found = [str(each) for each in needed(job, tmp_path) if each.lacking()]
    assert found == lacking


def test_set_of_the_hub_is_read_from_the_data_folder_once_it_was_fetched(tmp_path: Path) -> None:
    write_rows(tmp_path / "hub" / "some--set" / "train.jsonl", gsm8k_rows(5))
    config = SourceConfig.model_validate({"source": "hub", "path": "some/set", "columns": {"question": "q"}})
    opened = open_source(config, tmp_path, 1)
    assert opened.origin == f"local: {tmp_path / 'hub' / 'some--set' / 'train.jsonl'}"
    assert len(list(opened.rows)) == 5
