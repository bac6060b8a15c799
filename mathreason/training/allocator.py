"""Memory that does not grow beyond what tensors need, while training on a CPU.

    bound_caches()               # before torch multiplies for the first time
    with exact_allocation():     # where memory is short
        train()

oneDNN keeps what it prepared for each shape it has multiplied, up to 1024 of them in each of two caches. With
packed blocks nearly every pass has new shapes: in bfloat16 the process grew by 50 MiB with each pass.

torch asks glibc for aligned memory. From its heap an aligned block of the same size often does not fit into
the hole that the last one left, so that a step with gradient checkpointing held up to 2.6 times its tensors.
Here every large block is mapped by itself and unmapped when it goes; the process is then as large as its
tensors, which is what a plan can promise. Mapping costs page faults: 5 to 50 % of a step's time, the most in
narrow models, so it is for where memory is short.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

CACHES = {"LRU_CACHE_CAPACITY": "1", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64"}
"""Entries kept: of torch's own cache of prepared products, and of oneDNN's. A forward or backward pass over
equal layers goes round about 40 of them, and preparing one takes up to 8 ms on a processor with AMX."""
M_MMAP_THRESHOLD = -3  # malloc.h
MAPPED_BYTES = 128 << 10
"""Blocks from this size on are mapped; smaller ones come from the heap."""
USUAL_BYTES = 32 << 20
"""What glibc's own threshold grows to in a process that frees large blocks (mallopt(3))."""


def bound_caches() -> None:
    """Let torch keep few prepared products; what the environment says already stays."""
    for name, entries in CACHES.items():
        os.environ.setdefault(name, entries)


@contextmanager
def exact_allocation() -> Iterator[None]:
    """Map large blocks one by one; does nothing where the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        yield
        return
    mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)
    try:
        yield
    finally:
        mallopt(M_MMAP_THRESHOLD, USUAL_BYTES)
