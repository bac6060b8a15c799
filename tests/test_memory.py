"""How much memory is free counts the limits of control groups, of both versions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mathreason import memory

CPU = torch.device("cpu")
MIB = 1 << 20


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mount of control groups in which this process is in /outer/inner."""
    own = tmp_path / "own"
    own.write_text("9:name=systemd:/\n4:memory:/outer/inner\n0::/outer/inner\n", encoding="utf-8")
    monkeypatch.setattr(memory, "OWN_GROUPS", own)
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    return tmp_path


def group(folder: Path, values: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / name).write_text(value + "\n", encoding="utf-8")


def version_1(limit: int, used: int, cache: int) -> dict[str, str]:
    return {
        "memory.limit_in_bytes": str(limit),
        "memory.usage_in_bytes": str(used),
        "memory.stat": f"inactive_file 7\ntotal_inactive_file {cache}",
    }


def version_2(limit: str, used: int, cache: int) -> dict[str, str]:
    return {"memory.max": limit, "memory.current": str(used), "memory.stat": f"anon 1\ninactive_file {cache}"}


def test_version_1_limit_less_what_is_used_and_cannot_be_dropped(cgroup: Path) -> None:
    group(cgroup / "memory" / "outer" / "inner", version_1(100 * MIB, 60 * MIB, 10 * MIB))
    assert memory.available_bytes(CPU) == 50 * MIB


def test_version_2_limit_less_what_is_used_and_cannot_be_dropped(cgroup: Path) -> None:
    group(cgroup / "outer" / "inner", version_2(str(100 * MIB), 60 * MIB, 10 * MIB))
    assert memory.available_bytes(CPU) == 50 * MIB


def test_limit_of_a_group_around_counts(cgroup: Path) -> None:
    group(cgroup / "outer" / "inner", version_2("max", 0, 0))
    group(cgroup / "outer", version_2(str(30 * MIB), 10 * MIB, 0))
    assert memory.available_bytes(CPU) == 20 * MIB


def test_limit_at_the_root_of_a_container_counts(cgroup: Path) -> None:
    group(cgroup, version_2(str(30 * MIB), 10 * MIB, 0))
    assert memory.available_bytes(CPU) == 20 * MIB


def test_without_a_limit_the_machine_decides(cgroup: Path) -> None:
    group(cgroup / "memory" / "outer" / "inner", version_1(9223372036854771712, 60 * MIB, 0))
    assert memory.available_bytes(CPU) > 100 * MIB


@pytest.mark.parametrize(
    ("size", "value"),
    [
        ("6GiB", 6 << 30),
        ("1.5 GiB", 3 << 29),
        ("500MB", 500_000_000),
        ("1TB", 10**12),
        ("64KiB", 65536),
        ("8B", 8),
    ],
)
def test_sizes_have_units(size: str, value: int) -> None:
    assert memory.bytes_of(size) == value


@pytest.mark.parametrize("size", ["", "6", "GiB", "6 gigs", "-6GiB", "0GiB", "6iB", "6GiB free"])
def test_what_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(ValueError, match=r"write a number and a unit, such as 6GiB or 500MB"):
        memory.bytes_of(size)
