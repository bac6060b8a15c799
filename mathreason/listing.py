"""The runs of a results folder: a scan, no index, each run read from its own small files."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mathreason.errors import InputError
from mathreason.results import RunDir, read_json
from mathreason.session import status_of


@dataclass(frozen=True)
class RunSummary:
    """One line of the list; `scores` maps a benchmark to its entry in comparison.json."""

    id: str
    status: str
    model: str = ""
    stage: str = ""
    started_at: str = ""
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        accuracies = {
            name: {side: entry[side]["value"] for side in ("base", "tuned") if entry.get(side)}
            for name, entry in self.scores.items()
        }
        plain = {key: getattr(self, key) for key in ("id", "status", "model", "stage", "started_at", "note")}
        return {**plain, "accuracy": accuracies}


def list_runs(root: Path) -> list[RunSummary]:
    """All runs under `root`, newest start first; a run that cannot be read is listed as such."""
    if not root.is_dir():
        raise InputError(f"there is no results folder {root}; give one with --results DIR")
    with os.scandir(root) as entries:
        folders = [Path(entry.path) for entry in entries if entry.is_dir()]
    runs = [summarize(RunDir(folder)) for folder in folders if (folder / "run.json").is_file()]
    return sorted(runs, key=lambda run: (run.started_at, run.id), reverse=True)


def summarize(run: RunDir) -> RunSummary:
    """The state of one run, from run.json and comparison.json."""
    try:
        state = read_json(run.run)
        comparison = read_json(run.comparison) if run.comparison.is_file() else {}
    except InputError as error:
        return RunSummary(run.id, "unreadable", note=str(error))
    return RunSummary(
        id=run.id,
        status=status_of(state),
        model=str(state.get("model", "")),
        stage=str(state.get("stage") or ""),
        started_at=str(state.get("started_at", "")),
        scores=comparison.get("benchmarks", {}),
        note=str(state.get("error", "")),
    )
