"""The batch scripts that `mathreason submit` writes: options for Slurm, variables, one call.

    steps = pipeline(run, shards=4)                       # what is done, and what waits for what
    text = script(steps[0], job_name, resources, place)

What comes from the user is either checked to be plain (options for Slurm, which knows no quoting) or quoted
for the shell, so that it arrives as text and is never carried out.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mathreason.errors import InputError

RUNTIMES = ("native", "docker", "apptainer", "pyxis")
_PLAIN = re.compile(r"[\w.:,@=+/\[\]*&|!()-]+")
_UNFIT = {"docker": r"[:]", "apptainer": r'[:,"\\\n]', "pyxis": r'[:,"\\\s]'}
"""What ends the option that mounts a folder, as slurm/common.sh has it."""


@dataclass(frozen=True)
class Resources:
    """What a job asks Slurm for; None leaves it to the cluster's own default."""

    nodes: int = 1
    gpus: int = 1
    cpus: int = 8
    memory: str = "64G"
    time: str = "24:00:00"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where the jobs run: working folder, shared helper, and variables they are given."""

    folder: Path
    helper: Path
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One job: `call` is a line for the shell. `after` names steps that must have ended well, `unless` one
    that must have failed; `array` is how many tasks it has."""

    name: str
    title: str
    call: str
    after: tuple[str, ...] = ()
    unless: str | None = None
    array: int | None = None
    light: bool = False
    one_node: bool = True


def training(run: Path, options: Sequence[str] = ()) -> Step:
    """The training of a run."""
    call = shlex.join(["train", str(run), *options])
    return Step("train", "Train.", call, one_node=False)


def pipeline(run: Path, shards: int, options: Sequence[str] = ()) -> list[Step]:
    """Base evaluation beside training, tuned evaluation in `shards` after it, comparison and report last."""

    def program(*arguments: str) -> str:
        return shlex.join(["carry_out", "mathreason", arguments[0], str(run), *arguments[1:]])

    tuned = f'{program("evaluate", "--variant", "tuned")} --shard "$SLURM_ARRAY_TASK_ID/{shards}"'
    report = f"{program('compare')} >/dev/null\n{program('report')}"
    return [
        training(run, options),
        # A shard keeps a status of its own, apart from the training's.
        Step("base", "Evaluate the base model.", program("evaluate", "--variant", "base", "--shard", "1/1")),
        Step("tuned", "Evaluate the tuned model, in shards.", tuned, after=("train",), array=shards),
        Step("report", "Compare base and tuned, write the report.", report, ("base", "tuned"), light=True),
        Step(
            "cleanup",
            "After a training that failed: nobody needs the base evaluation any more.",
            'scancel "$@"',
            unless="train",
            light=True,
        ),
    ]


def sweep(job: Path, runs: int) -> Step:
    """Every run of a sweep, one in each task."""
    call = shlex.join(["carry_out", "mathreason", "sweep", str(job)])
    return Step("sweep", "One run of a sweep.", f'{call} --only "$SLURM_ARRAY_TASK_ID/{runs}"', array=runs)


def script(step: Step, job_name: str, resources: Resources, place: Place, waits_for: bool) -> str:
    """The text of a step's script. `waits_for`: others follow, which shall not follow a stopped one.

    Raises InputError for an option that Slurm would read as something else.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mathreason", "cluster"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701  it is a shell script: `quote` takes care
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quote"] = lambda value: shlex.quote(str(value))
    variables = {**place.variables, **({"EXIT_WHEN_STOPPED": "1"} if waits_for else {})}
    return environment.get_template("script.sh.j2").render(
        title=step.title,
        options=options(step, f"{job_name}-{step.name}", resources),
        variables=variables,
        folder=place.folder,
        helper=place.helper,
        call=step.call,
    )


def options(step: Step, job_name: str, resources: Resources) -> list[str]:
    """The options that stand in a script, where the user can change them."""
    nodes = 1 if step.one_node else resources.nodes
    named = ("partition", "account", "qos")
    found = [
        f"--job-name={job_name}",
        "--open-mode=append",
        f"--nodes={nodes}",
        "--ntasks-per-node=1",
        *([f"--gpus-per-node={resources.gpus}"] if resources.gpus and not step.light else []),
        f"--cpus-per-task={1 if step.light else resources.cpus}",
        f"--mem={'4G' if step.light else resources.memory}",
        f"--time={'01:00:00' if step.light else resources.time}",
        *(f"--{name}={value}" for name in named if (value := getattr(resources, name))),
        *([f"--array=1-{step.array}"] if step.array else []),
        "--signal=B:USR1@300",
        "--requeue",
        "--kill-on-invalid-dep=yes",
        *(option if option.startswith("-") else f"--{option}" for option in resources.extra),
    ]
    for option in found:
        if not _PLAIN.fullmatch(option):
            raise InputError(
                f"{option!r} cannot stand in a batch script: Slurm reads options there without quotes; "
                "use letters, digits and . : , @ = + / - _"
            )
    return found


def variables(
    results: Path, data_dir: Path | None, runtime: str, image: str | None, max_restarts: int
) -> dict[str, str]:
    """What the jobs find in their environment.

    Raises InputError for a runtime that is not known, or an image where none is used, or none where one is.
    """
    if runtime not in RUNTIMES:
        raise InputError(f"--runtime {runtime}: choose one of {', '.join(RUNTIMES)}")
    if (image is None) != (runtime == "native"):
        raise InputError(
            f"--runtime {runtime} needs --image"
            if image is None
            else "--image goes with --runtime docker, apptainer or pyxis"
        )
    found = {
        "MATHREASON_RESULTS": str(results),
        **({"MATHREASON_DATA_DIR": str(data_dir)} if data_dir else {}),
        "RUNTIME": runtime,
        **({"IMAGE": image} if image else {}),
        "MAX_RESTARTS": str(max_restarts),
    }
    programs = Path(sys.executable).parent
    if runtime == "native" and (programs / "mathreason").is_file():  # the very installation that submits
        found["MATHREASON_BIN"] = str(programs)
    return found


def refuse_unmountable(runtime: str, folders: Iterable[Path]) -> None:
    """Raise InputError for a folder that the runtime's option for mounts would read as something else."""
    for folder in folders:
        if runtime in _UNFIT and (found := re.search(_UNFIT[runtime], str(folder.absolute()))):
            raise InputError(
                f"--runtime {runtime} cannot mount the folder {folder}, for the character {found[0]!r} "
                "in its name; use another folder"
            )
