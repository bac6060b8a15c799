"""How much memory is free, whether an error says that none was left, and sizes as people write them.

available_bytes(model.device)     # free memory of the GPU, or of this process's machine or container
bytes_of("6GiB")                  # 6442450944
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CGROUP = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
NO_LIMIT = 1 << 62
_UNITS: dict[str, int] = {"B": 1}
_UNITS |= {f"{prefix}iB": 1 << 10 * power for power, prefix in enumerate("KMGT", 1)}
_UNITS |= {f"{prefix}B": int(f"1{'000' * power}") for power, prefix in enumerate("KMGT", 1)}


def bytes_of(size: str) -> int:
    """Bytes of a size with its unit, such as '6GiB' (1024³) or '500 MB' (1000²); ValueError otherwise."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?i?B)", size.strip())
    if found is None or found[2] not in _UNITS or not float(found[1]):
        raise ValueError(f"'{size}' is no size of memory; write a number and a unit, such as 6GiB or 500MB")
    return round(float(found[1]) * _UNITS[found[2]])


def available_bytes(device: torch.device) -> int:
    """Bytes that can still be allocated on `device`."""
    import torch

    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(_machine_bytes(), _group_bytes())


def _machine_bytes() -> int:
    """MemAvailable of proc(5)."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo names no MemAvailable")


def _group_bytes() -> int:
    """What this process's control group and those around it leave, of either version of cgroups."""
    return min((_left(group) for group in _groups()), default=NO_LIMIT)


def _groups() -> list[Path]:
    """Folders of the control groups that limit this process's memory, innermost first (cgroups(7)).

    Inside a container the path may be the host's, where nothing is found; the container's own group is then
    the root of the mount.
    """
    folders: list[Path] = []
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number != "0" and "memory" not in controllers.split(","):
            continue
        root = CGROUP if number == "0" else CGROUP / "memory"
        inner = root / path.lstrip("/")
        folders += [inner, *(folder for folder in inner.parents if folder.is_relative_to(root))]
    return folders


def _left(group: Path) -> int:
    """Bytes below the limit of one group, the file cache that it can give up counted as free."""
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most = (group / limit).read_text(encoding="ascii").strip()
            now = int((group / used).read_text(encoding="ascii"))
            lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
        except (OSError, ValueError):
            continue
        if most == "max" or int(most) >= NO_LIMIT:
            return NO_LIMIT
        return max(0, int(most) - now + int(dict(line.split() for line in lines).get(cache, 0)))
    return NO_LIMIT


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is Python's, the GPU's or the CPU allocator's way to say that memory ran out."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
