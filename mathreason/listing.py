"""The runs of a results folder: a scan, no index, each run read from its own small files."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mathreason.errors import InputError
from mathreason.results import RunDir, read_json
from mathreason.session import status_of

OTHER_SHAPE = (AttributeError, KeyError, TypeError, ValueError)
"""What reading JSON raises that is none of ours: one such run must not hide the others."""


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


def _found(path: str) -> dict[str, Any] | None:
    """The JSON object in `path`, None where there is no such file."""
    try:
        return read_json(path)
    except InputError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def _scores(folder: str) -> dict[str, dict[str, Any]]:
    """The benchmarks of a run's comparison, what is shown of them looked at; none where there is none."""
    found = _found(f"{folder}/scores.json") or _found(f"{folder}/comparison.json") or {"benchmarks": {}}
    scores: dict[str, dict[str, Any]] = found["benchmarks"]
    for entry in scores.values():
        for part in map(entry.get, ("base", "tuned", "difference")):
            if part is not None:
                float(part["value"])
    return scores


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
    folder = str(run.path)  # a Path for each file costs a third of the time
    try:
        state = _found(f"{folder}/run.json") or {}
        return RunSummary(
            id=run.id,
            status=status_of(state),
            model=str(state.get("model", "")),
            stage=str(state.get("stage") or ""),
            started_at=str(state.get("started_at", "")),
            scores=_scores(folder),
            note=str(state.get("error", "")),
        )
    except InputError as error:
        return RunSummary(run.id, "unreadable", note=str(error))
    except OTHER_SHAPE as error:
        return RunSummary(run.id, "unreadable", note=f"{folder}: its JSON is not mathreason's: {error!r}")
