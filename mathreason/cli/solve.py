"""mathreason solve"""

from __future__ import annotations

from pathlib import Path

import click

from mathreason.cli.options import results_option


@click.command("solve")
@click.argument("question")
@click.option(
    "--run", "run", required=True, help="The trained run: a folder, or its id in the results folder."
)
@click.option("--base", is_flag=True, help="Ask the base model, without the adapter.")
@results_option
def command(question: str, run: str, base: bool, results: Path | None) -> None:
    """Ask a run's model one question: prints its steps and the answer extracted from them.

    \b
    Example:
      mathreason solve --run results/RUN "Tom has 3 bags with 4 apples each. How many apples has he?"
    """
    from mathreason.errors import InputError
    from mathreason.session import find_run
    from mathreason.solve import solve

    if not question.strip():
        raise InputError("the question is empty")
    solution = solve(find_run(run, results), question, base=base)
    click.echo(solution.response)
    if solution.truncated:
        click.echo("warning: the response was cut off at the token limit", err=True)
    click.echo(f"answer: {solution.answer if solution.answer is not None else 'none found'}")
