"""mathreason results, mathreason results show"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mathreason.cli.options import results_option

if TYPE_CHECKING:
    from mathreason.listing import RunSummary


@click.group("results", invoke_without_command=True)
@results_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of a table.")
@click.pass_context
def command(ctx: click.Context, results: Path | None, as_json: bool) -> None:
    """List the runs in the results folder, newest first, or show one.

    \b
    Examples:
      mathreason results
      mathreason results show RUN
    """
    ctx.obj = results
    if ctx.invoked_subcommand is None:
        _list(results, as_json)


def _list(results: Path | None, as_json: bool) -> None:
    from mathreason.listing import list_runs
    from mathreason.results import to_json
    from mathreason.session import results_root

    root = results_root(results)
    runs = list_runs(root)
    if as_json:
        for run in runs:
            click.echo(to_json(run.to_dict(), indent=None))
        return
    if not runs:
        click.echo(f"no runs in {root}")
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from mathreason.progress import output_console

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", no_wrap=True)
    for heading in ("status", "model", "benchmark", "n", "base %", "tuned %", "difference", "started"):
        right = heading in ("n", "base %", "tuned %", "difference")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for run in runs:
        for row in _rows(run):
            table.add_row(*row)
    output_console().print(table)


def _rows(run: RunSummary) -> list[list[str]]:
    """One row for each benchmark of a run; a run without any has one row."""
    status = run.status if run.status == "done" or not run.stage else f"{run.status} ({run.stage})"
    scores: dict[str, dict[str, Any]] = run.scores or {"": {}}
    rows = []
    for name, entry in scores.items():
        numbers = [_percent(entry.get(side)) for side in ("base", "tuned")]
        difference = entry.get("difference")
        points = f"{100 * difference['value']:+.1f}" if difference else ""
        count = str(entry.get("n", ""))
        rows.append([run.id, status, run.model, name, count, *numbers, points, run.started_at[:16]])
    return rows


def _percent(accuracy: dict[str, Any] | None) -> str:
    return f"{100 * accuracy['value']:.1f}" if accuracy else ""


@command.command("show")
@click.argument("run", type=click.Path())
@click.pass_obj
def show(results: Path | None, run: str) -> None:
    """Show one run: its state, its data, its training and its comparison."""

    from mathreason.analysis.compare import comparison_table
    from mathreason.listing import summarize
    from mathreason.progress import output_console
    from mathreason.results import read_json
    from mathreason.session import find_run

    found = find_run(run, results)
    summary = summarize(found)
    click.echo(f"{summary.id}: {summary.status}" + (f", {summary.note}" if summary.note else ""))
    click.echo(f"model: {summary.model}; started {summary.started_at}; folder {found.path}")
    if found.data.is_file():
        _show_data(read_json(found.data))
    if found.train.is_file():
        _show_training(read_json(found.train))
    if found.comparison.is_file():
        output_console().print(comparison_table(read_json(found.comparison)))
    if found.report.is_file():
        click.echo(f"report: {found.report}")


def _show_data(data: dict[str, Any]) -> None:
    for source in data["sources"]:
        dropped = ", ".join(f"{count} {reason}" for reason, count in source["dropped"].items())
        asked = "all" if source["asked"] is None else source["asked"]
        click.echo(
            f"data: {source['source']}: {source['taken']} of {asked} asked"
            + (f"; dropped {dropped}" if dropped else "")
        )
    audit = data["audit"]
    click.echo(
        f"audit: {audit['matched']} of {audit['checked']} rows are in a benchmark ({audit['policy']}; "
        f"{audit['kept_contaminated']} kept)"
    )


def _show_training(train: dict[str, Any]) -> None:
    best = train["best"]
    click.echo(
        f"training: {train['steps']} steps, {train['supervised_tokens_per_second']} supervised tokens/s, "
        f"peak memory {train['peak_memory_bytes'] / 2**30:.2f} GiB; "
        f"adapter of step {best['step']} ({best['why']})"
    )
