"""mathreason stop"""

from __future__ import annotations

from pathlib import Path

import click

from mathreason.cli.options import results_option


@click.command("stop")
@click.argument("runs", nargs=-1, required=True, type=click.Path())
@results_option
def command(runs: tuple[str, ...], results: Path | None) -> None:
    """Ask what works on RUNS to save and stop: it ends within one step, wherever it runs.

    A file STOP is written to the run directory. The same command that began a run goes on with it.

    \b
    Example:
      mathreason stop mistral-7b-1a2b3c4d
    """
    from mathreason.cluster.status import view
    from mathreason.errors import InputError
    from mathreason.results import write_text
    from mathreason.session import find_run
    from mathreason.training.stopping import STOP_FILE

    found = [find_run(name, results) for name in runs]
    states = {run.id: view(run).status for run in found}
    if idle := [f"{name} ({status})" for name, status in states.items() if status != "running"]:
        raise InputError(f"nothing works on {', '.join(idle)}; `scancel` ends jobs that wait")
    for run in found:
        write_text(run.path / STOP_FILE, "")
        click.echo(f"{run.id} is asked to stop: {run.path / STOP_FILE}")
