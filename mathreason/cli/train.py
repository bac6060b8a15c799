"""mathreason train"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mathreason.cli.options import deadline_option, job_options, target_of

if TYPE_CHECKING:
    from mathreason.config import JobConfig


@click.command("train")
@job_options
@deadline_option
@click.option(
    "--accelerate-config",
    metavar="NAME|FILE",
    help="Train with several processes: one of accelerate_configs/ (ddp, zero2 ...) or your own file.",
)
@click.option(
    "--processes", type=click.IntRange(min=1), help="How many, in place of the configuration's num_processes."
)
def command(
    target: str,
    overrides: tuple[str, ...],
    results: Path | None,
    data_dir: Path | None,
    deadline: str | None,
    accelerate_config: str | None,
    processes: int | None,
) -> None:
    """Prepare the data, audit it against the job's benchmarks, and train the adapter.

    The adapter is written to RUN/adapter in PEFT's own format. An interrupted training goes on from its
    newest complete checkpoint. A file named STOP in the run directory, SIGTERM, SIGUSR1 or Ctrl-C end it
    after the optimizer step under way, with a checkpoint saved and exit code 0.

    \b
    Examples:
      mathreason train jobs/tinyllama.yaml --set data.max_length=1024
      mathreason train jobs/mistral_7b.yaml --deadline 7h30m
      mathreason train jobs/mistral_7b.yaml --accelerate-config ddp --processes 4
      torchrun --nproc-per-node 2 -m mathreason train jobs/mistral_7b.yaml
    """
    from mathreason.pipeline import train_stage
    from mathreason.session import open_session
    from mathreason.training import launch, ranks
    from mathreason.training.stopping import parse_deadline
    from mathreason.tuned import tuned_path

    launch.require_company()
    resolved = target_of(target, overrides, results, data_dir)
    _launch(resolved.job, target, accelerate_config, processes)
    until = parse_deadline(deadline) if deadline is not None else None
    with open_session(resolved, deadline=until) as session:
        result = train_stage(session)
    if ranks.rank() != 0:
        return
    best = result["best"]
    folder = tuned_path(session.run)
    click.echo(f"{folder.name}: {folder} (step {best['step']}, {best['why']})")


def _launch(job: JobConfig, target: str, config: str | None, processes: int | None) -> None:
    """Take over an accelerate configuration; where it asks for ranks and this is none, start them, exit."""
    from mathreason.errors import InputError
    from mathreason.training import launch
    from mathreason.training.compatibility import Setting, require

    if config is None:
        if processes is not None:
            raise InputError("--processes goes with --accelerate-config, such as --accelerate-config ddp")
        return
    variables, count = launch.environment_of(launch.config_file(config), processes)
    count = launch.current().processes if launch.is_rank() else count
    require(Setting(job, launch.launch_of(variables, count)), target)
    if launch.is_rank():
        launch.end_with_launcher()
        os.environ.update(variables)
    elif count > 1 or launch.launch_of(variables, count).engine:
        sys.exit(launch.start([sys.executable, "-m", "mathreason", *sys.argv[1:]], count))
    else:
        os.environ.update(variables)
