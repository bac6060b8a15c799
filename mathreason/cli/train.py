"""mathreason train"""

from __future__ import annotations

from pathlib import Path

import click

from mathreason.cli.options import job_options, target_of


@click.command("train")
@job_options
def command(target: str, overrides: tuple[str, ...], results: Path | None, data_dir: Path | None) -> None:
    """Prepare the data, audit it against the job's benchmarks, and train the adapter.

    The adapter is written to RUN/adapter in PEFT's own format. An interrupted training goes on from its
    newest complete checkpoint.

    \b
    Example:
      mathreason train jobs/tinyllama.yaml --set data.max_length=1024
    """
    from mathreason.pipeline import train_stage
    from mathreason.session import open_session

    with open_session(target_of(target, overrides, results, data_dir)) as session:
        result = train_stage(session)
    best = result["best"]
    click.echo(f"adapter: {session.run.adapter} (step {best['step']}, {best['why']})")
