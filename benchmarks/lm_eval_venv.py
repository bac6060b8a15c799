"""A virtual environment that holds lm-evaluation-harness, to compare with.

python = lm_eval_python(cache)                      # made at the first call, then reused
rows = ask(python, "verdicts", data_dir, rows)      # what lm_eval_side.py answers in it
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

VERSION = "0.4.13"
DEFAULT_CACHE = Path(tempfile.gettempdir()) / f"mathreason-lm-eval-{VERSION}"
SIDE = Path(__file__).with_name("lm_eval_side.py")


def lm_eval_python(cache: Path) -> Path:
    """The Python of an environment in `cache` with lm_eval VERSION; made with pip when it is not there."""
    python = cache / "venv" / "bin" / "python"
    if not python.exists():
        venv.create(cache / "venv", with_pip=True)
    asked = [str(python), "-c", "from importlib.metadata import version; print(version('lm_eval'))"]
    if subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() != VERSION:
        sys.stderr.write(f"installing lm_eval {VERSION} in {cache}\n")
        install = [str(python), "-m", "pip", "install", "--quiet", f"lm_eval=={VERSION}"]
        subprocess.run(install, check=True)
    return python


def ask(
    python: Path, question: str, data_dir: Path, rows: Iterable[dict[str, Any]] = ()
) -> list[dict[str, Any]]:
    """What `lm_eval_side.py QUESTION DATA_DIR` answers to `rows`."""
    environment = {
        **os.environ,
        "HF_HOME": str(python.parents[2] / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "LMEVAL_LOG_LEVEL": "ERROR",
        "TQDM_DISABLE": "1",
    }
    done = subprocess.run(
        [str(python), str(SIDE), question, str(data_dir)],
        input="".join(json.dumps(row) + "\n" for row in rows),
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]
