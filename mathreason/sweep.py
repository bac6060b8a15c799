"""An ablation: one job file and a `sweep:` that says in what its runs differ.

    sweep:
      grid: {lora.r: [8, 16, 32, 64]}          # or runs: [{name: small, set: {lora.r: 8}}, ...]
      seeds: [1, 2, 3]

    sweep = load_sweep(Path("jobs/ablations/quickstart_rank.yaml"))
    sweep.runs[3]                              # number 4: variant "r=16", seed 1, its whole JobConfig
    sweep.id                                   # "quickstart-rank-sweep-1f0c9a3e"

Each run is exactly the job it would be alone, with the run id it would have alone, so that a run made
before is found again. Reading a sweep loads nothing but the job file.
"""

from __future__ import annotations

import copy
import difflib
import os
from collections import Counter
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from mathreason.config import JobConfig, SweepConfig
from mathreason.errors import InputError
from mathreason.jobfile import JobSource, load_job, read_job, run_id
from mathreason.results import RunDir, content_hash, to_json

MAX_RUNS = 1000
MAX_SHOWN_VALUE = 24
"""Characters of a value in the name a variant gets when it has none."""

PROMPT_KEYS = ("prompt", "model.name", "model.revision")
"""Keys that change what a prompt looks like: where one of them is swept, prompts may differ."""

_NOT_SWEPT = {
    "name": "it is part of every run's id",
    "extends": "a run cannot have another parent",
    "sweep": "a sweep holds no sweep",
    "output": "all runs of a sweep lie in one folder",
    "evaluation": "only runs that were evaluated in the same way can be compared",
}


@dataclass(frozen=True)
class Variant:
    """What is compared: a name, and the values by which it differs from the job."""

    name: str
    changes: dict[str, Any]


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep; `number` counts from 1."""

    number: int
    variant: Variant
    seed: int
    job: JobConfig

    @property
    def id(self) -> str:
        return run_id(self.job)

    @property
    def title(self) -> str:
        return f"{self.variant.name}, seed {self.seed}"

    def folder(self, root: Path) -> RunDir:
        """Its run directory in the results folder `root`."""
        return RunDir(root / self.id)


@dataclass(frozen=True)
class Sweep:
    """All runs of a sweep, variant by variant; `job` is the file itself, sweep and all."""

    job: JobConfig
    runs: list[SweepRun]
    reference: str

    @property
    def id(self) -> str:
        """Name of the sweep's folder: the same runs give the same sweep."""
        return f"{self.job.name}-sweep-{content_hash([run.id for run in self.runs])[:8]}"

    @property
    def prompts_differ(self) -> bool:
        """Whether the sweep asks for prompts that differ between its variants."""
        keys = {key for run in self.runs for key in run.variant.changes}
        return any(_within(key, prefix) for key in keys for prefix in PROMPT_KEYS)


def jobs_of(path: Path, overrides: list[str] | None = None) -> list[JobConfig]:
    """The job in the file `path`, of one with a sweep the jobs of all its runs."""
    job = load_job(path, overrides)
    return [job] if job.sweep is None else [run.job for run in load_sweep(path, overrides).runs]


def load_sweep(path: Path, overrides: list[str] | None = None) -> Sweep:
    """The sweep in `path`, every run of it checked; InputError lists all problems with their lines."""
    source = read_job(path, overrides)
    job = source.job()
    if job.sweep is None:
        raise InputError(f"{path} has no sweep:, so it is a single run; use `mathreason run {path}`")
    _refuse_too_many(source, job.sweep)
    variants = _variants(source, job.sweep)
    _refuse_unsweepable(source, job.sweep, variants, overrides or [])
    reference = _reference(source, job.sweep, [variant.name for variant, _ in variants])
    runs = _expand(source, job.sweep, variants)
    _refuse_twins(path, runs)
    return Sweep(job, runs, reference)


def results_of(sweep: Sweep, results: Path | None) -> Path:
    """The results folder: the option, else MATHREASON_RESULTS, else what the job says."""
    return results or Path(os.environ.get("MATHREASON_RESULTS") or sweep.job.output.results)


# -- variants --------------------------------------------------------------------------------------

Places = dict[str, str]
"""Where each changed value of a variant was said, by key."""

Change = tuple[str, Any, str]
"""A key, its new value, and where that was said."""


def _variants(source: JobSource, sweep: SweepConfig) -> list[tuple[Variant, Places]]:
    if sweep.runs is not None:
        return [_listed(source, sweep, index) for index in range(len(sweep.runs))]
    grid = sweep.grid or {}
    short = short_names(list(grid))
    found = []
    for choice in product(*(range(len(values)) for values in grid.values())):
        chosen = dict(zip(grid, choice, strict=True))
        name = ", ".join(setting_text(short[key], grid[key][at], at) for key, at in chosen.items())
        places = {key: source.place(("sweep", "grid", key, at)) for key, at in chosen.items()}
        found.append((Variant(name or "the job", {key: grid[key][at] for key, at in chosen.items()}), places))
    return found


def _listed(source: JobSource, sweep: SweepConfig, index: int) -> tuple[Variant, Places]:
    listed = (sweep.runs or [])[index]
    short = short_names(list(listed.set))
    shown = [setting_text(short[key], value, index) for key, value in listed.set.items()]
    places = {key: source.place(("sweep", "runs", index, "set", key)) for key in listed.set}
    return Variant(listed.name or ", ".join(shown) or "the job", listed.set), places


def short_names(keys: list[str]) -> dict[str, str]:
    """The last part of each key where that tells them apart, else the whole key."""
    last = Counter(key.rpartition(".")[2] for key in keys)
    return {key: tail if last[tail := key.rpartition(".")[2]] == 1 else key for key in keys}


def setting_text(name: str, value: Any, index: int) -> str:
    """`r=8`; a value too long to be shown goes by its place in the list: `mixture #2`."""
    text = value if isinstance(value, str) else to_json(value, indent=None)
    return f"{name}={text}" if len(text) <= MAX_SHOWN_VALUE else f"{name} #{index + 1}"


def _reference(source: JobSource, sweep: SweepConfig, names: list[str]) -> str:
    where = source.place(("sweep",))
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise InputError(f"{where}: sweep: two variants are called '{twice[0]}'; give them names")
    if sweep.reference is None:
        return names[0]
    if sweep.reference not in names:
        near = difflib.get_close_matches(sweep.reference, names, n=1)
        raise InputError(
            f"{source.place(('sweep', 'reference'))}: sweep.reference: there is no variant "
            f"'{sweep.reference}'" + (f"; did you mean '{near[0]}'?" if near else f" ({'; '.join(names)})")
        )
    return sweep.reference


# -- refusals --------------------------------------------------------------------------------------


def _within(key: str, prefix: str) -> bool:
    return key == prefix or key.startswith(prefix + ".")


def _refuse_too_many(source: JobSource, sweep: SweepConfig) -> None:
    variants = len(sweep.runs or []) or prod(len(values) for values in (sweep.grid or {}).values())
    if (runs := variants * len(sweep.seeds or [None])) > MAX_RUNS:
        raise InputError(f"{source.place(('sweep',))}: sweep: {runs} runs are too many, {MAX_RUNS} at most")


def _refuse_unsweepable(
    source: JobSource, sweep: SweepConfig, variants: list[tuple[Variant, Places]], overrides: list[str]
) -> None:
    said: Places = {key: place for _, places in variants for key, place in places.items()}
    problems = [
        f"{place}: '{key}' cannot be swept: {reason}"
        for key, place in said.items()
        for prefix, reason in _NOT_SWEPT.items()
        if _within(key, prefix)
    ]
    if sweep.seeds is not None:
        seeds: Places = {key: source.place(("sweep", "seeds")) for key in sweep.seed_keys}
        problems += [f"{said[key]}: '{key}' is set by sweep.seeds already" for key in seeds if key in said]
        said |= seeds
    for override in overrides:
        key = override.partition("=")[0].strip()
        problems += [
            f"--set {override}: every run sets '{swept}' itself ({place}); change it there"
            for swept, place in said.items()
            if _within(key, swept) or _within(swept, key)
        ]
    if problems:
        raise InputError("\n".join(dict.fromkeys(problems)))


def _refuse_twins(path: Path, runs: list[SweepRun]) -> None:
    known: dict[str, SweepRun] = {}
    for run in runs:
        if (twin := known.setdefault(run.id, run)) is not run:
            raise InputError(
                f"{path}: runs {twin.number} ({twin.title}) and {run.number} ({run.title}) "
                "are the same run; take one of them out"
            )


# -- runs ------------------------------------------------------------------------------------------


def _expand(source: JobSource, sweep: SweepConfig, variants: list[tuple[Variant, Places]]) -> list[SweepRun]:
    runs: list[SweepRun] = []
    problems: list[str] = []
    for variant, places in variants:
        changes = [(key, value, places[key]) for key, value in variant.changes.items()]
        for seeding in _seedings(source, sweep):
            try:
                job = _changed(source, [*changes, *seeding])
            except InputError as error:
                problems += str(error).splitlines()
            else:
                seed = seeding[0][1] if seeding else job.training.seed
                runs.append(SweepRun(len(runs) + 1, variant, seed, job))
    if problems:
        raise InputError("\n".join(dict.fromkeys(problems)))
    return runs


def _seedings(source: JobSource, sweep: SweepConfig) -> list[list[Change]]:
    """For each seed what it changes; nothing, once, where the sweep has no seeds."""
    return [
        [(key, seed, source.place(("sweep", "seeds", at))) for key in sweep.seed_keys]
        for at, seed in enumerate(sweep.seeds or [])
    ] or [[]]


def _changed(source: JobSource, changes: list[Change]) -> JobConfig:
    one = JobSource(copy.deepcopy(source.values), dict(source.places))
    del one.values["sweep"]
    for key, value, said in changes:
        one.change(key, copy.deepcopy(value), said)
    return one.job()
