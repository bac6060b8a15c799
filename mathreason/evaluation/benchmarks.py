"""Benchmarks: a name, where its items are, and how a row becomes a `Problem`.

    items = load_items(BenchmarkConfig(name="gsm8k"), data_dir)       # all 1 319, in the file's order
    chosen = choose_items(items, limit=200, seed=0)                    # a seeded sample, same order

Items come from the local data directory (`gsm8k/test.jsonl`) or, where the set is on the Hub in these
columns, from there. gsm-hard has no test split: its 1 319 rows are the benchmark, under `train`. A new
benchmark is one entry in `_KNOWN` (and in `sources.HUB_SETS`, if the Hub has it); a file of your own needs
none.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mathreason.config import BenchmarkConfig, Columns
from mathreason.data.problem import Problem
from mathreason.data.rows import MissingColumn, Rejection, number_text, parse_row, text_column
from mathreason.data.rows import column as row_column
from mathreason.data.sources import (
    HUB_SETS,
    HubUnavailable,
    Raw,
    SourceUnavailable,
    local_path,
    read_local,
    stream_hub,
)
from mathreason.errors import InputError

ToProblem = Callable[[Raw], Problem]


@dataclass(frozen=True)
class Benchmark:
    """A known benchmark: default split, and how its rows are read."""

    split: str
    read: ToProblem


def _input_target(source: str) -> ToProblem:
    """Rows {"input", "target"}, as the PAL repository ships SVAMP, ASDiv and gsm-hard."""

    def read(raw: Raw) -> Problem:
        answer = number_text(row_column(raw.values, "target"))
        if answer is None:
            raise MissingColumn("column 'target' holds no number")
        return Problem(text_column(raw.values, "input"), "", answer, source, raw.identifier)

    return read


def _question_answer(source: str, columns: Columns | None = None) -> ToProblem:
    """Rows read as in training, except that an item may not be rejected."""

    def read(raw: Raw) -> Problem:
        parsed = parse_row(source, raw.values, raw.identifier, columns)
        if isinstance(parsed, Rejection):
            raise InputError(f"the row cannot be a benchmark item ({parsed.reason})")
        return parsed

    return read


# MATH (Hendrycks et al. 2021): the answer is what the solution boxes last.
_MATH = Columns(question="problem", solution="solution", attributes=["type", "level"])  # type: ignore[call-arg]

_KNOWN = {
    "gsm8k": Benchmark("test", _question_answer("gsm8k")),
    "gsm8k_platinum": Benchmark("test", _question_answer("gsm8k_platinum")),
    "svamp": Benchmark("test", _input_target("svamp")),
    "asdiv": Benchmark("test", _input_target("asdiv")),
    "gsm_hard": Benchmark("train", _input_target("gsm_hard")),
    "math": Benchmark("test", _question_answer("math", _MATH)),
}


def load_items(config: BenchmarkConfig, data_dir: Path | None) -> list[Problem]:
    """All items of a benchmark; SourceUnavailable when it cannot be had, InputError naming a bad row."""
    if config.path is not None:
        path = Path(config.path)
        if not path.is_file():
            raise SourceUnavailable(f"benchmark '{config.name}': the file {path} does not exist.")
        columns = config.columns or Columns(question="question", answer="answer")  # type: ignore[call-arg]
        return _read(read_local(path, config.name), _question_answer(config.name, columns))
    if config.name == "generator":
        return _generated(config)
    known = _KNOWN[config.name]
    return _read(_rows(config.name, config.split or known.split, data_dir), known.read)


def choose_items(items: list[Problem], limit: int | None, seed: int) -> list[Problem]:
    """`limit` items chosen by `seed`, in their original order; all when `limit` is None or above."""
    if limit is None or limit >= len(items):
        return items
    return [items[i] for i in sorted(random.Random(seed).sample(range(len(items)), limit))]


def few_shot_examples(config: BenchmarkConfig, count: int, seed: int, data_dir: Path | None) -> list[Problem]:
    """`count` worked problems from a training split: the generator's own for it, GSM8K's for all others."""
    if count == 0:
        return []
    if config.name == "generator" and config.path is None:
        from mathreason.data.generator import generate

        return list(generate("train", count=count, seed=seed))
    pool = _read(_rows("gsm8k", "train", data_dir), _KNOWN["gsm8k"].read)
    return random.Random(seed).sample(pool, count)


def question_answer_texts(source: str, split: str, data_dir: Path | None) -> list[tuple[str, str]]:
    """The columns question and answer of a set in GSM8K's form, in its order, calculator notes and all."""
    texts: list[tuple[str, str]] = []
    for raw in _rows(source, split, data_dir):
        with _place_in_errors(raw):
            texts.append((text_column(raw.values, "question"), text_column(raw.values, "answer")))
    return texts


def hub_splits(configs: list[BenchmarkConfig]) -> list[tuple[str, str]]:
    """(source, split) of each known benchmark whose items are read from files."""
    return [
        (config.name, config.split or _KNOWN[config.name].split)
        for config in configs
        if config.path is None and config.name in _KNOWN
    ]


def few_shot_pool(few_shot_format: str, count: int, benchmark: BenchmarkConfig) -> tuple[str, str] | None:
    """(source, split) of the set that a benchmark's worked examples are drawn from; None where from no file.

    As lm-evaluation-harness 0.4 does it, GSM8K-Platinum's, which has no other split, are of its own.
    """
    if few_shot_format == "lm_eval_gsm8k_cot":
        return None
    if few_shot_format == "lm_eval_gsm8k":
        own = ("gsm8k_platinum", "test")
        return own if own in hub_splits([benchmark]) else ("gsm8k", "train")
    generated = benchmark.name == "generator" and benchmark.path is None
    return None if count == 0 or generated else ("gsm8k", "train")


def _generated(config: BenchmarkConfig) -> list[Problem]:
    from mathreason.data.generator import generate

    split = config.split or "test"
    if split not in ("train", "test"):
        raise InputError(f"benchmark 'generator' has the splits train and test, not '{split}'")
    return list(generate("train" if split == "train" else "test", count=config.count or 0, seed=config.seed))


def _rows(source: str, split: str, data_dir: Path | None) -> list[Raw]:
    path = local_path(data_dir, source, split)
    if path.is_file():
        return read_local(path, f"{source}/{split}")
    looked = f"{path} does not exist"
    if source in HUB_SETS:
        name, subset = HUB_SETS[source]
        try:
            rows = stream_hub(name, subset, split, seed=None)
            return [Raw(f"{source}/{split}/{n}", f"Hub {name}, {split}, row {n}", row) for n, row in rows]
        except HubUnavailable as error:
            looked += f"; Hub data set {name}: {error}"
    raise SourceUnavailable(
        f"benchmark '{source}' (split {split}) cannot be had: {looked}. "
        "With network, `mathreason data prefetch JOB --data-dir DIR` fetches what is on the Hub; "
        "or point --data-dir (MATHREASON_DATA_DIR) at a folder that holds it."
    )


def _read(rows: list[Raw], read: ToProblem) -> list[Problem]:
    items: list[Problem] = []
    for raw in rows:
        with _place_in_errors(raw):
            item = read(raw)
            if not item.question:
                raise InputError("the question is empty")
        items.append(item)
    return items


@contextmanager
def _place_in_errors(raw: Raw) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{raw.place}: {error}") from error
