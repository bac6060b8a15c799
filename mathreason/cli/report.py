"""mathreason report"""

from __future__ import annotations

from pathlib import Path

import click

from mathreason.cli.options import results_option


@click.command("report")
@click.argument("run", type=click.Path())
@results_option
def command(run: str, results: Path | None) -> None:
    """Write RUN's comparison and report.html, one self-contained page.

    \b
    Example:
      mathreason report results/RUN
    """
    from mathreason.analysis.compare import write_comparison
    from mathreason.analysis.report import write_report
    from mathreason.jobfile import load_job
    from mathreason.results import provenance_of
    from mathreason.session import find_run, job_provenance

    found = find_run(run, results)
    with provenance_of(job_provenance(load_job(found.job))):
        write_comparison(found)
    click.echo(f"report: {write_report(found)}")
