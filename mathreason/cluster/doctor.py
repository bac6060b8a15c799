"""Is this machine fit for the work: each part looked at by using it, with what is wrong and how to mend it.

    checks = examine([job], "jobs/mistral_7b.yaml", Path("results"), data_dir)
    broken = [check for check in checks if check.is_broken]

A check is `ok`, a `warning` (the work goes on, slower or with a fallback), `broken` (it would fail), or
`absent` (not here, and nobody asked for it).
"""

from __future__ import annotations

import importlib.util
import mmap
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from mathreason.cluster import slurm
from mathreason.cluster.submit import file_system_of
from mathreason.config import JobConfig
from mathreason.errors import MathreasonError
from mathreason.results import fsync_directory

LITTLE_BYTES = 10 * 2**30
"""Free space below which a warning is due: less than one 7B model in 16 bit."""
PATIENCE_SECONDS = 20.0


@dataclass(frozen=True)
class Check:
    """What was found of one part; `remedy` says what to do about it."""

    part: str
    state: str
    found: str
    remedy: str = ""

    @property
    def is_broken(self) -> bool:
        return self.state == "broken"


def examine(
    jobs: Sequence[JobConfig],
    where: str,
    results: Path,
    data_dir: Path | None,
    overrides: Sequence[str] = (),
) -> list[Check]:
    """All checks, in the order of the table. `jobs`, of a sweep all its runs, decide what is needed.

    `where` and `overrides` are the job file and its --set, as the user gave them.
    """
    checks = [
        *_gpu(),
        _bitsandbytes(jobs),
        _deepspeed(),
        _flash_attention(jobs),
        *_space(results),
        _kernel_folder(),
        _shared_folder(results),
        _slurm(),
        *_containers(),
    ]
    return [*checks, *_jobs(jobs, where, data_dir, overrides)] if jobs else checks


# -- what computes ---------------------------------------------------------------------------------


def _gpu() -> Iterator[Check]:
    import torch

    built_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPUs"
    build = f"torch {torch.__version__}, built for {built_for}"
    driver = _driver()
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(index)
            found = f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB"
            bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
            yield Check(f"GPU {index}", "ok" if bf16 else "warning", found, "" if bf16 else "float32 is used")
        yield Check("driver and CUDA", "ok", f"driver {driver or 'unknown'}; {build}")
    elif driver:
        remedy = (
            "install torch's CUDA build" if torch.version.cuda is None else "update the driver for this CUDA"
        )
        yield Check("GPU", "broken", f"driver {driver} is here, but torch sees no GPU: {build}", remedy)
    else:
        yield Check("GPU", "absent", f"none: everything runs on the CPU; {build}")


def _driver() -> str | None:
    done = _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return done.splitlines()[0] if done else None


def _bitsandbytes(jobs: Sequence[JobConfig]) -> Check:
    needed = any(job.model.quantization == "nf4" for job in jobs)
    try:
        import torch
        from bitsandbytes import functional

        device = "cuda" if torch.cuda.is_available() else "cpu"
        weights = torch.linspace(-1, 1, 4096, device=device).reshape(64, 64)
        packed, scales = functional.quantize_4bit(weights, quant_type="nf4")
        error = (functional.dequantize_4bit(packed, scales) - weights).abs().max().item()
    except Exception as problem:  # whatever a foreign library's binaries do is what is looked for here
        said = " ".join(str(problem).split())[:200]
        return Check("bitsandbytes", "broken" if needed else "warning", said, "pip install -U bitsandbytes")
    fits = error < 0.2
    return Check(
        "bitsandbytes",
        "ok" if fits else "broken",
        f"{metadata.version('bitsandbytes')}: nf4 there and back on {device}, largest error {error:.2f}",
        "" if fits else "pip install --force-reinstall bitsandbytes",
    )


def _deepspeed() -> Check:
    if importlib.util.find_spec("deepspeed") is None:
        return Check("DeepSpeed", "absent", "not installed", "pip install 'mathreason[deepspeed]' for ZeRO")
    import torch

    from mathreason.training.operators import choose_accelerator, is_built

    choose_accelerator(not torch.cuda.is_available())
    built = [name for name in ("cpu_adam", "async_io") if is_built(name)]
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    found = f"{metadata.version('deepspeed')}; built: {', '.join(built) or 'nothing'}"
    if len(built) == 2 or compiler:
        rest = "" if len(built) == 2 else "; the rest is compiled at the first start, which takes minutes"
        return Check("DeepSpeed", "ok", found + rest)
    return Check(
        "DeepSpeed", "warning", f"{found}; no C++ compiler", "install g++ and libaio-dev for offloading"
    )


def _flash_attention(jobs: Sequence[JobConfig]) -> Check:
    here = importlib.util.find_spec("flash_attn") is not None
    asked = any(job.model.attention == "flash_attention_2" for job in jobs)
    if here:
        return Check("FlashAttention", "ok", metadata.version("flash-attn"))
    remedy = "pip install 'mathreason[gpu]'"
    return Check("FlashAttention", "warning" if asked else "absent", "not installed; sdpa is used", remedy)


# -- where things lie ------------------------------------------------------------------------------


def _space(results: Path) -> Iterator[Check]:
    from huggingface_hub.constants import HF_HUB_CACHE

    places = {
        "results": results,
        "model cache": Path(HF_HUB_CACHE),
        "temporary files": Path(tempfile.gettempdir()),
    }
    for name, path in places.items():
        there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
        free = shutil.disk_usage(there).free
        found = f"{path}: {free / 2**30:.0f} GiB free ({file_system_of(path)})"
        little = free < LITTLE_BYTES
        yield Check(f"space for {name}", "warning" if little else "ok", found, "make room" if little else "")


def _kernel_folder() -> Check:
    """Whether programs compiled at run time can be loaded from where Triton keeps them."""
    folder = Path(os.environ.get("TRITON_CACHE_DIR", "~/.triton")).expanduser().absolute()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    remedy = "set TRITON_CACHE_DIR to a folder of a file system mounted with exec (docker: --tmpfs /tmp:exec)"
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.truncate(mmap.PAGESIZE)
            flags, rights = mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC
            mmap.mmap(file.fileno(), mmap.PAGESIZE, flags=flags, prot=rights).close()
    except OSError as error:
        return Check("compiled kernels", "warning", f"{folder}: {error.strerror}", remedy)
    return Check("compiled kernels", "ok", f"{folder}: written, loaded")


def _shared_folder(results: Path) -> Check:
    """Write, sync, rename and read back as every result is written; remove what was written."""
    name = f".doctor-{os.getpid()}-{secrets.token_hex(4)}"
    temporary, final = results / f"{name}.tmp", results / name
    made = not results.exists()
    try:
        results.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(b"whole")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(final)
        fsync_directory(results)
        right = final.read_bytes() == b"whole" and not temporary.exists()
    except OSError as error:
        remedy = "choose another place with --results DIR or MATHREASON_RESULTS"
        return Check("results folder", "broken", f"{results}: {error.strerror}", remedy)
    finally:
        # What could not be written cannot be removed either; a folder that another has begun to use stays.
        with suppress(OSError):
            for path in (temporary, final):
                path.unlink(missing_ok=True)
            if made:
                results.rmdir()
    found = f"{results}: written, synced, renamed and read back ({file_system_of(results)})"
    return Check(
        "results folder", "ok" if right else "broken", found, "" if right else "use another file system"
    )


# -- what starts jobs ------------------------------------------------------------------------------


def _slurm() -> Check:
    if shutil.which("sbatch") is None:
        return Check("Slurm", "absent", "no sbatch here")
    nodes = slurm.hosts()
    if not nodes:
        return Check("Slurm", "warning", "sbatch is here, but no controller answers", "see `scontrol ping`")
    return Check("Slurm", "ok", f"{_said('sbatch', '--version')}, {len(nodes)} nodes")


def _containers() -> Iterator[Check]:
    found = [name for name in ("docker", "podman", "apptainer", "enroot") if shutil.which(name)]
    if not found:
        yield Check("container runtime", "absent", "none of docker, podman, apptainer, enroot")
    for name in found:
        version = (
            _said(name, "version", "--format", "{{.Server.Version}}")
            if name == "docker"
            else _said(name, "--version")
        )
        if version is None:
            yield Check(name, "warning", "is here, but does not answer", f"start it, or see `{name} info`")
        else:
            yield Check(name, "ok", version)


def _said(*command: str) -> str | None:
    """What a program prints; None when it is not here, fails or hangs."""
    try:
        done = subprocess.run(command, text=True, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


# -- the job ---------------------------------------------------------------------------------------


def _jobs(
    jobs: Sequence[JobConfig], where: str, data_dir: Path | None, overrides: Sequence[str]
) -> Iterator[Check]:
    from mathreason.hub import is_offline, require_local
    from mathreason.training.compatibility import Setting, require, this_machine
    from mathreason.validation import check_job

    checks: dict[str, Callable[[JobConfig], None]] = {
        "job: files": lambda job: check_job(job, Path(where)),
        "job: this machine": lambda job: require(Setting(job, machine=this_machine()), where),
        "job: model and data": lambda job: require_local(job, where, data_dir, overrides),
    }
    for part, check in checks.items():
        failing = "broken"
        if part == "job: model and data" and not is_offline(unless_said=False):
            failing = "warning"  # it will be fetched
        found: dict[Check, None] = {}  # runs of a sweep mostly lack the same
        for job in jobs:
            try:
                check(job)
            except MathreasonError as error:
                found |= {Check(part, failing, line): None for line in str(error).splitlines()}
        yield from found or [Check(part, "ok", where)]
