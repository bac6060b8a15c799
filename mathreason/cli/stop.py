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
    from mathreason.errors import InputError
    from mathreason.results import read_json, write_text
    from mathreason.session import find_run, status_of
    from mathreason.training.stopping import STOP_FILE

    found = [find_run(name, results) for name in runs]
    idle = [run for run in found if not _at_work(run.path)]
    if idle:
        names = ", ".join(f"{run.id} ({status_of(read_json(run.run))})" for run in idle)
        raise InputError(f"nothing works on {names}; `scancel` ends jobs that wait")
    for run in found:
        write_text(run.path / STOP_FILE, "")
        click.echo(f"{run.id} is asked to stop: {run.path / STOP_FILE}")


def _at_work(run: Path) -> bool:
    """Whether a process, or one of those that share an evaluation, says that it runs."""
    from mathreason.results import RunDir, read_json
    from mathreason.session import status_of

    states = [run / "run.json", *RunDir(run).shard_states()]
    return any(status_of(read_json(path)) == "running" for path in states)
