"""mathreason compare"""

from __future__ import annotations

from pathlib import Path

import click

from mathreason.cli.options import results_option


@click.command("compare")
@click.argument("run", type=click.Path())
@click.argument("other", type=click.Path(), required=False)
@results_option
def command(run: str, other: str | None, results: Path | None) -> None:
    """Compare base and tuned model of RUN, or the tuned models of RUN and OTHER.

    Both sides must have been given the same items, prompts, token limit and sampling. The difference has a
    paired interval. The verdict is an exact paired test at 5 %: McNemar's, or one over groups or items where
    items share a group or have several responses; with several benchmarks it is corrected for their number.

    \b
    Examples:
      mathreason compare results/RUN
      mathreason compare results/BASELINE results/ABLATION
    """

    from mathreason.analysis.compare import compare_runs, comparison_table, write_comparison
    from mathreason.jobfile import load_job
    from mathreason.progress import output_console
    from mathreason.results import provenance_of
    from mathreason.session import find_run, job_provenance

    first = find_run(run, results)
    if other:
        comparison = compare_runs(first, find_run(other, results))
    else:
        with provenance_of(job_provenance(load_job(first.job))):
            comparison = write_comparison(first)
    output_console().print(comparison_table(comparison))
