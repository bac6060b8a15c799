"""mathreason doctor"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from mathreason.cli.options import data_dir_option, results_option, set_option

COLOURS = {"ok": "green", "warning": "yellow", "broken": "red", "absent": "dim"}


@click.command("doctor")
@click.argument("job", required=False, type=click.Path(path_type=Path))
@set_option
@results_option
@data_dir_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of a table.")
def command(
    job: Path | None, overrides: tuple[str, ...], results: Path | None, data_dir: Path | None, as_json: bool
) -> None:
    """Look at this machine: GPU, libraries, disks, Slurm, containers; with JOB at what that needs.

    Each part is tried, not asked for its version. Exit code 1 when something is broken.

    \b
    Examples:
      mathreason doctor
      srun mathreason doctor jobs/mistral_7b.yaml
    """
    from mathreason.cluster.doctor import examine
    from mathreason.models import quiet_libraries
    from mathreason.results import to_json
    from mathreason.session import results_root
    from mathreason.sweep import jobs_of

    quiet_libraries()
    jobs = jobs_of(job, list(overrides)) if job is not None else []
    checks = examine(jobs, str(job), results_root(results), data_dir, overrides)
    if as_json:
        for check in checks:
            click.echo(to_json(asdict(check), indent=None))
    else:
        from rich.box import SIMPLE_HEAD
        from rich.markup import escape
        from rich.table import Table

        from mathreason.progress import output_console

        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for heading in ("part", "state", "found", "what to do"):
            table.add_column(heading, overflow="fold")
        for check in checks:
            state = f"[{COLOURS[check.state]}]{check.state}[/]"
            table.add_row(check.part, state, escape(check.found), escape(check.remedy))
        output_console().print(table)
    if any(check.is_broken for check in checks):
        sys.exit(1)
