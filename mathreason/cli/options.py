"""Options that several commands share, said once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from mathreason.session import Target

Command = TypeVar("Command", bound=Callable[..., Any])

target_argument = click.argument("target", metavar="JOB_OR_RUN", type=click.Path())

results_option = click.option(
    "--results",
    type=click.Path(path_type=Path),
    envvar="MATHREASON_RESULTS",
    show_envvar=True,
    help="Folder of run directories [default: the job's output.results, 'results'].",
)
data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    envvar="MATHREASON_DATA_DIR",
    show_envvar=True,
    help="Folder with <source>/<split>.jsonl, looked at before the Hub [default: data].",
)
set_option = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change one value of the job, such as training.learning_rate=2e-4. Repeatable.",
)
deadline_option = click.option(
    "--deadline",
    metavar="TIME",
    help="Stop in time for it, with everything kept: 3h20m, 90s, 17:30 or an ISO 8601 time.",
)


def job_options(command: Command) -> Command:
    """JOB_OR_RUN with --set, --results and --data-dir."""
    for option in (data_dir_option, results_option, set_option, target_argument):
        command = option(command)
    return command


def target_of(target: str, overrides: tuple[str, ...], results: Path | None, data_dir: Path | None) -> Target:
    """The job and run that the shared options name; a data folder that is not there is refused."""
    from mathreason.errors import InputError
    from mathreason.session import resolve

    if data_dir is not None and not data_dir.is_dir():
        raise InputError(f"--data-dir {data_dir}: no such folder")
    return resolve(target, list(overrides), results, data_dir)
