"""Fetching what a job needs from the Hub into a local data directory, for nodes without network.

    for line in prefetch([job], Path("data")): print(line)

Files appear whole or not at all, and one that is there is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from mathreason.config import JobConfig, SourceConfig
from mathreason.data.sources import HUB_SETS, HubUnavailable, SourceUnavailable, local_path, stream_hub
from mathreason.results import make_directory, write_jsonl

# Rows of a streamed set fetched for each problem asked for: some will be dropped.
MARGIN = 2


def prefetch(jobs: Sequence[JobConfig], benchmarks: list[tuple[str, str]], data_dir: Path) -> Iterator[str]:
    """Fetch each known source of the jobs and each of `benchmarks` (name, split); yields what was done.

    Raises SourceUnavailable naming the data set when the Hub cannot be reached.
    """
    make_directory(data_dir)
    wanted: dict[tuple[str, str], int | None] = {}
    for config in _with_alternatives([config for job in jobs for config in job.data.mixture]):
        if config.source in HUB_SETS:
            key = (str(config.source), config.split or "train")
            wanted[key] = _larger(wanted.get(key, 0), config.count)
    wanted.update(dict.fromkeys(benchmarks))
    for (source, split), count in wanted.items():
        yield _fetch(source, split, count, jobs[0].data.seed, data_dir)


def _with_alternatives(configs: list[SourceConfig]) -> Iterator[SourceConfig]:
    for config in configs:
        yield config
        if config.alternative is not None:
            yield from _with_alternatives([config.alternative])


def _larger(before: int | None, count: int | None) -> int | None:
    return None if before is None or count is None else max(before, count)


def _fetch(source: str, split: str, count: int | None, seed: int, data_dir: Path) -> str:
    path = local_path(data_dir, source, split)
    if path.is_file():
        return f"{source}/{split}: already there ({path}, {path.stat().st_size} bytes)"
    if source not in HUB_SETS:
        raise SourceUnavailable(f"'{source}' (split {split}) is not on the Hub; put it at {path}")
    name, subset = HUB_SETS[source]
    # GSM8K and gsm-hard are small and wanted whole; the streamed NuminaMath set is not.
    partial = count is not None and source == "numinamath_qwq_cot"
    try:
        rows = stream_hub(name, subset, split, seed if partial else None)
        taken = islice(rows, count * MARGIN) if partial and count is not None else rows
        path.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(path, (row for _, row in taken))
    except HubUnavailable as error:
        raise SourceUnavailable(
            f"cannot fetch '{source}' (split {split}) from Hub data set {name}: {error}"
        ) from error
    return f"{source}/{split}: fetched from {name} ({path}, {path.stat().st_size} bytes)"
