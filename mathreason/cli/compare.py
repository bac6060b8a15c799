"""mathreason compare"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mathreason.cli.options import results_option, set_option

if TYPE_CHECKING:
    from rich.console import Group


@click.command("compare")
@click.argument("runs", metavar="RUN... | JOB", nargs=-1, required=True, type=click.Path())
@set_option
@results_option
def command(runs: tuple[str, ...], overrides: tuple[str, ...], results: Path | None) -> None:
    """Compare base and tuned model of RUN, the tuned models of two or more runs, or a sweep's variants.

    All sides must have been given the same items, prompts, token limit and sampling. The difference has a
    paired interval. The verdict is an exact paired test at 5 %: McNemar's, or one over groups or items where
    items share a group or have several responses; several tests are corrected for their number.

    With three runs or more, the others are compared with the first one; runs that differ only in a seed are
    one variant.

    \b
    Examples:
      mathreason compare results/RUN
      mathreason compare results/BASELINE results/ABLATION
      mathreason compare jobs/ablations/quickstart_rank.yaml
    """
    from mathreason.errors import InputError
    from mathreason.progress import output_console

    is_job = len(runs) == 1 and Path(runs[0]).is_file()
    if overrides and not is_job:
        raise InputError("--set goes with a job file that has a sweep")
    table = _sweep(Path(runs[0]), overrides, results) if is_job else _runs(runs, results)
    output_console().print(table)


def _runs(names: tuple[str, ...], results: Path | None) -> Group:
    from mathreason.analysis.compare import compare_runs, comparison_table, write_comparison
    from mathreason.analysis.sweep_comparison import compare_variants
    from mathreason.analysis.sweep_runs import trained_of_runs
    from mathreason.analysis.sweep_table import sweep_table
    from mathreason.jobfile import load_job
    from mathreason.results import provenance_of
    from mathreason.session import find_run, job_provenance

    found = [find_run(name, results) for name in names]
    if len(found) > 2:
        trained = trained_of_runs(found)
        return sweep_table(compare_variants("these runs", trained, trained[0].variant))
    if len(found) == 2:
        return comparison_table(compare_runs(*found))
    with provenance_of(job_provenance(load_job(found[0].job))):
        return comparison_table(write_comparison(found[0]))


def _sweep(path: Path, overrides: tuple[str, ...], results: Path | None) -> Group:
    from mathreason.analysis.sweep_runs import write_sweep
    from mathreason.analysis.sweep_table import sweep_table
    from mathreason.sweep import load_sweep, results_of

    sweep = load_sweep(path, list(overrides))
    return sweep_table(write_sweep(sweep, results_of(sweep, results)))
