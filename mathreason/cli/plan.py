"""mathreason plan"""

from __future__ import annotations

from pathlib import Path

import click

from mathreason.cli.options import job_options, target_of


@click.command("plan")
@job_options
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), help="Plan for this device [default: the one here]."
)
@click.option(
    "--memory", metavar="SIZE", help="Plan for this much memory, such as 24GiB [default: what is free]."
)
@click.option("--tokens-per-second", type=click.FloatRange(min=0, min_open=True), help="Rate for the time.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON, sizes in bytes.")
def command(
    target: str,
    overrides: tuple[str, ...],
    results: Path | None,
    data_dir: Path | None,
    device: str | None,
    memory: str | None,
    tokens_per_second: float | None,
    as_json: bool,
) -> None:
    """Say what a job needs, before anything is loaded: memory, steps, time, and what to change.

    Needs the model's config only. Where the run's data is prepared already, its real lengths are used.

    \b
    Examples:
      mathreason plan jobs/mistral_7b.yaml --device cuda --memory 24GiB
      mathreason plan jobs/tinyllama.yaml --set training.micro_batch=auto --json
    """
    from mathreason.errors import InputError
    from mathreason.memory import bytes_of
    from mathreason.models import quiet_libraries
    from mathreason.plan import plan, said
    from mathreason.results import to_json

    resolved = target_of(target, overrides, results, data_dir)
    try:
        room = bytes_of(memory) if memory is not None else None
    except ValueError as error:
        raise InputError(f"--memory: {error}") from error
    quiet_libraries()
    document = plan(resolved.job, resolved.run, device, room, tokens_per_second)
    click.echo(to_json(document) if as_json else said(document))
