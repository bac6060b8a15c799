"""What the user asked to be submitted, checked and turned into a chain of jobs.

chain = chain_of(Request("jobs/mistral_7b.yaml", pipeline=True))
prepare(chain)                          # then chain.jobs, chain.folder for `described` and `submit`
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from mathreason.cluster import slurm
from mathreason.cluster.scripts import (
    Place,
    Resources,
    Step,
    pipeline,
    refuse_unmountable,
    sweep,
    training,
    variables,
)
from mathreason.cluster.submit import HELPER, Job, jobs_of, refuse_second, refuse_unshared
from mathreason.config import JobConfig
from mathreason.errors import InputError
from mathreason.jobfile import dump_job, load_job
from mathreason.results import RunDir, make_directory, write_text
from mathreason.session import Target, resolve, set_up
from mathreason.training.launch import Launch, planned_launch

OFFLINE = "HF_HUB_OFFLINE"
JOB = "job.yaml"


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
    """Jobs in the order in which they are submitted, for the run `target` or the runs of `sweep`."""

    jobs: list[Job]
    folder: Path
    target: Target | None
    sweep: JobConfig | None = None


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
    folder = root / found.id
    step = sweep(folder / "slurm" / JOB, len(found.runs))
    return Chain(_jobs(request, [step], found.job.name, folder), folder / "slurm", None, found.job)


def prepare(chain: Chain) -> None:
    """Write what the jobs will read: the resolved job, which does not change with the user's file.

    Raises InputError, with nothing written, where jobs of an earlier submission wait or run.
    """
    refuse_second(chain.folder)
    if chain.target is not None:
        set_up(chain.target)
    if chain.sweep is not None:
        make_directory(chain.folder)
        write_text(chain.folder / JOB, dump_job(chain.sweep))


def _jobs(request: Request, steps: list[Step], name: str, folder: Path) -> list[Job]:
    found = variables(
        folder.parent,
        request.data_dir.absolute() if request.data_dir else None,
        request.runtime,
        request.image,
        request.max_restarts,
    )
    if _nodes_online():
        found[OFFLINE] = os.environ[OFFLINE]
    place = Place(Path.cwd(), folder / "slurm" / HELPER, found)
    return jobs_of(steps, name, request.resources, place, folder / "slurm")


# -- what is refused -------------------------------------------------------------------------------


def _check(request: Request, jobs: list[JobConfig], where: str, results: Path) -> None:
    from mathreason.hub import require_local
    from mathreason.training.compatibility import Setting, require
    from mathreason.validation import check_job

    if request.data_dir is not None and not request.data_dir.is_dir():
        raise InputError(f"--data-dir {request.data_dir}: no such folder")
    if "\\" in str(results):  # of a log's path, where it takes the meaning from what follows
        raise InputError(
            f"Slurm can write no log into {results}, for the backslash in its name; use another folder"
        )
    if request.runtime == "docker" and request.resources.nodes > 1:
        raise InputError(
            "--runtime docker is for one node, as a cancelled job would leave containers on others; "
            "choose apptainer or pyxis"
        )
    refuse_unmountable(request.runtime, _mounted(request, results))
    launched = _launch_of(request)
    for job in jobs:
        check_job(job, Path(where))
        require(Setting(job, launched), where)
        if not _nodes_online():
            require_local(job, where, request.data_dir, request.overrides)
    refuse_unshared(results)
    if room := _room(request, launched):
        for job in _of_different_size(jobs):
            _refuse_too_large(job, *room, where)


def _room(request: Request, launched: Launch) -> tuple[int, str] | None:
    """Bytes of one GPU, and what to call them; None where that is not known, or no measure of the job."""
    from mathreason.memory import bytes_of

    asked = request.resources
    if request.gpu_memory is None:
        # With parts of a model elsewhere, or its config perhaps only where the nodes are, there is no plan.
        planned = asked.gpus and not launched.engine and not _nodes_online()
        elsewhere = any(option.startswith(("partition", "clusters")) for option in asked.extra)
        named = asked.partition or os.environ.get("SBATCH_PARTITION")
        largest = slurm.largest_gpu(named) if planned and not elsewhere else None
        return (largest * 2**30, f"{largest} GiB, the largest GPU there is") if largest else None
    if launched.engine:
        raise InputError(
            f"--gpu-memory: the plan is of a whole model on each GPU, and {request.accelerate_config} "
            "keeps parts of it elsewhere; leave out --gpu-memory"
        )
    try:
        return bytes_of(request.gpu_memory), request.gpu_memory
    except ValueError as error:
        raise InputError(f"--gpu-memory: {error}") from error


def _mounted(request: Request, results: Path) -> list[Path]:
    """Folders that a container sees, as `visible_folders` of slurm/common.sh has them."""
    from huggingface_hub.constants import HF_HOME, HF_HUB_CACHE

    given = [request.data_dir] if request.data_dir else []
    return [Path.cwd(), results, *given, Path(HF_HOME), Path(HF_HUB_CACHE)]


def _launch_of(request: Request) -> Launch:
    """The launch as `train` of slurm/common.sh makes it: one rank for each GPU."""
    nodes, gpus = request.resources.nodes, request.resources.gpus
    planned = planned_launch(request.accelerate_config) if request.accelerate_config else Launch()
    if nodes == 1 and gpus == 0:  # `mathreason train` alone, which starts as many as the configuration says
        return planned
    return replace(planned, processes=nodes * max(1, gpus))


def _nodes_online() -> bool:
    """Whether who submits has said so; the batch scripts take nodes to be offline otherwise."""
    from mathreason.hub import is_offline

    return not is_offline(unless_said=True)


def _of_different_size(jobs: list[JobConfig]) -> list[JobConfig]:
    """One of those jobs whose memory is the same, as seeds and data do not change it."""
    found: dict[str, JobConfig] = {}
    for job in jobs:
        shape = job.model_dump_json(include={"model", "lora", "training"}, exclude={"training": {"seed"}})
        found.setdefault(f"{shape} {job.data.max_length}", job)
    return list(found.values())


def _refuse_too_large(job: JobConfig, room: int, name: str, where: str) -> None:
    from mathreason.models import quiet_libraries
    from mathreason.plan import plan, said

    quiet_libraries()
    document = plan(job, None, "cuda", room, tokens_per_second=1.0)
    if not document["training"]["fits"]:
        raise InputError(f"{where}: the training does not fit into {name}:\n{said(document)}")
