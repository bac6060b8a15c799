"""What does not work together, said before anything is loaded: one table of combinations.

    require(Setting(job, launch), "jobs/mistral_7b.yaml")        # InputError: file, key, reason, way out

Each row names the key to change, when it applies, why, and the nearest thing that works. Rows about the
machine apply only where it is known (`machine`), which is when training starts, not on a login node.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mathreason.config import JobConfig
from mathreason.errors import InputError
from mathreason.training.launch import Launch, search_path
from mathreason.training.operators import choose_accelerator, is_built


@dataclass(frozen=True)
class Machine:
    """What the processes run on: GPUs this process sees, and whether they compute in bfloat16."""

    gpus: int
    bfloat16: bool


@dataclass(frozen=True)
class Setting:
    """What a row looks at."""

    job: JobConfig
    launch: Launch = field(default_factory=Launch)
    machine: Machine | None = None

    @property
    def on_cpu(self) -> bool:
        """Whether training runs on the CPU; unknown counts as no."""
        return self.launch.on_cpu or (self.machine is not None and self.machine.gpus == 0)

    @property
    def processes_here(self) -> int:
        """Processes on this node: the launcher says how many of all (torchrun's LOCAL_WORLD_SIZE)."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", self.launch.processes))

    @property
    def nvme_path(self) -> str | None:
        """Folder of what is kept on disk: the job's, else the launcher's."""
        return self.job.model.offload_folder or self.launch.nvme_path

    @property
    def on_disk(self) -> bool:
        """Whether DeepSpeed keeps anything on disk."""
        return "nvme" in (self.launch.optimizer, self.launch.parameters)

    @property
    def builds(self) -> bool:
        """Whether DeepSpeed compiles its own optimizer at the first start."""
        return self.launch.zero is not None and self.launch.optimizer != "none"


@dataclass(frozen=True)
class Row:
    """One combination that does not work. `reason` and `instead` may name the setting's values in braces."""

    key: str
    applies: Callable[[Setting], bool]
    reason: str
    instead: str


def _uneven(setting: Setting) -> bool:
    return setting.job.training.gradient_accumulation % setting.launch.processes != 0


def _compiles(on_cpu: bool) -> bool:
    if importlib.util.find_spec("deepspeed") is None:
        return True  # another row says what is missing
    choose_accelerator(on_cpu)
    return is_built("cpu_adam") or all(shutil.which(name, path=search_path()) for name in ("g++", "ninja"))


def _reads_asynchronously(on_cpu: bool) -> bool:
    if importlib.util.find_spec("deepspeed") is None:
        return True  # likewise
    choose_accelerator(on_cpu)
    from deepspeed.ops.op_builder import AsyncIOBuilder

    return bool(AsyncIOBuilder().is_compatible(verbose=False))


def _no_folder(setting: Setting) -> bool:
    path = setting.nvme_path
    return setting.on_disk and (path is None or not (Path(path).is_dir() and os.access(path, os.W_OK)))


TABLE = (
    Row(
        "model.quantization",
        lambda s: s.launch.zero == 3 and s.job.model.quantization == "nf4",
        "nf4 keeps weights in 4-bit blocks, which DeepSpeed ZeRO-3 cannot divide between processes",
        "set quantization: none for zero3, or keep nf4 with --accelerate-config ddp",
    ),
    Row(
        "model.max_memory",
        lambda s: s.launch.engine and s.job.model.max_memory is not None,
        "DeepSpeed and FSDP place the weights themselves",
        "leave max_memory out, or train without them",
    ),
    Row(
        "model.max_memory",
        lambda s: s.job.model.max_memory is not None and s.job.training.approach == "full",
        "approach full changes all weights, and max_memory keeps a part of them on disk",
        "use approach: lora, or train without max_memory on DeepSpeed (zero3_cpu_offload)",
    ),
    Row(
        "model.max_memory",
        lambda s: (
            s.job.model.max_memory is not None
            and s.machine is not None
            and not s.on_cpu
            and not s.launch.engine
        ),
        "weights kept outside of the GPU are taken away from it after the forward pass, so that the backward "
        "pass finds none",
        "use quantization: nf4, or DeepSpeed (zero3_cpu_offload), or train on the CPU "
        "(CUDA_VISIBLE_DEVICES=''), which reads them from disk",
    ),
    Row(
        "training.optimizer",
        lambda s: s.launch.fsdp and s.job.training.optimizer == "paged_adamw_32bit",
        "the paged optimizer moves whole states between GPU and main memory, and FSDP divides them",
        "set optimizer: adamw_torch",
    ),
    Row(
        "training.approach",
        lambda s: s.launch.parameters == "nvme" and s.job.training.approach == "lora",
        "with parameters on disk DeepSpeed fails at the small tensors of an adapter (swap buffer already "
        "assigned)",
        "keep parameters in main memory, optimizer states on disk: --accelerate-config zero3_nvme_offload",
    ),
    Row(
        "training.approach",
        lambda s: s.launch.in_parts and s.job.training.approach == "full",
        "the whole model is written from each checkpoint, and here each process holds only a part of it",
        "train all weights with --accelerate-config zero2 or ddp, or an adapter (approach: lora)",
    ),
    Row(
        "lora.use_dora",
        lambda s: s.launch.in_parts and s.job.lora.use_dora,
        "DoRA needs the length of every whole weight in each pass, and here a process holds only a part",
        "set use_dora: false, or train with --accelerate-config zero2 or ddp",
    ),
    Row(
        "training.select_by",
        lambda s: s.launch.in_parts and s.job.training.select_by == "accuracy",
        "each process generates by itself, which it cannot with parameters in parts on several",
        "set select_by: loss, or train with --accelerate-config zero2 or ddp",
    ),
    Row(
        "training.gradient_accumulation",
        _uneven,
        "gradient_accumulation is {job.training.gradient_accumulation}, which {launch.processes} processes "
        "cannot share evenly",
        "make it a multiple of {launch.processes} (and micro_batch smaller, to keep the global batch)",
    ),
    Row(
        "model.dtype",
        lambda s: s.on_cpu and s.job.model.dtype == "float16",
        "float16 training needs a GPU",
        "set dtype: bfloat16 or float32",
    ),
    Row(
        "model.dtype",
        lambda s: s.on_cpu and s.launch.zero is not None and s.job.model.dtype == "bfloat16",
        "on a CPU DeepSpeed trains in float32 only",
        "set dtype: float32, or train without DeepSpeed (--accelerate-config cpu)",
    ),
    Row(
        "model.dtype",
        lambda s: (
            bool(s.machine and s.machine.gpus and not s.machine.bfloat16)
            and s.launch.zero is not None
            and s.job.model.dtype == "bfloat16"
        ),
        "this GPU does not compute in bfloat16, and DeepSpeed would",
        "set dtype: float32 or float16",
    ),
    Row(
        "--accelerate-config",
        lambda s: s.launch.fsdp and s.on_cpu,
        "on a CPU FSDP through accelerate becomes plain data parallelism without a word: nothing is divided",
        "use ddp or cpu, or zero3_cpu_offload to divide the parameters",
    ),
    Row(
        "--accelerate-config",
        lambda s: s.launch.parameters != "none" and s.launch.zero in (0, 1, 2),
        "offload_param_device is {launch.parameters}, but DeepSpeed moves parameters only in stage 3, not "
        "{launch.zero}",
        "set zero_stage: 3, or offload_param_device: none",
    ),
    Row(
        "--accelerate-config",
        lambda s: bool(s.machine and 0 < s.machine.gpus < s.processes_here and not s.on_cpu),
        "{processes_here} processes need as many GPUs, and here are {machine.gpus}",
        "start {machine.gpus}, or train on the CPU with --accelerate-config cpu",
    ),
    Row(
        "--accelerate-config",
        lambda s: (
            s.machine is not None
            and s.launch.zero is not None
            and importlib.util.find_spec("deepspeed") is None
        ),
        "DeepSpeed is not installed",
        "pip install 'mathreason[deepspeed]', or use ddp",
    ),
    Row(
        "--accelerate-config",
        lambda s: s.machine is not None and s.builds and not _compiles(s.on_cpu),
        "optimizer states outside of the GPU need DeepSpeed's own optimizer, which is compiled at the first "
        "start, and here is no g++ or no ninja",
        "install both, or use zero2 or ddp",
    ),
    Row(
        "--accelerate-config",
        lambda s: s.machine is not None and s.on_disk and not _reads_asynchronously(s.on_cpu),
        "states on disk need libaio, which is not installed",
        "install libaio-dev (Debian, Ubuntu) or libaio-devel, or use zero3_cpu_offload",
    ),
    Row(
        "model.offload_folder",
        lambda s: s.machine is not None and _no_folder(s),
        "states on disk need a folder that can be written, and {nvme_path} is none",
        "name one on a local disk (--set model.offload_folder=/local/scratch)",
    ),
)
"""Every combination that is refused."""


def problems(setting: Setting) -> list[tuple[str, str]]:
    """(key, reason; what to do) of each row that applies."""
    return [
        (row.key, f"{row.reason}; {row.instead}".format_map(vars_of(setting)))
        for row in TABLE
        if row.applies(setting)
    ]


def vars_of(setting: Setting) -> dict[str, object]:
    """What the texts of the table may name."""
    return {
        "job": setting.job,
        "launch": setting.launch,
        "machine": setting.machine,
        "nvme_path": setting.nvme_path,
        "processes_here": setting.processes_here,
    }


def require(setting: Setting, where: str) -> None:
    """Raise InputError, one line for each problem, when the setting cannot work; `where` is file or run."""
    if found := problems(setting):
        raise InputError("\n".join(f"{where}: {key}: {text}" for key, text in found))


def this_machine() -> Machine:
    """The machine as torch sees it."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Machine(gpus, gpus > 0 and torch.cuda.is_bf16_supported(including_emulation=False))
