"""What ranks tell each other, as two real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_gradients_are_averaged_in_messages_of_bounded_size() -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, Path(__file__).with_name("averaging.py")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["float32 [10, 40, 6]; bfloat16 [16, 32]", "equal"]
