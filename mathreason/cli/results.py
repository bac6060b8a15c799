"""mathreason results, mathreason results show"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mathreason.cli.options import results_option

if TYPE_CHECKING:
    from mathreason.listing import RunSummary

NARROW_HEADINGS = ("run", "status", "benchmark", "n", "base %", "tuned %", "gain")
HEADINGS = (*NARROW_HEADINGS[:2], "stage", "model", *NARROW_HEADINGS[2:], "started")
NUMBERS = ("n", "base %", "tuned %", "gain")
WIDE = 110  # columns of a terminal that holds them all


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
    from mathreason.progress import output_console

    headings = HEADINGS if output_console().width >= WIDE else NARROW_HEADINGS
    rows = [row for run in runs for row in _rows(run)]
    click.echo("\n".join(_table(headings, rows)))


def _table(headings: tuple[str, ...], rows: list[dict[str, str]]) -> Iterator[str]:
    """Lines of a table; rich's takes ten seconds over ten thousand rows."""
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in headings}
    sides = {name: ">" if name in NUMBERS else "<" for name in headings}
    line = "  ".join(f"{{{name}:{sides[name]}{widths[name]}}}" for name in headings)
    yield line.format_map({name: name for name in headings}).rstrip()
    yield "  ".join("─" * widths[name] for name in headings)
    for row in rows:
        yield line.format_map(row).rstrip()


def _rows(run: RunSummary) -> list[dict[str, str]]:
    """One row for each benchmark of a run; a run without any has one row."""
    scores: dict[str, dict[str, Any]] = run.scores or {"": {}}
    common = {"run": run.id, "status": run.status, "model": run.model, "started": run.started_at[:16]}
    stage = run.stage if run.status != "done" else ""
    rows = []
    for name, entry in scores.items():
        difference = entry.get("difference")
        points = f"{100 * difference['value']:+.1f}" if difference else ""
        sides = {f"{side} %": _percent(entry.get(side)) for side in ("base", "tuned")}
        numbers = {"n": str(entry.get("n", "")), "gain": points}
        rows.append({**common, "stage": stage, "benchmark": name, **numbers, **sides})
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
