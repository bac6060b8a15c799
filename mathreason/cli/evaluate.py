"""mathreason evaluate"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mathreason.cli.options import job_options, target_of
from mathreason.results import Shard


class ShardType(click.ParamType[Shard]):
    """`2/8`: the second of eight parts."""

    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shard:
        if isinstance(value, Shard):
            return value
        number, slash, count = str(value).partition("/")
        if not slash or not number.isdecimal() or not count.isdecimal() or not 1 <= int(number) <= int(count):
            self.fail(f"{value!r} is no shard; write I/N with I from 1 to N, such as 2/8", param, ctx)
        return Shard(int(number), int(count))


@click.command("evaluate")
@job_options
@click.option(
    "--variant",
    type=click.Choice(["base", "tuned", "both"]),
    default="both",
    show_default=True,
    help="Which model: the base, the tuned one, or both on the same items.",
)
@click.option(
    "--shard",
    type=ShardType(),
    help="Answer only part I of N of the items; the last of the N processes merges them.",
)
def command(
    target: str,
    overrides: tuple[str, ...],
    results: Path | None,
    data_dir: Path | None,
    variant: str,
    shard: Shard | None,
) -> None:
    """Evaluate base and tuned model on the job's benchmarks, on the same items.

    Every response is kept in RUN/evaluations/BENCHMARK/VARIANT.samples.jsonl. Evaluating a run again with
    other settings keeps the earlier result under its own key.

    \b
    Examples:
      mathreason evaluate results/RUN --set evaluation.limit=null
      mathreason evaluate jobs/mistral_7b.yaml --variant base
      mathreason evaluate results/RUN --shard 2/8
    """

    from mathreason.analysis.compare import comparison_table
    from mathreason.errors import InputError
    from mathreason.pipeline import compare_stage, evaluate_stage
    from mathreason.progress import output_console
    from mathreason.results import VARIANTS
    from mathreason.session import open_session

    with open_session(target_of(target, overrides, results, data_dir), shard) as session:
        with session.stage("evaluate"):
            complete = evaluate_stage(session, VARIANTS if variant == "both" else (variant,), shard)
        if not complete:
            session.reporter.say("the comparison is made when the last shard is done")
            return
        try:
            comparison = compare_stage(session)
        except InputError as error:
            if variant == "both":
                raise
            session.reporter.warn(f"evaluated, but not compared: {error}")
            return
    output_console().print(comparison_table(comparison))
