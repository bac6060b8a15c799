"""mathreason run"""

from __future__ import annotations

from pathlib import Path

import click

from mathreason.cli.options import deadline_option, job_options, target_of


@click.command("run")
@job_options
@deadline_option
def command(
    target: str,
    overrides: tuple[str, ...],
    results: Path | None,
    data_dir: Path | None,
    deadline: str | None,
) -> None:
    """Carry out a whole job: data, training, evaluation of base and tuned, comparison, report.

    JOB_OR_RUN is a job file or a run directory. Whatever is complete is not repeated; a job that was
    interrupted, even killed, goes on from its last complete state. Stopping it is as for `mathreason train`.

    \b
    Examples:
      mathreason run jobs/quickstart.yaml
      mathreason run jobs/tiny_gsm8k.yaml --data-dir data --set training.epochs=1
    """

    from mathreason.analysis.compare import comparison_table
    from mathreason.pipeline import run_all
    from mathreason.progress import output_console
    from mathreason.session import open_session
    from mathreason.training import ranks
    from mathreason.training.launch import require_company
    from mathreason.training.stopping import parse_deadline

    require_company()
    resolved = target_of(target, overrides, results, data_dir)
    until = parse_deadline(deadline) if deadline is not None else None
    with open_session(resolved, deadline=until) as session:
        comparison = run_all(session)
        report = session.run.report
    if ranks.rank() != 0:
        return
    output_console().print(comparison_table(comparison))
    click.echo(f"report: {report}")
