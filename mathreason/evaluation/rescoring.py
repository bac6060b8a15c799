"""Grading the saved responses of a run again, without its model.

    for result in rescore_run(run):
        print(result.benchmark, result.variant, result.changed, result.before, "->", result.after)

Every finished evaluation gets the grading fields of its samples and the counts of its summary anew; all
else in both files stays. The samples are replaced first: after a kill in between, the summary disagrees
with them, `compare` refuses the pair, and the next call mends it. A second call changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mathreason import __version__
from mathreason.errors import InputError
from mathreason.evaluation.grading import Grader
from mathreason.evaluation.harness import harness_task
from mathreason.evaluation.summary import summarise
from mathreason.jobfile import load_job
from mathreason.results import (
    RunDir,
    now,
    process_space,
    provenance_of,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
)
from mathreason.session import job_provenance, status_of


@dataclass(frozen=True)
class Rescored:
    """One evaluation: how many of its `n` verdicts changed, and how many were and are correct."""

    benchmark: str
    variant: str
    n: int
    changed: int
    before: int
    after: int


def rescore_run(run: RunDir) -> list[Rescored]:
    """Grade every finished evaluation of `run` again; then its comparison and report, where they are stale.

    Raises InputError when another process works on the run, when it has no finished evaluation, or when a
    file of it is malformed.
    """
    _refuse_running(run)
    job = load_job(run.job)
    evaluations = list(_evaluations(run))
    if not evaluations:
        raise InputError(f"{run.path} holds no finished evaluation; evaluate the run first")
    found = [_rescore(run, benchmark, variant) for benchmark, variant in evaluations]
    with provenance_of(job_provenance(job)):
        _renew_comparison(run, [run.evaluation(*names) for names in evaluations])
    return found


def _refuse_running(run: RunDir) -> None:
    state = read_json(run.run)
    here = (state.get("process") or {}).get("host") == process_space()
    if here and status_of(state) == "running":
        raise InputError(
            f"process {state['process']['pid']} is working on {run.path}; wait for it or stop it"
        )


def _evaluations(run: RunDir) -> Iterator[tuple[str, str]]:
    """Benchmark and variant of each summary; those kept aside under their key are evaluations too."""
    for benchmark in run.benchmarks():
        for path in sorted(run.evaluation(benchmark, "base").parent.glob("*.json")):
            if not path.name.startswith("."):
                yield benchmark, path.stem


def _rescore(run: RunDir, benchmark: str, variant: str) -> Rescored:
    summary_path, samples_path = run.evaluation(benchmark, variant), run.samples(benchmark, variant)
    summary = read_json(summary_path)
    old = list(read_jsonl(samples_path))
    few_shot_format = (summary.get("prompt") or {}).get("few_shot_format", "native")
    with Grader(harness=harness_task(few_shot_format)) as grader:
        rows = [_regraded(row, f"{samples_path}:{number}", summary, grader) for number, row in old]
    pairs = [
        (before, after) for (_, before), after in zip(old, rows, strict=True) if _belongs(after, summary)
    ]
    if not pairs:
        raise InputError(f"{samples_path} holds no response of {summary_path}; evaluate again")
    if any(before != after for before, after in pairs):
        write_jsonl(samples_path, rows)
    counts = summarise([after for _, after in pairs])
    if any(summary.get(name) != value for name, value in counts.items()):
        note = {"written_at": now(), "mathreason": __version__}
        write_json(summary_path, {**summary, **counts, "rescored": note})
    return Rescored(
        benchmark,
        variant,
        n=len(pairs),
        changed=sum(before.get("correct") != after["correct"] for before, after in pairs),
        before=sum(before.get("correct") is True for before, _ in pairs),
        after=sum(after["correct"] for _, after in pairs),
    )


def _belongs(row: dict[str, Any], summary: dict[str, Any]) -> bool:
    return row.get("key") == summary.get("key")


def _regraded(row: dict[str, Any], where: str, summary: dict[str, Any], grader: Grader) -> dict[str, Any]:
    """`row` with its grading fields anew; a row of another evaluation as it is."""
    if not _belongs(row, summary):
        return row
    for name in ("response", "answer"):
        if not isinstance(row.get(name), str):
            raise InputError(f"{where}: '{name}' should be text, found {row.get(name)!r:.60}; evaluate again")
    try:
        return row | grader.grade(row["response"], row["answer"]).to_dict()
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _renew_comparison(run: RunDir, evaluations: list[Path]) -> None:
    """Write comparison and report again where they are older than a summary they are made from."""
    from mathreason.analysis.compare import write_comparison
    from mathreason.analysis.report import write_report

    newest = max(path.stat().st_mtime_ns for path in evaluations)
    if run.comparison.exists() and run.comparison.stat().st_mtime_ns < newest:
        write_comparison(run)
    if run.report.exists() and run.report.stat().st_mtime_ns < newest:
        write_report(run)
