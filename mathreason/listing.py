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
    runs = [summarize(run) for run in runs_in(root)]
    return sorted(runs, key=lambda run: (run.started_at, run.id), reverse=True)


def _scores(run: RunDir) -> dict[str, Any]:
    """The benchmarks of a run's comparison; none where there is none."""
    for path in (run.scores, run.comparison):
        try:
            found: dict[str, Any] = read_json(path)["benchmarks"]
        except InputError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
        else:
            return found
    return {}


def runs_in(root: Path) -> list[RunDir]:
    """The run directories of a results folder, in no order, also of runs killed before their first status."""
    with os.scandir(root) as entries:
        found = [
            entry.path
            for entry in entries
            if os.path.isfile(f"{entry.path}/run.json")  # noqa: PTH113  a Path for each costs seconds
            or os.path.isfile(f"{entry.path}/job.yaml")  # noqa: PTH113
        ]
    return [RunDir(Path(path)) for path in found]


def summarize(run: RunDir) -> RunSummary:
    """The state of one run, from run.json and scores.json."""
    try:
        state = read_json(run.run) if run.run.is_file() else {}
        scores = _scores(run)
    except InputError as error:
        return RunSummary(run.id, "unreadable", note=str(error))
    return RunSummary(
        id=run.id,
        status=status_of(state),
        model=str(state.get("model", "")),
        stage=str(state.get("stage") or ""),
        started_at=str(state.get("started_at", "")),
        scores=scores,
        note=str(state.get("error", "")),
    )
