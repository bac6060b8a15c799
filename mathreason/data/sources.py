"""Where rows come from: the local data directory first, then the Hub, then the named alternative.

    opened = open_source(config, data_dir=Path("data"), seed=42)
    for row in opened.rows: ...       # Raw(identifier, place, values), in an order the seed decides

`<data-dir>/<source>/<split>.jsonl` is the local layout. A Hub data set is streamed through a seeded
shuffle buffer, so the five-million-row NuminaMath set is never downloaded whole. What was used and any
fallback are in the result, for data.json.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from mathreason.config import SourceConfig
from mathreason.errors import InputError
from mathreason.results import read_jsonl

SHUFFLE_BUFFER = 10_000  # rows held for the streamed shuffle; above GSM8K's 7 473, so that is shuffled whole
# Rows read of a source that hardly ends (the generator, a streamed set) for each problem asked for, so
# that a job which drops nearly every row ends with a count instead of never.
READ_MARGIN = 20
DEFAULT_DATA_DIR = Path("data")

HUB_SETS: dict[str, tuple[str, str | None]] = {
    "gsm8k": ("openai/gsm8k", "main"),
    "gsm8k_platinum": ("madrylab/gsm8k-platinum", "main"),
    "gsm_hard": ("reasoning-machines/gsm-hard", None),
    "math": ("DigitalLearningGmbH/MATH-lighteval", "default"),
    "numinamath_qwq_cot": ("PrimeIntellect/NuminaMath-QwQ-CoT-5M", None),
}


class SourceUnavailable(InputError):
    """A source is neither local nor on a reachable Hub."""


@dataclass(frozen=True)
class Raw:
    """A row as its source has it: `identifier` names it in results, `place` in error messages."""

    identifier: str
    place: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Opened:
    """A source ready to read: the configuration actually used, its rows and where they come from."""

    config: SourceConfig
    rows: Iterator[Raw]
    origin: str
    fallback: str | None = None


def local_path(data_dir: Path | None, source: str, split: str) -> Path:
    """Where the local data directory would hold a split of a source."""
    return (data_dir or DEFAULT_DATA_DIR) / source / f"{split}.jsonl"


def source_file(config: SourceConfig, data_dir: Path | None) -> Path | None:
    """Where the local data directory would hold a source of the Hub; None for what is not from there."""
    split = config.split or "train"
    if config.source != "hub":
        return local_path(data_dir, config.source, split) if config.source in HUB_SETS else None
    if Path(str(config.path)).is_dir():
        return None
    parts = [str(config.path), *([config.subset] if config.subset else [])]
    return local_path(data_dir, f"hub/{'--'.join(parts).replace('/', '--')}", split)


def open_source(config: SourceConfig, data_dir: Path | None, seed: int) -> Opened:
    """Open `config`, or its alternative (said in `fallback`); SourceUnavailable when neither can be had."""
    try:
        return _open(config, data_dir, seed)
    except SourceUnavailable as error:
        if config.alternative is None:
            raise
        opened = open_source(config.alternative, data_dir, seed)
        chosen = opened.config.path or opened.config.source
        said = f"{error} Using the alternative '{chosen}' ({opened.origin}) instead."
        return Opened(opened.config, opened.rows, opened.origin, said)


def _open(config: SourceConfig, data_dir: Path | None, seed: int) -> Opened:
    split = config.split or "train"
    if config.source == "generator":
        return Opened(config, _generated(config, split), f"generator: split {split}, seed {config.seed}")
    if config.source == "jsonl":
        path = Path(str(config.path))
        if not path.is_file():
            raise SourceUnavailable(f"source 'jsonl': the file {path} does not exist.")
        return Opened(config, _shuffled_local(path, path.stem, seed), f"local: {path}")
    local = source_file(config, data_dir)
    if local is not None and local.is_file():
        name = config.path if config.source == "hub" else config.source
        return Opened(config, _shuffled_local(local, f"{name}/{split}", seed), f"local: {local}")
    hub_name, subset = HUB_SETS.get(config.source, (str(config.path), config.subset))
    try:
        rows = stream_hub(hub_name, subset, split, seed)
    except HubUnavailable as error:
        raise SourceUnavailable(_not_found(config, local, split, hub_name, error)) from error
    if config.count is not None:
        rows = islice(rows, max(config.count * READ_MARGIN, SHUFFLE_BUFFER))
    label = config.source if config.source != "hub" else hub_name
    numbered = (Raw(f"{label}/{split}/{n}", f"Hub {hub_name}, {split}, row {n}", row) for n, row in rows)
    return Opened(config, numbered, f"Hub: {hub_name}" + (f" ({subset})" if subset else "") + f", {split}")


def _not_found(
    config: SourceConfig, local: Path | None, split: str, hub_name: str, error: HubUnavailable
) -> str:
    looked = f"Hub data set {hub_name}: {error}"
    if local is not None:
        looked = f"{local} does not exist; {looked}"
    return (
        f"source '{config.source}' (split {split}) cannot be had: {looked}. "
        "With network, `mathreason data prefetch JOB --data-dir DIR` fetches it; "
        "or point --data-dir (MATHREASON_DATA_DIR) at a folder that holds it."
    )


def _generated(config: SourceConfig, split: str) -> Iterator[Raw]:
    from mathreason.data.generator import generate

    count = (config.count or 0) * READ_MARGIN
    for problem in generate("test" if split == "test" else "train", count=count, seed=config.seed):
        yield Raw(problem.id, f"generator row {problem.id}", problem.to_dict())


def read_local(path: Path, label: str) -> list[Raw]:
    """All rows of a JSONL file in file order; InputError with file and line when one is malformed."""
    rows = [Raw(f"{label}/{number - 1}", f"{path}:{number}", row) for number, row in read_jsonl(path)]
    if not rows:
        raise InputError(f"{path} is empty")
    return rows


def _shuffled_local(path: Path, label: str, seed: int) -> Iterator[Raw]:
    rows = read_local(path, label)
    random.Random(f"{seed}:{label}").shuffle(rows)
    return iter(rows)


class HubUnavailable(Exception):
    """The Hub, or this data set on it, cannot be reached."""


def stream_hub(
    name: str, subset: str | None, split: str, seed: int | None, revision: str | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of a Hub data set (or a local data set folder), streamed, numbered in the order they come.

    With a seed they come through a shuffle buffer. Raises HubUnavailable before the first row when the
    data set cannot be opened.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    import datasets

    datasets.disable_progress_bars()
    try:
        stream = datasets.load_dataset(name, subset, split=split, streaming=True, revision=revision)
        if seed is not None:
            stream = stream.shuffle(seed=seed, buffer_size=SHUFFLE_BUFFER)
        rows: Iterable[dict[str, Any]] = iter(stream)
        first = list(islice(rows, 1))
    except Exception as error:  # datasets raises OSError, ValueError and the HTTP client's own kinds here
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise HubUnavailable(f"{type(error).__name__}: {reason}") from error
    if not first:
        raise HubUnavailable("it has no rows")
    return enumerate(chain(first, rows))
