"""mathreason sweep"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mathreason.cli.options import data_dir_option, deadline_option, results_option, set_option

if TYPE_CHECKING:
    from mathreason.sweep import Sweep


@click.command("sweep")
@click.argument("job", type=click.Path(path_type=Path))
@set_option
@results_option
@data_dir_option
@deadline_option
@click.option("--dry-run", is_flag=True, help="Show the runs and their state, and run nothing.")
@click.option(
    "--only", metavar="I[/N]", help="Carry out run I alone (of N, which is checked): a task of a Slurm array."
)
def command(
    job: Path,
    overrides: tuple[str, ...],
    results: Path | None,
    data_dir: Path | None,
    deadline: str | None,
    dry_run: bool,
    only: str | None,
) -> None:
    """Carry out every run of a job's sweep, then compare its variants: one table, one figure.

    Each run lies in results/RUN as if it had been run alone; the comparison in results/SWEEP. The prepared
    data and the evaluation of the base model are shared. What is complete is not repeated; after a kill, the
    same command goes on. A run that fails is said, and the others go on.

    \b
    Examples:
      mathreason sweep jobs/ablations/quickstart_rank.yaml
      mathreason sweep jobs/ablations/rank.yaml --dry-run
      sbatch --array=1-12 --wrap 'mathreason sweep JOB --only $SLURM_ARRAY_TASK_ID/12'
    """
    from mathreason.analysis.sweep_table import runs_table
    from mathreason.errors import InputError
    from mathreason.progress import output_console
    from mathreason.sweep import load_sweep, results_of
    from mathreason.sweep_runner import state_of
    from mathreason.training.stopping import parse_deadline
    from mathreason.validation import check_job

    until = parse_deadline(deadline) if deadline is not None else None
    if data_dir is not None and not data_dir.is_dir():
        raise InputError(f"--data-dir {data_dir}: no such folder")
    sweep = load_sweep(job, list(overrides))
    for run in sweep.runs:
        check_job(run.job, job)
    root = results_of(sweep, results)
    if only is not None:
        _run_one(sweep, _number(only, len(sweep.runs)), root, data_dir, until)
        return
    output_console().print(runs_table(sweep, [state_of(run, root) for run in sweep.runs]))
    if not dry_run:
        options = [f"--set={override}" for override in overrides]
        options += [f"--data-dir={data_dir}"] if data_dir else []
        _run_all(sweep, root, [str(job), f"--results={root}", *options], until)


def _number(text: str, count: int) -> int:
    from mathreason.errors import InputError

    number, slash, of = text.partition("/")
    if not number.isdigit() or (slash and not of.isdigit()):
        raise InputError(f"--only {text}: write it as I or I/N")
    if slash and int(of) != count:
        raise InputError(f"--only {text}: this sweep has {count} runs, not {of}")
    if not 1 <= int(number) <= count:
        raise InputError(f"--only {text}: the runs of this sweep are 1 to {count}")
    return int(number)


def _run_one(sweep: Sweep, number: int, root: Path, data_dir: Path | None, until: float | None) -> None:
    """One run; whoever ends the last one writes the comparison."""
    from mathreason.analysis.sweep_runs import write_sweep
    from mathreason.sweep_runner import run_one, state_of
    from mathreason.training import ranks

    run_one(sweep, number, root, data_dir, until)
    if ranks.rank() != 0:
        return
    run = sweep.runs[number - 1]
    click.echo(f"report: {run.folder(root).report}")
    left = sum(state_of(each, root) != "done" for each in sweep.runs)
    if left:
        click.echo(f"{left} of {len(sweep.runs)} runs of the sweep are not finished yet")
        return
    write_sweep(sweep, root)
    click.echo(f"all {len(sweep.runs)} runs are finished: {root / sweep.id / 'sweep.html'}")


def _run_all(sweep: Sweep, root: Path, arguments: list[str], until: float | None) -> None:
    from mathreason.analysis.sweep_runs import write_sweep
    from mathreason.analysis.sweep_table import sweep_table
    from mathreason.errors import MathreasonError
    from mathreason.progress import Reporter, output_console
    from mathreason.results import make_directory
    from mathreason.sweep_runner import run_rest

    def one(number: int) -> list[str]:
        return [sys.executable, "-m", "mathreason", "sweep", *arguments, f"--only={number}"]

    if until is not None:
        arguments = [*arguments, f"--deadline={datetime.fromtimestamp(until, UTC).isoformat()}"]
    make_directory(root / sweep.id)
    with Reporter(root / sweep.id / "log.txt") as reporter:
        outcome = run_rest(sweep, root, one, reporter, until)
        if outcome.stopped is not None:
            reporter.say(f"stopped at run {outcome.stopped.number}; the same command goes on from there")
            return
    if len(outcome.failed) < len(sweep.runs):
        output_console().print(sweep_table(write_sweep(sweep, root)))
        click.echo(f"sweep: {root / sweep.id / 'sweep.html'}")
    if outcome.failed:
        lines = [f"run {run.number} ({run.title}) failed: {reason}" for run, reason in outcome.failed]
        raise MathreasonError("\n".join([*lines, "the same command tries what failed again"]))
