"""What the user asked to be submitted, checked and turned into a chain of jobs.

chain = chain_of(Request("jobs/mistral_7b.yaml", pipeline=True))
chain.jobs, chain.folder                # for `described` and `submit`
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from mathreason.cluster.scripts import Place, Resources, Step, pipeline, sweep, training, variables
from mathreason.cluster.submit import HELPER, Job, jobs_of, refuse_unshared
from mathreason.config import JobConfig
from mathreason.errors import InputError
from mathreason.jobfile import load_job
from mathreason.results import RunDir
from mathreason.session import Target, resolve


@dataclass(frozen=True)
class Request:
    """The options of `mathreason submit`."""

    target: str
    overrides: tuple[str, ...] = ()
    results: Path | None = None
    data_dir: Path | None = None
    pipeline: bool = False
    shards: int = 4
    accelerate_config: str | None = None
    gpu_memory: str | None = None
    runtime: str = "native"
    image: str | None = None
    max_restarts: int = 10
    resources: Resources = field(default_factory=Resources)


@dataclass(frozen=True)
class Chain:
    """Jobs in the order in which they are submitted; `target` is the run they work on, None for a sweep."""

    jobs: list[Job]
    folder: Path
    target: Target | None


def chain_of(request: Request) -> Chain:
    """The chain for `request`. Raises InputError for all that would fail on the cluster and shows here."""
    path = Path(request.target)
    if path.is_file() and load_job(path, list(request.overrides)).sweep is not None:
        return _of_sweep(request, path)
    return _of_run(request)


def _of_run(request: Request) -> Chain:
    target = resolve(request.target, list(request.overrides), request.results, request.data_dir)
    run = target.run.path.absolute()
    _check(request, [target.job], request.target, run.parent)
    options = ["--accelerate-config", request.accelerate_config] if request.accelerate_config else []
    steps = pipeline(run, request.shards, options) if request.pipeline else [training(run, options)]
    jobs = _jobs(request, steps, target.job.name, run)
    return Chain(jobs, run / "slurm", Target(target.job, RunDir(run), request.data_dir))


def _of_sweep(request: Request, path: Path) -> Chain:
    from mathreason.sweep import load_sweep, results_of

    if request.pipeline or request.accelerate_config:
        raise InputError(
            f"{path} has a sweep: each of its runs is a whole pipeline on one GPU; "
            "leave out --pipeline and --accelerate-config"
        )
    found = load_sweep(path, list(request.overrides))
    root = results_of(found, request.results).absolute()
    _check(request, [run.job for run in found.runs], request.target, root)
    step = sweep(path.absolute(), request.overrides, len(found.runs))
    folder = root / found.id
    return Chain(_jobs(request, [step], found.job.name, folder), folder / "slurm", None)


def _jobs(request: Request, steps: list[Step], name: str, folder: Path) -> list[Job]:
    place = Place(
        Path.cwd(),
        folder / "slurm" / HELPER,
        variables(
            folder.parent,
            request.data_dir.absolute() if request.data_dir else None,
            request.runtime,
            request.image,
            request.max_restarts,
        ),
    )
    return jobs_of(steps, name, request.resources, place, folder / "slurm")


# -- what is refused -------------------------------------------------------------------------------


def _check(request: Request, jobs: list[JobConfig], where: str, results: Path) -> None:
    from mathreason.hub import require_local
    from mathreason.training.compatibility import Setting, require
    from mathreason.training.launch import Launch, planned_launch
    from mathreason.validation import check_job

    if request.data_dir is not None and not request.data_dir.is_dir():
        raise InputError(f"--data-dir {request.data_dir}: no such folder")
    launched = planned_launch(request.accelerate_config) if request.accelerate_config else Launch()
    launched = replace(launched, processes=request.resources.nodes * max(1, request.resources.gpus))
    for job in jobs:
        check_job(job, Path(where))
        require(Setting(job, launched), where)
        require_local(job, where, request.data_dir, request.overrides)
    refuse_unshared(results)
    if request.gpu_memory is not None:
        _refuse_too_large(jobs[0], request.gpu_memory, where)


def _refuse_too_large(job: JobConfig, memory: str, where: str) -> None:
    from mathreason.memory import bytes_of
    from mathreason.models import quiet_libraries
    from mathreason.plan import plan, said

    try:
        room = bytes_of(memory)
    except ValueError as error:
        raise InputError(f"--gpu-memory: {error}") from error
    quiet_libraries()
    document = plan(job, None, "cuda", room, tokens_per_second=1.0)
    if not document["training"]["fits"]:
        raise InputError(f"{where}: the training does not fit into {memory}:\n{said(document)}")
