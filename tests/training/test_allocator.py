"""Large blocks of memory go back to the system when their tensors go."""

from __future__ import annotations

from pathlib import Path

from support import run_script

SCRIPT = """
import contextlib, sys
from mathreason.training.allocator import exact_allocation

def anonymous():
    return int(open("/proc/self/status").read().split("RssAnon:")[1].split()[0]) // 1024

with exact_allocation() if sys.argv[1] == "exact" else contextlib.nullcontext():
    import torch
    torch.ones(24 << 18)  # 24 MiB: glibc's own threshold grows to it when it goes
    before = anonymous()
    kept = []
    for _ in range(20):  # holes of 8 MiB between small tensors that stay
        large = torch.ones(8 << 18)
        kept.append(torch.ones(1 << 16))
        kept.append(large)
    del large
    kept = kept[::2]
    print(anonymous() - before)
"""


def left_behind(tmp_path: Path, mode: str) -> int:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    done = run_script(path, mode)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_holes_are_given_back(tmp_path: Path) -> None:
    assert left_behind(tmp_path, "plain") > 100
    assert left_behind(tmp_path, "exact") < 20
