"""mathreason submit"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click

from mathreason.cli.options import data_dir_option, results_option, set_option


@click.command("submit")
@click.argument("target", metavar="JOB_OR_RUN", type=click.Path())
@set_option
@results_option
@data_dir_option
@click.option("--pipeline", is_flag=True, help="Base evaluation, training, tuned evaluation, report.")
@click.option(
    "--shards", type=click.IntRange(min=1), default=4, show_default=True, help="Of tuned evaluation."
)
@click.option("--dry-run", is_flag=True, help="Print scripts and commands; write and submit nothing.")
@click.option("--nodes", type=click.IntRange(min=1), default=1, show_default=True, help="For the training.")
@click.option("--gpus", type=click.IntRange(min=0), default=1, show_default=True, help="On each node.")
@click.option("--cpus", type=click.IntRange(min=1), default=8, show_default=True, help="On each node.")
@click.option("--memory", metavar="SIZE", default="64G", show_default=True, help="On each node.")
@click.option("--time", metavar="TIME", default="24:00:00", show_default=True, help="Limit of each job.")
@click.option("--partition", metavar="NAME")
@click.option("--account", metavar="NAME")
@click.option("--qos", metavar="NAME")
@click.option("--sbatch", "extra", metavar="OPTION", multiple=True, help="Another, such as constraint=a100.")
@click.option("--accelerate-config", metavar="NAME|FILE", help="For a training in several processes.")
@click.option("--gpu-memory", metavar="SIZE", help="Of one GPU, such as 24GiB; else by Slurm's names.")
@click.option("--max-restarts", type=click.IntRange(min=0), default=10, show_default=True)
@click.option("--runtime", default="native", show_default=True, help="native, docker, apptainer or pyxis.")
@click.option("--image", metavar="IMAGE", help="Of the container.")
def command(**asked: Any) -> None:
    """Submit JOB to Slurm: its training, with --pipeline everything, of a sweep all its runs.

    The scripts are kept in RUN/slurm/, with their logs. A job that is stopped by its time limit or preempted
    saves, requeues itself and goes on. What `validate` would refuse is refused here, and so is a model or
    data that an offline node would not find, a training that does not fit the partition's largest GPU (or
    --gpu-memory), or a results folder that the nodes do not share.

    \b
    Examples:
      mathreason submit jobs/mistral_7b.yaml --pipeline --time 08:00:00 --gpu-memory 24GiB
      mathreason submit jobs/ablations/rank.yaml --dry-run
      mathreason submit jobs/tinyllama.yaml --nodes 2 --gpus 4 --accelerate-config zero2
    """
    from mathreason.cluster import slurm
    from mathreason.cluster.chains import Request, chain_of, prepare
    from mathreason.cluster.scripts import Resources
    from mathreason.cluster.submit import described, submit, submitted_elsewhere

    named = {field.name for field in fields(Resources)}
    resources = Resources(**{key: value for key, value in asked.items() if key in named})
    rest = {key: value for key, value in asked.items() if key not in named and key != "dry_run"}
    chain = chain_of(Request(resources=resources, **rest))
    if asked["dry_run"]:
        for line in described(chain.jobs):
            click.echo(line)
        return
    slurm.require()
    if cluster := submitted_elsewhere(chain.folder):
        click.echo(
            f"warning: it was submitted on cluster {cluster} before, whose queue is not seen from here; "
            "of two jobs at work on one run the one that began last goes on",
            err=True,
        )
    prepare(chain)
    document = submit(chain.jobs, chain.folder)
    for job in document["jobs"]:
        array = f" [{job['array']}]" if job["array"] else ""
        after = f", after {', '.join(job['depends_on'])}" if job["depends_on"] else ""
        click.echo(f"{job['stage']:8} job {job['id']}{array}{after}")
    click.echo(f"scripts and logs: {chain.folder}")
