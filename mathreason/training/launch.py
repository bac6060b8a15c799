"""How processes that train together are started, and what an accelerate configuration asks of them.

    mathreason train JOB --accelerate-config zero2        # start(...): the ranks, from one command
    torchrun --nproc-per-node 2 -m mathreason train JOB --accelerate-config zero2
    accelerate launch --config_file accelerate_configs/zero2.yaml -m mathreason train JOB

accelerate hands its configuration to the ranks as variables of the environment. `environment_of` makes the
same variables from the file, so that all three ways end in `current()`, which reads nothing else. The
processes that `start` makes are ranks on this machine; on several machines torchrun starts them.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mathreason.errors import InputError

LAUNCHER = "MATHREASON_LAUNCHER"
"""Variable that tells a rank the process which started it."""
NVME_PATH = "ACCELERATE_DEEPSPEED_OFFLOAD_{}_NVME_PATH"
GRACE_SECONDS = 30.0
"""How long the other ranks have to end after one has failed."""

_OF_THE_JOB = (
    "ACCELERATE_MIXED_PRECISION",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
    "ACCELERATE_GRADIENT_CLIPPING",
)
_PASSED_ON = ("ACCELERATE_", "FSDP_")
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@dataclass(frozen=True)
class Launch:
    """What holds for the ranks: their number, and who keeps which part of the model where.

    `zero` is DeepSpeed's stage, None without DeepSpeed; `optimizer` and `parameters` are none, cpu or nvme;
    `nvme_path` is the folder of what is on disk.
    """

    processes: int = 1
    zero: int | None = None
    fsdp: bool = False
    on_cpu: bool = False
    optimizer: str = "none"
    parameters: str = "none"
    nvme_path: str | None = None

    @property
    def engine(self) -> bool:
        """Whether DeepSpeed or FSDP brings gradients together, and not this package."""
        return self.zero is not None or self.fsdp

    @property
    def in_parts(self) -> bool:
        """Whether a rank holds only a part of the parameters, so that every pass needs all ranks."""
        return self.zero == 3 or self.fsdp

    @property
    def name(self) -> str:
        """For results and checkpoints: none, ddp, zero1 to zero3, fsdp."""
        if self.zero is not None:
            return f"zero{self.zero}"
        return "fsdp" if self.fsdp else "ddp" if self.processes > 1 else "none"


def launch_of(environment: Mapping[str, str], processes: int) -> Launch:
    """What variables that accelerate sets ask for."""

    def value(name: str, default: str = "none") -> str:
        return environment.get(f"ACCELERATE_{name}", default).lower()

    zero, optimizer, parameters = None, "none", "none"
    paths = [environment.get(NVME_PATH.format(what), "none") for what in ("OPTIMIZER", "PARAM")]
    if value("USE_DEEPSPEED") == "true":
        if value("DEEPSPEED_CONFIG_FILE") != "none":
            raise InputError(
                "deepspeed_config_file: give DeepSpeed's settings in the accelerate configuration itself "
                "(deepspeed_config: zero_stage, offload_optimizer_device ...), where they can be checked"
            )
        zero = int(value("DEEPSPEED_ZERO_STAGE", "2"))
        optimizer = value("DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE")
        parameters = value("DEEPSPEED_OFFLOAD_PARAM_DEVICE")
    return Launch(
        processes=processes,
        zero=zero,
        fsdp=value("USE_FSDP") == "true",
        on_cpu=value("USE_CPU") == "true",
        optimizer=optimizer,
        parameters=parameters,
        nvme_path=next((path for path in paths if path != "none"), None),
    )


def current() -> Launch:
    """What this process was started with."""
    return launch_of(os.environ, int(os.environ.get("WORLD_SIZE", "1")))


def is_rank() -> bool:
    """Whether this process was started as one of a group, by torchrun, accelerate or `start`."""
    return "RANK" in os.environ


def require_company() -> None:
    """Raise InputError when several processes were asked for and this is one of none, or alone.

    `accelerate launch --cpu --num_processes 2`, and any configuration of distributed_type MULTI_CPU, start
    one process: accelerate leaves the rest to mpirun and sets MASTER_PORT, but no rank. Processes of mpirun
    have ranks of MPI's own, so that each would train for itself.
    """
    if is_rank():
        return
    way_out = (
        "use `mathreason train JOB --accelerate-config cpu --processes N` or "
        "`torchrun --nproc-per-node N -m mathreason train JOB`"
    )
    if "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ:
        raise InputError(
            "accelerate launch was asked for several processes and started one (with --cpu, and with "
            f"distributed_type MULTI_CPU, it does); {way_out}"
        )
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"):
        if os.environ.get(name, "1") not in ("", "0", "1"):
            raise InputError(
                f"mpirun started {os.environ[name]} processes that would each train alone; {way_out}"
            )


def search_path() -> str:
    """PATH with this interpreter's own programs, such as the ninja that DeepSpeed compiles with."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


@contextmanager
def taken_over(run_id: str, folder: str | None) -> Iterator[None]:
    """Let the job decide what accelerate's configuration says as well, and keep what is on disk apart.

    DeepSpeed names its files by rank only, so that two runs in one folder would read each other's: each run
    has a folder of its own in `folder` (or the configuration's), which is gone at the end.
    """
    for name in _OF_THE_JOB:
        os.environ.pop(name, None)
    os.environ["PATH"] = search_path()
    here = current()
    place = folder or here.nvme_path
    if place is None or "nvme" not in (here.optimizer, here.parameters):
        yield
        return
    own = Path(place) / f"mathreason-{run_id}"
    own.mkdir(exist_ok=True)
    for what in ("OPTIMIZER", "PARAM"):
        os.environ[NVME_PATH.format(what)] = str(own)
    try:
        yield
    finally:
        shutil.rmtree(own, ignore_errors=True)


# -- the configuration -----------------------------------------------------------------------------


def shipped() -> Path:
    """Folder of the configurations that come with the package."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "accelerate_configs"
    return inside if inside.is_dir() else package.parent / "accelerate_configs"


def config_file(name: str) -> Path:
    """The file behind NAME or FILE; InputError when there is none."""
    for path in (Path(name), shipped() / f"{name}.yaml"):
        if path.is_file():
            return path
    names = ", ".join(sorted(path.stem for path in shipped().glob("*.yaml")))
    raise InputError(f"--accelerate-config {name}: there is no such file, nor is it one of {names}")


def environment_of(file: Path, processes: int | None = None) -> tuple[dict[str, str], int]:
    """The variables that `accelerate launch --config_file FILE` sets for the ranks, and how many ranks.

    `processes` takes the place of the file's num_processes. Raises InputError when accelerate cannot read
    the file or it asks for more than this machine alone.
    """
    from accelerate.commands import launch as accelerate_launch

    options = ["--config_file", str(file), *(["--num_processes", str(processes)] if processes else [])]
    try:
        arguments = accelerate_launch.launch_command_parser().parse_args([*options, "-m", "mathreason"])
        arguments, _, _ = accelerate_launch._validate_launch_command(arguments)
        variables = _variables(arguments)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file}: accelerate cannot read it: {' '.join(str(error).split())[:300]}"
        ) from error
    if (arguments.num_machines or 1) > 1:
        raise InputError(
            f"{file}: num_machines is {arguments.num_machines}; on several machines start the processes with "
            "torchrun (--nnodes, --rdzv-endpoint) and give it --accelerate-config as well"
        )
    kept = {name: text for name, text in variables.items() if name.startswith(_PASSED_ON)}
    for what in ("optimizer", "param"):  # accelerate reads these of the file and does not pass them on
        path = getattr(arguments, f"offload_{what}_nvme_path", None)
        if arguments.use_deepspeed and path not in (None, "none"):
            kept[NVME_PATH.format(what.upper())] = str(path)
    if arguments.cpu or arguments.use_cpu:
        kept |= {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    return kept, int(arguments.num_processes)


def planned_launch(config: str) -> Launch:
    """What NAME or FILE asks for, without starting anything."""
    return launch_of(*environment_of(config_file(config)))


def _variables(arguments: Any) -> dict[str, str]:
    from accelerate.utils import launch as by_kind

    variables: dict[str, str]
    if arguments.use_deepspeed:
        arguments.deepspeed_fields_from_accelerate_config = ""
        variables = by_kind.prepare_deepspeed_cmd_env(arguments)[1]
    elif arguments.use_fsdp or arguments.multi_gpu:
        variables = by_kind.prepare_multi_gpu_env(arguments)
    else:
        variables = by_kind.prepare_simple_launcher_cmd_env(arguments)[1]
    return variables


# -- the processes ---------------------------------------------------------------------------------


def start(command: Sequence[str], processes: int) -> int:
    """Run `command` as `processes` ranks of this machine; the exit code, 0 only when it is each one's.

    For a rank that a signal ended it is 128 and the signal's number, as shells say.

    A signal to stop is passed on to all of them, and they stop together. When one fails the others, which
    would wait for it, are ended.
    """
    received: list[int] = []
    before = {number: signal.signal(number, lambda n, _: received.append(n)) for number in _SIGNALS}
    shared = {
        **os.environ,
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": _free_port(),
        LAUNCHER: str(os.getpid()),
    }
    shared.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    ranks: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(processes):
            # A session of its own: Ctrl-C at a terminal reaches a rank from here only, and so only once.
            variables = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            ranks.append(subprocess.Popen(command, env=variables, start_new_session=True))
        return _watched(ranks, received)
    finally:
        for process in ranks:
            if process.poll() is None:
                process.kill()
        for number, handler in before.items():
            signal.signal(number, handler)


def _watched(ranks: list[subprocess.Popen[bytes]], received: list[int]) -> int:
    given_up: float | None = None
    first = 0
    while True:
        codes = [process.poll() for process in ranks]
        failed = [code for code in codes if code]
        # Of the ranks that failed first; those that failed for want of them say less.
        first = first or max((code if code > 0 else 128 - code for code in failed), default=0)
        if None not in codes or (given_up is not None and time.monotonic() > given_up):
            return first
        while received:
            number = received.pop(0)
            for process in ranks:
                process.send_signal(number)
        if failed and given_up is None:
            given_up = time.monotonic() + GRACE_SECONDS
            for process in ranks:
                process.terminate()
        time.sleep(0.1)


def _free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def end_with_launcher() -> None:
    """Let this rank be asked to stop (SIGTERM) when the process that started it is gone, however it ended."""
    if LAUNCHER not in os.environ or not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, prctl(2)
    if str(os.getppid()) != os.environ[LAUNCHER]:  # it went before this was in force
        raise InputError("the process that started the ranks is gone")
