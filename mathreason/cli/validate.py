"""mathreason validate"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mathreason.cli.options import set_option


@click.command("validate")
@click.argument("jobs", nargs=-1, type=click.Path(path_type=Path))
@set_option
@click.option(
    "--accelerate-config",
    metavar="NAME|FILE",
    help="Check the jobs with this configuration of several processes.",
)
@click.option("--schema", is_flag=True, help="Print the job file's JSON schema, for editors.")
def command(
    jobs: tuple[Path, ...], overrides: tuple[str, ...], accelerate_config: str | None, schema: bool
) -> None:
    """Check job files: every problem of every file, with its line. Takes under a second, loads no model.

    Of a sweep every run is checked.

    Also says how small a difference between base and tuned each benchmark's items would show.

    \b
    Examples:
      mathreason validate jobs/*.yaml
      mathreason validate jobs/mistral_7b.yaml --accelerate-config zero3_cpu_offload
      mathreason validate --schema > jobs/job.schema.json
    """
    from mathreason.errors import InputError
    from mathreason.jobfile import load_job, run_id
    from mathreason.schema import job_schema
    from mathreason.sweep import load_sweep
    from mathreason.training.compatibility import Setting, require
    from mathreason.training.launch import Launch, planned_launch
    from mathreason.validation import check_job, detectable

    if schema:
        click.echo(job_schema(), nl=False)
        return
    if not jobs:
        raise InputError("name at least one job file, such as jobs/quickstart.yaml")
    launched = Launch() if accelerate_config is None else planned_launch(accelerate_config)
    failed = False
    for path in jobs:
        try:
            job = load_job(path, list(overrides))
            sweep = load_sweep(path, list(overrides)) if job.sweep else None
            for each in [run.job for run in sweep.runs] if sweep else [job]:
                check_job(each, path)
                require(Setting(each, launched), str(path))
        except InputError as error:
            failed = True
            for line in str(error).splitlines():
                click.echo(f"Error: {line}", err=True)
        else:
            what = f"sweep {sweep.id}, {len(sweep.runs)} runs" if sweep else f"run {run_id(job)}"
            click.echo(f"ok  {path}  {what}")
            for line in detectable(job):
                click.echo(f"    {line}")
    if failed:
        sys.exit(InputError.exit_code)
