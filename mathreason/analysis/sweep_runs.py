"""Which runs are a variant's: of a sweep, or of run directories that were named one by one.

trained_of_sweep(sweep, Path("results"))         # as the sweep says
trained_of_runs([RunDir(...), RunDir(...)])      # runs that differ in nothing but a seed are one variant

write_sweep(sweep, Path("results"))              # results/<sweep id>/{job.yaml,sweep.json,sweep.html}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mathreason.analysis.sweep_comparison import Trained, compare_variants
from mathreason.analysis.sweep_page import render_sweep
from mathreason.errors import InputError
from mathreason.jobfile import dump_job, load_job
from mathreason.results import RunDir, content_hash, make_directory, write_json, write_text
from mathreason.sweep import Sweep, setting_text, short_names

SEED_KEYS = ("training.seed", "data.seed")


def write_sweep(sweep: Sweep, root: Path) -> dict[str, Any]:
    """Compare what is finished of a sweep and keep it; returns sweep.json's content, without provenance.

    Raises InputError when nothing is finished or when runs cannot be compared.
    """
    comparison = compare_variants(
        sweep.id, trained_of_sweep(sweep, root), sweep.reference, same_prompts=not sweep.prompts_differ
    )
    folder = root / sweep.id
    make_directory(folder)
    write_text(folder / "job.yaml", dump_job(sweep.job))
    write_json(folder / "sweep.json", comparison)
    write_text(folder / "sweep.html", render_sweep(comparison))
    return comparison


def trained_of_sweep(sweep: Sweep, root: Path) -> list[Trained]:
    return [Trained(run.variant.name, run.variant.changes, run.seed, run.folder(root)) for run in sweep.runs]


def trained_of_runs(runs: Sequence[RunDir]) -> list[Trained]:
    """The runs as variants, named by what tells them apart; InputError for two of one variant and seed."""
    jobs = [load_job(run.job) for run in runs]
    values = [
        _flat(job.model_dump(mode="json", exclude={"name", "output", "evaluation", "sweep"})) for job in jobs
    ]
    keys = [
        key
        for key in dict.fromkeys(key for each in values for key in each)
        if key not in SEED_KEYS and len({content_hash(each.get(key)) for each in values}) > 1
    ]
    short = short_names(keys)
    known: dict[tuple[str, int], RunDir] = {}
    found = []
    for index, (run, job, each) in enumerate(zip(runs, jobs, values, strict=True)):
        changes = {key: each.get(key) for key in keys}
        name = ", ".join(setting_text(short[key], value, index) for key, value in changes.items()) or job.name
        if (twin := known.setdefault((name, job.training.seed), run)) is not run:
            raise InputError(
                f"{twin.path} and {run.path} are of one variant ({name}) and one seed; leave one of them out"
            )
        found.append(Trained(name, changes, job.training.seed, run))
    return found


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values by dotted key; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
        flat.update(inner)
    return flat
