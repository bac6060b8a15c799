"""mathreason grade"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mathreason.cli.options import results_option

if TYPE_CHECKING:
    from mathreason.evaluation.grading_file import GradeSummary


@click.command("grade")
@click.argument("target", metavar="FILE_OR_RUN", type=click.Path())
@click.option(
    "--output", type=click.Path(path_type=Path), help="With FILE: where the graded lines are written."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@results_option
def command(target: str, output: Path | None, as_json: bool, results: Path | None) -> None:
    """Grade saved responses; no model is needed.

    FILE is a JSONL: each line has `response` and `answer`. Its lines are written to --output with
    `extracted`, `strategy`, `correct`, `lm_eval_strict`, `lm_eval_flexible` and `timed_out` added.

    Of a RUN, the saved samples of every evaluation are graded again, in place, and its comparison and
    report are renewed.

    Nothing in a response is ever executed. Formulas are compared in a process of its own, with limits of
    time and memory; a comparison that exceeds them counts as not correct, and as timed out.

    \b
    Examples:
      mathreason grade responses.jsonl --output graded.jsonl
      mathreason grade results/RUN
    """
    from mathreason.errors import InputError

    if output is not None:
        _grade_file(Path(target), output, as_json)
    elif Path(target).is_file():
        raise InputError(f"{target} is a file: say where its graded lines go, with --output FILE")
    else:
        _grade_run(target, results, as_json)


def _grade_file(source: Path, output: Path, as_json: bool) -> None:
    from mathreason.evaluation.grading_file import grade_file
    from mathreason.results import to_json

    summary = grade_file(source, output)
    if as_json:
        click.echo(to_json(summary.to_dict()))
        return
    click.echo(f"{summary.correct} of {summary.total} correct ({summary.correct / summary.total:.1%})")
    for label, count in _lines(summary):
        click.echo(f"  {label:<38} {count:>8} {count / summary.total:>7.1%}")
    click.echo(f"graded: {output}")


def _lines(summary: GradeSummary) -> list[tuple[str, int]]:
    return [
        ("no answer", summary.no_answer),
        ("last number taken as the answer", summary.fallback),
        ("symbolic comparison timed out", summary.timed_out),
        ("correct by lm-eval's gsm8k, strict", summary.lm_eval_strict),
        ("judged otherwise by lm-eval, strict", summary.strict_differs),
        ("correct by lm-eval's gsm8k, flexible", summary.lm_eval_flexible),
        ("judged otherwise by lm-eval, flexible", summary.flexible_differs),
        *((f"answer found by {name}", count) for name, count in summary.by_strategy.items() if count),
    ]


def _grade_run(target: str, results: Path | None, as_json: bool) -> None:
    from dataclasses import asdict

    from mathreason.evaluation.rescoring import rescore_run
    from mathreason.results import to_json
    from mathreason.session import find_run

    run = find_run(target, results)
    found = rescore_run(run)
    if as_json:
        click.echo(to_json({"evaluations": [asdict(one) for one in found]}))
        return
    for one in found:
        click.echo(
            f"{one.benchmark}, {one.variant}: {one.changed} of {one.n} verdicts changed, "
            f"{one.before} -> {one.after} correct ({one.before / one.n:.1%} -> {one.after / one.n:.1%})"
        )
    click.echo(f"graded again: {run.path}")
