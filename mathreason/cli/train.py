"""mathreason train"""

from __future__ import annotations

from pathlib import Path

import click

from mathreason.cli.options import deadline_option, job_options, target_of


@click.command("train")
@job_options
@deadline_option
def command(
    target: str,
    overrides: tuple[str, ...],
    results: Path | None,
    data_dir: Path | None,
    deadline: str | None,
) -> None:
    """Prepare the data, audit it against the job's benchmarks, and train the adapter.

    The adapter is written to RUN/adapter in PEFT's own format. An interrupted training goes on from its
    newest complete checkpoint. A file named STOP in the run directory, SIGTERM, SIGUSR1 or Ctrl-C end it
    after the optimizer step under way, with a checkpoint saved and exit code 0.

    \b
    Examples:
      mathreason train jobs/tinyllama.yaml --set data.max_length=1024
      mathreason train jobs/mistral_7b.yaml --deadline 7h30m
      torchrun --nproc-per-node 2 -m mathreason train jobs/mistral_7b.yaml
    """
    from mathreason.pipeline import train_stage
    from mathreason.session import open_session
    from mathreason.training import ranks
    from mathreason.training.stopping import parse_deadline

    resolved = target_of(target, overrides, results, data_dir)
    until = parse_deadline(deadline) if deadline is not None else None
    with open_session(resolved, deadline=until) as session:
        result = train_stage(session)
    if ranks.rank() != 0:
        return
    best = result["best"]
    click.echo(f"adapter: {session.run.adapter} (step {best['step']}, {best['why']})")
