"""Processes that train together: who this one is, and what they tell each other.

    torchrun --nproc-per-node 2 -m mathreason train jobs/mistral_7b.yaml

Each process is a rank. Rank 0 alone prepares data, writes and speaks; the others compute. torchrun says
who is who in RANK and WORLD_SIZE. Without it there is one rank, and nothing here costs anything.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from mathreason.training import launch
from mathreason.training.operators import choose_accelerator

PATIENCE = timedelta(hours=2)
"""How long ranks wait for each other: rank 0 may be preparing data."""
BUCKET_BYTES = 64 << 20
"""Gradients in one message, and so the memory that averaging them takes: not that of all gradients again."""


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def world_size() -> int:
    """Number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join() -> None:
    """Connect the ranks (gloo on CPUs, NCCL on GPUs), once, before the first barrier.

    Raises `stopping.Stopped` when a stop is asked for while one of them has not come.
    """
    here = launch.current()
    if here.processes == 1 and here.zero is None:
        return
    import torch

    if torch.distributed.is_initialized():
        return
    on_cpu = not torch.cuda.is_available()
    choose_accelerator(on_cpu)
    _unless_stopped(lambda: _connect(on_cpu, here.zero is not None))
    if not on_cpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))  # CUDA keeps it for each thread


def _connect(on_cpu: bool, deepspeed: bool) -> None:
    from accelerate import PartialState

    # accelerate takes a CPU group for DeepSpeed's only when it is not told that it is one.
    backend = "gloo" if on_cpu and deepspeed else None
    PartialState(cpu=on_cpu and not deepspeed, backend=backend, timeout=PATIENCE)


def _unless_stopped(work: Callable[[], None]) -> None:
    """`work`, which cannot be interrupted, in a thread; `Stopped` as soon as a stop is asked for."""
    from mathreason.training import stopping

    failed: list[BaseException] = []

    def attempt() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
        request = stopping.current()
        if thread.is_alive() and request is not None and (code := request.code()):
            raise request.obey(code)
    if failed:
        raise failed[0]


def leave() -> None:
    """Part from the other ranks: what follows is the work of one process."""
    if joined():
        import torch

        torch.distributed.destroy_process_group()


def joined() -> bool:
    """Whether this process is connected to others, so that it must not end alone."""
    if world_size() == 1 and launch.current().zero is None:
        return False
    import torch

    return bool(torch.distributed.is_initialized())


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1:
        import torch

        torch.distributed.barrier()


def gathered(values: Sequence[float]) -> list[list[float]]:
    """`values` of each rank, which all have the same number of them."""
    if world_size() == 1:
        return [list(values)]
    import torch

    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    mine = torch.tensor(values, dtype=torch.float64, device=device)
    everyone = [torch.empty_like(mine) for _ in range(world_size())]
    torch.distributed.all_gather(everyone, mine)
    return [each.tolist() for each in everyone]


def largest_of_ranks(value: float) -> float:
    """The largest `value` of any rank."""
    return max(values[0] for values in gathered([value]))


def gathered_names(names: list[str]) -> list[str]:
    """The `names` of all ranks, one after the other."""
    if world_size() == 1:
        return names
    import torch

    everyone: list[list[str]] = [[] for _ in range(world_size())]
    torch.distributed.all_gather_object(everyone, names)
    return [name for each in everyone for name in each]


def average_gradients(model: Any) -> None:
    """Replace each gradient by its mean over the ranks, in messages of up to `BUCKET_BYTES`."""
    if world_size() == 1:
        return
    import torch

    gradients = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    for bucket in _buckets(gradients):
        parts = [gradient.flatten() for gradient in bucket]  # no copies
        flat = torch.cat(parts) if len(parts) > 1 else parts[0]
        torch.distributed.all_reduce(flat)
        flat /= world_size()
        for gradient, mean in zip(bucket, flat.split([part.numel() for part in parts]), strict=True):
            gradient.copy_(mean.view_as(gradient))


def _buckets(gradients: list[Any]) -> Iterator[list[Any]]:
    """Gradients of one dtype that go into a message together; a larger one goes alone."""
    by_dtype: dict[Any, list[Any]] = {}
    for gradient in gradients:
        by_dtype.setdefault(gradient.dtype, []).append(gradient)
    for alike in by_dtype.values():
        bucket: list[Any] = []
        for gradient in alike:
            if bucket and sum(each.nbytes for each in bucket) + gradient.nbytes > BUCKET_BYTES:
                yield bucket
                bucket = []
            bucket.append(gradient)
        yield bucket
