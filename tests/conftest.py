"""What many tests need: the embedded model, small jobs, the real data, and the program as a process."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT, Job, run_program, small_job

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
if "PYTEST_XDIST_WORKER" in os.environ:  # the processes share the cores
    os.environ["OMP_NUM_THREADS"] = "1"
# Triton's kernels run without a GPU, if it knows before it is imported.
if shutil.which("nvidia-smi") is None:
    os.environ["TRITON_INTERPRET"] = "1"
# As in a shell's background, where interrupts are ignored; the programs would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("MATHREASON_RESULTS", "MATHREASON_DATA_DIR"):
    os.environ.pop(name, None)

REAL_DATA = Path(os.environ.get("MATHREASON_TEST_DATA", ROOT.parent / "shared" / "data"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests recorded by `record_property`; pytest-xdist's processes cannot print it themselves."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with the real GSM8K, gsm-hard, SVAMP, ASDiv and NuminaMath rows."""
    if not (REAL_DATA / "gsm8k" / "test.jsonl").is_file():
        pytest.skip(f"no real data in {REAL_DATA}; set MATHREASON_TEST_DATA")
    return REAL_DATA


@pytest.fixture
def job() -> Job:
    return small_job()


@pytest.fixture
def write_job(tmp_path: Path) -> Callable[[Job], Path]:
    """Write a job to a file and give its path."""

    def write(values: Job, name: str = "job.yaml") -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    from mathreason.config import ModelConfig
    from mathreason.models import load_tokenizer

    return load_tokenizer(ModelConfig(name="embedded"))


@pytest.fixture
def loaded() -> Any:
    """The embedded model in float32, freshly loaded."""
    from mathreason.config import ModelConfig
    from mathreason.models import load_model
    from mathreason.progress import Reporter

    return load_model(
        ModelConfig(name="embedded", quantization="none", dtype="float32"), Reporter(quiet=True)
    )


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a small job that went through every stage; do not change it."""
    folder = tmp_path_factory.mktemp("finished")
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(small_job()), encoding="utf-8")
    done = run_program("run", path, "--results", folder / "results")
    assert done.returncode == 0, done.stderr
    [run] = (folder / "results").iterdir()
    return run
