"""What can be said of a job before anything is loaded, beyond its schema. Imports no torch.

check_job(job, path)         # InputError for files that are not there
detectable(job)              # ["gsm8k: 200 items find a difference of 9.1 points or more ..."]
"""

from __future__ import annotations

from pathlib import Path

from mathreason.analysis.planning import DISCORDANT, POWER, detectable_before
from mathreason.config import BenchmarkConfig, JobConfig, SourceConfig
from mathreason.errors import InputError
from mathreason.models import model_source

BENCHMARK_ITEMS = {
    "gsm8k": 1319,
    "gsm8k_platinum": 1209,
    "svamp": 1000,
    "asdiv": 2096,
    "gsm_hard": 1319,
    "math": 5000,
}
"""Items in the split that is read by default."""


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


def detectable(job: JobConfig) -> list[str]:
    """For each benchmark, the smallest true difference that its items would most likely show."""
    said = []
    for benchmark in job.evaluation.benchmarks:
        n = _items(benchmark, job.evaluation.limit)
        smallest = detectable_before(n) if n else None
        found = f"{100 * smallest:.1f} points or more" if smallest else "hardly any size"
        if n:
            said.append(
                f"{benchmark.name}: {n} items show a difference of {found} "
                f"({POWER:.0%} power at 5 %, if {DISCORDANT:.0%} of the items change)"
            )
    return said


def _items(benchmark: BenchmarkConfig, limit: int | None) -> int | None:
    """How many items will be evaluated; None where only reading them would tell."""
    if benchmark.path is not None:
        with Path(benchmark.path).open("rb") as file:
            whole: int | None = sum(1 for line in file if line.strip())
    elif benchmark.count is not None:
        whole = benchmark.count
    else:
        whole = BENCHMARK_ITEMS.get(benchmark.name) if benchmark.split is None else None
    return min(whole, limit) if whole and limit else whole or limit
