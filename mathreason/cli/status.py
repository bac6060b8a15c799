"""mathreason status"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mathreason.cli.options import results_option

if TYPE_CHECKING:
    from mathreason.cluster.status import View


@click.command("status")
@click.argument("run", required=False, type=click.Path())
@results_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of a table.")
def command(run: str | None, results: Path | None, as_json: bool) -> None:
    """What runs, waits, stopped or failed, and how far it is; with RUN that one and its jobs.

    Runs that are done are left out; `mathreason results` has them. Slurm is asked where it is.

    \b
    Examples:
      mathreason status
      mathreason status mistral-7b-1a2b3c4d
    """
    from mathreason.cluster.status import view, views
    from mathreason.results import to_json
    from mathreason.session import find_run, results_root

    found = [view(find_run(run, results))] if run is not None else views(results_root(results))
    if as_json:
        for each in found:
            click.echo(to_json(each.to_dict(), indent=None))
    elif not found:
        click.echo(f"nothing runs or waits in {results_root(results)}")
    else:
        _table(found)
        if run is not None:
            _jobs(found[0])


def _table(found: list[View]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from mathreason.progress import output_console

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("run", "status", "stage", "step", "loss", "tokens/s", "left", "note"):
        numeric = heading in ("step", "loss", "tokens/s", "left")
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for each in found:
        table.add_row(
            escape(each.run),
            each.status,
            each.stage,
            f"{each.step}/{each.steps or '?'}" if each.step is not None else "",
            f"{each.loss:.3f}" if each.loss is not None else "",
            f"{each.tokens_per_second:.0f}" if each.tokens_per_second is not None else "",
            _duration(each.eta_seconds) if each.eta_seconds is not None else "",
            escape(each.note),
        )
    output_console().print(table)


def _jobs(found: View) -> None:
    for job in found.jobs:
        reason = f" ({job.reason})" if job.reason not in ("None", "") else ""
        click.echo(f"job {job.task}, {job.stage}: {job.state.lower()}{reason}")
    for shard, status in found.shards.items():
        click.echo(f"shard {shard}: {status}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
    )
