"""mathreason grade"""

from __future__ import annotations

from pathlib import Path

import click


@click.command("grade")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="Where the graded lines are written."
)
def command(file: Path, output: Path) -> None:
    """Grade FILE, a JSONL of responses: each line has `response` and `answer`.

    The same lines are written to --output with `extracted`, `strategy` and `correct` added, and a summary
    is printed. No model is needed, and nothing in a response is ever executed.

    \b
    Example:
      mathreason grade responses.jsonl --output graded.jsonl
    """
    from mathreason.evaluation.grading import grade_file

    summary = grade_file(file, output)
    share = summary.correct / summary.total
    click.echo(f"{summary.correct} of {summary.total} correct ({share:.1%})")
    click.echo(f"no answer: {summary.no_answer}; last number taken as the answer: {summary.fallback}")
    for strategy, count in sorted(summary.by_strategy.items(), key=lambda pair: -pair[1]):
        click.echo(f"  {strategy}: {count}")
    click.echo(f"graded: {output}")
