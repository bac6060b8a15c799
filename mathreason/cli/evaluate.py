"""mathreason evaluate"""

from __future__ import annotations

from pathlib import Path

import click

from mathreason.cli.options import job_options, target_of


@click.command("evaluate")
@job_options
@click.option(
    "--variant",
    type=click.Choice(["base", "tuned", "both"]),
    default="both",
    show_default=True,
    help="Which model: the base, the tuned one, or both on the same items.",
)
def command(
    target: str, overrides: tuple[str, ...], results: Path | None, data_dir: Path | None, variant: str
) -> None:
    """Evaluate base and tuned model on the job's benchmarks, on the same items.

    Every response is kept in RUN/evaluations/BENCHMARK/VARIANT.samples.jsonl. Evaluating a run again with
    other settings keeps the earlier result under its own key.

    \b
    Examples:
      mathreason evaluate results/RUN --set evaluation.limit=null
      mathreason evaluate jobs/mistral_7b.yaml --variant base
    """

    from mathreason.analysis.compare import comparison_table
    from mathreason.pipeline import compare_stage, evaluate_stage
    from mathreason.progress import output_console
    from mathreason.results import VARIANTS
    from mathreason.session import open_session

    with open_session(target_of(target, overrides, results, data_dir)) as session:
        with session.stage("evaluate"):
            evaluate_stage(session, VARIANTS if variant == "both" else (variant,))
        comparison = compare_stage(session)
    output_console().print(comparison_table(comparison))
