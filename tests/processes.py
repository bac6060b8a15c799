"""The program in processes of its own that start in a moment, for tests that stop and kill it many times.

    process = start("train", job_file, "--results", results)
    os.kill(process.pid, signal.SIGKILL)
    assert ended(process) == -signal.SIGKILL

They are forked from a server process that has imported everything, so a start does not cost the seconds of
importing torch. A group of ranks gets the variables that torchrun would set.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from support import ROOT

from mathreason.results import RunDir, read_appended, read_json

PATIENCE_SECONDS = 240.0

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["mathreason.cli.main", "mathreason.pipeline", "mathreason.training.train", "mathreason.training.trainer"]
)


def _main(arguments: list[str], environment: dict[str, str], output: Path) -> None:
    os.environ.update(environment)
    os.chdir(ROOT)
    with output.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch

    from mathreason.cli.main import main

    torch.set_num_threads(1)
    sys.argv = ["mathreason", *arguments]
    main()


def start(*arguments: str | Path, environment: dict[str, str] | None = None, output: Path) -> Any:
    """`mathreason …`, its screen going to `output`."""
    process = _context.Process(
        target=_main, args=([*map(str, arguments)], {"HF_HUB_OFFLINE": "1", **(environment or {})}, output)
    )
    process.start()
    return process


def start_ranks(count: int, *arguments: str | Path, output: Path) -> list[Any]:
    """`count` processes that train together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        start(*arguments, environment={**shared, "RANK": str(i), "LOCAL_RANK": str(i)}, output=output)
        for i in range(count)
    ]


def ended(process: ForkServerProcess) -> int:
    """Exit code, negative for a signal."""
    process.join(PATIENCE_SECONDS)
    assert process.exitcode is not None, "the process does not end"
    return process.exitcode


@contextmanager
def cleared(processes: list[Any]) -> Iterator[None]:
    """Leave no process behind."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def wait_until(moment: Callable[[], bool], process: ForkServerProcess) -> None:
    """Return as soon as `moment` holds; fails when the process ends before."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not moment():
        assert process.exitcode is None, "the process ended before its moment came"
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.002)


def run_in(results: Path) -> RunDir | None:
    """The one run in `results`, None before there is one."""
    found = [path for path in results.iterdir() if (path / "run.json").is_file()] if results.is_dir() else []
    return RunDir(found[0]) if found else None


def steps_logged(results: Path) -> int:
    run = run_in(results)
    lines = read_appended(run.log) if run else []
    return lines[-1]["step"] if lines else 0


def state(results: Path) -> dict[str, Any]:
    run = run_in(results)
    assert run is not None
    return read_json(run.run)


def adapter_bytes(results: Path) -> dict[str, bytes]:
    run = run_in(results)
    assert run is not None
    return {path.name: path.read_bytes() for path in sorted(run.adapter.iterdir())}


def losses(results: Path) -> list[tuple[int, str, float]]:
    """Every line of the log: step, what was measured, value."""
    run = run_in(results)
    assert run is not None
    kinds = ("loss", "supervised_tokens", "validation_loss")
    return [(line["step"], k, line[k]) for line in read_appended(run.log) for k in kinds if k in line]
