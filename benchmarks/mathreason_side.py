"""This package's side of gpu.py: `mathreason train` for each line of its input, in one process.

{"job": FILE, "results": DIR, "overrides": ["training.micro_batch=4", ...]}
"""

from __future__ import annotations

import contextlib
import gc
import json
import sys
from pathlib import Path

import torch
import training_vs_trl as pair

from mathreason.cli.main import main as mathreason


def main() -> None:
    """Answer until the input ends."""
    for line in sys.stdin:
        asked = json.loads(line)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        changes = [word for override in asked["overrides"] for word in ("--set", override)]
        try:
            with contextlib.redirect_stdout(sys.stderr):
                mathreason(
                    ["train", asked["job"], "--results", asked["results"], *changes], standalone_mode=False
                )
            found = pair.result_of(Path(asked["results"]))
        except Exception as error:
            found = {"failed": f"{type(error).__name__}: {error}"}
        gc.collect()
        torch.cuda.empty_cache()  # the other sides share the GPU
        sys.stdout.write(pair.FOUND + json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
