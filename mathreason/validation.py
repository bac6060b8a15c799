"""What can be said against a job before anything is loaded, beyond its schema. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from mathreason.config import JobConfig, SourceConfig
from mathreason.errors import InputError
from mathreason.models import model_source


def check_job(job: JobConfig, path: Path) -> None:
    """Raise InputError, one line for each problem, when the job names files that are not there."""
    problems: list[str] = []
    try:
        model_source(job.model)
    except InputError as error:
        problems.append(f"{path}: {error}")
    for index, source in enumerate(job.data.mixture):
        if (missing := _missing(source)) is not None:
            problems.append(f"{path}: data.mixture.{index}.path: {missing} does not exist")
    for index, benchmark in enumerate(job.evaluation.benchmarks):
        if benchmark.path is not None and not Path(benchmark.path).is_file():
            problems.append(f"{path}: evaluation.benchmarks.{index}.path: {benchmark.path} does not exist")
    if problems:
        raise InputError("\n".join(problems))


def _missing(source: SourceConfig) -> str | None:
    """The path of a JSONL source that is not there and has no alternative that is."""
    if source.source != "jsonl" or Path(str(source.path)).is_file():
        return None
    if source.alternative is not None and _missing(source.alternative) is None:
        return None
    return source.path
