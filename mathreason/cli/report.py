"""mathreason report"""

from __future__ import annotations

from pathlib import Path

import click

from mathreason.cli.options import results_option


@click.command("report")
@click.argument("run", type=click.Path())
@results_option
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Where the error analysis of a file of graded responses is written.",
)
def command(run: str, results: Path | None, output: Path | None) -> None:
    """Write RUN's comparison and report.html, one self-contained page.

    RUN may also be a .jsonl file of graded responses (`response`, `answer` and `correct` on each line, as
    `mathreason grade` writes it): its error analysis is written to --output.

    \b
    Examples:
      mathreason report results/RUN
      mathreason report graded.jsonl --output errors.html
    """
    click.echo(
        f"report: {_graded(Path(run), output) if run.endswith('.jsonl') else _of_run(run, results, output)}"
    )


def _of_run(run: str, results: Path | None, output: Path | None) -> Path:
    from mathreason.analysis.compare import write_comparison
    from mathreason.analysis.report import write_report
    from mathreason.jobfile import load_job
    from mathreason.results import provenance_of
    from mathreason.session import find_run, job_provenance

    if output is not None:
        raise click.UsageError("--output is for a .jsonl file; the report of a run is written into the run")
    found = find_run(run, results)
    with provenance_of(job_provenance(load_job(found.job))):
        write_comparison(found)
    return write_report(found)


def _graded(file: Path, output: Path | None) -> Path:
    from mathreason.analysis.report_graded import write_errors_page

    if output is None:
        raise click.UsageError("a file of graded responses needs --output, for example --output errors.html")
    return write_errors_page(file, output)
