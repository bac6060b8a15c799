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

    Both sides must have been given the same items, prompts and token limit. The difference has a paired
    interval, and the verdict is an exact McNemar test at 5 %.

    \b
    Examples:
      mathreason compare results/RUN
      mathreason compare results/BASELINE results/ABLATION
    """

    from mathreason.analysis.compare import compare_runs, comparison_table, write_comparison
    from mathreason.progress import output_console
    from mathreason.session import find_run

    first = find_run(run, results)
    comparison = compare_runs(first, find_run(other, results)) if other else write_comparison(first)
    output_console().print(comparison_table(comparison))
