"""Fetching what a job needs from the Hub into a local data directory, for nodes without network.

    for each in needed(job): ...                          # which splits the job reads from files
    for line in prefetch([job], Path("data")): print(line)

Files appear whole or not at all. Beside `train.jsonl`, `train.source.json` says what it was fetched from, how
many rows it has and their SHA-256: with it a file that was damaged since is noticed, and one that holds too
few rows of a large set for another job is fetched again. A file without it is the user's own, and kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from mathreason.config import JobConfig, SourceConfig
from mathreason.data.sources import (
    HUB_SETS,
    HubUnavailable,
    SourceUnavailable,
    local_path,
    source_file,
    stream_hub,
)
from mathreason.errors import InputError
from mathreason.evaluation.benchmarks import few_shot_pool, hub_splits
from mathreason.results import file_sha256, make_directory, read_json, write_json, write_jsonl

# Rows of a streamed set fetched for each problem asked for: some will be dropped.
MARGIN = 2


@dataclass(frozen=True)
class Needed:
    """A split that a job reads: its file, its place on the Hub (None: it has none), and how many problems
    of it, None for all of it."""

    name: str
    split: str
    path: Path
    hub: tuple[str, str | None] | None
    count: int | None = None

    def __str__(self) -> str:
        return f"{self.name}/{self.split}"

    @property
    def rows(self) -> int | None:
        """How many rows are fetched; None for all."""
        return None if self.count is None else self.count * MARGIN

    def lacking(self, margin: int = 1) -> str | None:
        """What a node without network would miss, as a phrase; None where it is all there.

        `margin` is how many rows there have to be for each problem.
        """
        if not self.path.is_file():
            return f"data {self} ({self.path})"
        record = record_of(self.path)
        if record is None or record["whole"]:
            return None
        if self.count is not None and record["rows"] >= self.count * margin:
            return None
        return f"data {self} ({self.path} has {record['rows']} rows of it, {self.count or 'all'} are wanted)"


def needed(job: JobConfig, data_dir: Path | None, with_alternatives: bool = False) -> list[Needed]:
    """The splits that training, evaluation and its worked examples read from files or the Hub.

    Of a source that is not here, but its alternative is, nothing is needed; `with_alternatives` names both.
    """
    found: dict[Path, Needed] = {}
    for config in job.data.mixture:
        for each in _of_source(config, data_dir, with_alternatives):
            before = found.get(each.path)
            found[each.path] = each if before is None else _larger(before, each)
    settings = job.evaluation
    for benchmark in settings.benchmarks:
        places = hub_splits([benchmark])
        if (pool := few_shot_pool(settings.few_shot_format, settings.few_shot, benchmark)) is not None:
            places.append(pool)
        for name, split in places:
            path = local_path(data_dir, name, split)
            found[path] = Needed(name, split, path, HUB_SETS.get(name))
    return list(found.values())


def _of_source(config: SourceConfig, data_dir: Path | None, with_alternatives: bool) -> list[Needed]:
    path = source_file(config, data_dir)
    own: list[Needed] = []
    if path is not None:
        name = str(config.path if config.source == "hub" else config.source)
        hub = HUB_SETS.get(config.source, (str(config.path), config.subset))
        # GSM8K and gsm-hard are small and wanted whole; of others only a part, however large they are.
        count = config.count if config.source in ("numinamath_qwq_cot", "hub") else None
        own = [Needed(name, config.split or "train", path, hub, count)]
    if config.alternative is None:
        return own
    other = _of_source(config.alternative, data_dir, with_alternatives)
    if with_alternatives:
        return own + other
    if any(each.path.is_file() for each in own):
        return own
    return [] if _is_here(config, data_dir) or _is_here(config.alternative, data_dir) else own + other


def _is_here(config: SourceConfig, data_dir: Path | None) -> bool:
    """Whether a source, or an alternative to it, can be read without the Hub."""
    if config.source == "jsonl":
        here = Path(str(config.path)).is_file()
    else:
        path = source_file(config, data_dir)
        here = path is None or path.is_file()
    return here or (config.alternative is not None and _is_here(config.alternative, data_dir))


def _larger(one: Needed, other: Needed) -> Needed:
    counts = (one.count, other.count)
    return replace(one, count=None if None in counts else max(count or 0 for count in counts))


# -- fetching --------------------------------------------------------------------------------------


def prefetch(jobs: Sequence[JobConfig], data_dir: Path, only_sizes: bool = False) -> Iterator[str]:
    """Fetch each split that the jobs need; yields what is fetched and how large it is, then what was done.

    Raises SourceUnavailable naming the data set when the Hub cannot be reached, InputError for a file that
    is no longer what was fetched.
    """
    wanted: dict[Path, Needed] = {}
    for job in jobs:
        for each in needed(job, data_dir, with_alternatives=True):
            wanted[each.path] = _larger(wanted[each.path], each) if each.path in wanted else each
    if not only_sizes:
        make_directory(data_dir)
    for each in wanted.values():
        yield from _fetch(each, jobs[0].data.seed, only_sizes)


def _fetch(wanted: Needed, seed: int, only_sizes: bool) -> Iterator[str]:
    path = wanted.path
    if path.is_file():
        _require_unchanged(path)
        if wanted.lacking(MARGIN) is None:
            yield f"{wanted}: already there ({path}, {path.stat().st_size} bytes)"
            return
    if wanted.hub is None:
        raise SourceUnavailable(
            f"'{wanted.name}' (split {wanted.split}) is not on the Hub; put it at {wanted.path}"
        )
    name, subset = wanted.hub
    try:
        size, revision = _on_hub(name)
        part = "all" if wanted.rows is None else f"{wanted.rows} rows"
        there = next(folder for folder in path.absolute().parents if folder.exists())
        free = shutil.disk_usage(there).free
        yield (
            f"{wanted}: {part} of Hub data set {name} ({size / 1e6:.1f} MB there) to fetch; "
            f"{free / 1e9:.0f} GB free"
        )
        if only_sizes:
            return
        # A part is taken from all over the set, as training would take it.
        partial = wanted.rows is not None
        rows = stream_hub(name, subset, wanted.split, seed if partial else None, revision)
        taken = [row for _, row in (islice(rows, wanted.rows) if partial else rows)]
    except HubUnavailable as error:
        raise SourceUnavailable(
            f"cannot fetch '{wanted.name}' (split {wanted.split}) from Hub data set {name}: {error}"
        ) from error
    source = {"hub": name, "subset": subset, "split": wanted.split, "revision": revision}
    _write(path, taken, {**source, "whole": wanted.rows is None or len(taken) < wanted.rows})
    yield f"{wanted}: fetched from {name} ({path}, {len(taken)} rows, {path.stat().st_size} bytes)"


def _write(path: Path, rows: list[dict[str, Any]], source: dict[str, Any]) -> None:
    """The rows, then what they are: killed between the two, they count as the user's own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _record_path(path).unlink(missing_ok=True)
    write_jsonl(path, rows)
    write_json(_record_path(path), {**source, "rows": len(rows), "sha256": file_sha256(path)})


def _on_hub(name: str) -> tuple[int, str | None]:
    """Bytes of a data set's files and its commit, None of a folder. Raises HubUnavailable."""
    if Path(name).is_dir():
        return sum(file.stat().st_size for file in Path(name).rglob("*") if file.is_file()), None
    from huggingface_hub import HfApi

    try:
        info = HfApi().dataset_info(name, files_metadata=True)
    except Exception as error:  # the Hub's, and the HTTP client's own kinds
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise HubUnavailable(f"{type(error).__name__}: {reason}") from error
    return sum(file.size or 0 for file in info.siblings or []), info.sha


# -- what was fetched ------------------------------------------------------------------------------


def _record_path(path: Path) -> Path:
    return path.with_suffix(".source.json")


def record_of(path: Path) -> dict[str, Any] | None:
    """What a data file was fetched from; None for one that was not fetched."""
    record = _record_path(path)
    return read_json(record) if record.is_file() else None


def _require_unchanged(path: Path) -> None:
    record = record_of(path)
    if record is not None and file_sha256(path) != record["sha256"]:
        raise InputError(
            f"{path} is not what was fetched from {record['hub']} (its SHA-256 differs); "
            f"remove it to have it fetched again, or remove {_record_path(path)} to keep it as it is"
        )
