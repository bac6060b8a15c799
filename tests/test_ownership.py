"""Of two processes on different machines that work on one run, the one that began last goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import adapter_bytes, cleared, ended, start, state, steps_logged, wait_until
from support import small_job

from mathreason.errors import MathreasonError
from mathreason.ownership import Overtaken, owning, require_ours
from mathreason.results import read_json, write_json

WriteJob = Callable[..., Path]
MINE, THEIRS = ({"host": host, "pid": 7, "born": "1"} for host in ("here", "elsewhere"))


def test_status_of_another_process_is_left_alone(tmp_path: Path) -> None:
    require_ours()  # nobody claimed anything
    status = tmp_path / "run.json"
    with owning(status, MINE):
        require_ours()  # nor is anything there
        for process in (MINE, None):
            write_json(status, {"process": process})
            require_ours()
        write_json(status, {"process": THEIRS})
        require_ours(now=False)  # it has just looked
        with pytest.raises(Overtaken, match="process 7 on elsewhere has begun"):
            require_ours()
    assert issubclass(Overtaken, MathreasonError)


@pytest.mark.slow
def test_training_that_another_machine_began_again_ends_and_spoils_nothing(
    write_job: WriteJob, tmp_path: Path
) -> None:
    """The other machine is a process in a PID namespace of its own, which sees none of these processes."""
    job = small_job()
    job["training"].update(max_steps=400, checkpoint_steps=20)
    path, wanted, results = write_job(job), tmp_path / "wanted", tmp_path / "results"
    undisturbed = start("train", path, "--results", wanted, output=tmp_path / "wanted.txt")
    assert ended(undisturbed) == 0
    first = start("train", path, "--results", results, output=tmp_path / "first.txt")
    with cleared([first]):
        wait_until(lambda: steps_logged(results) >= 20, first)
        second = subprocess.run(
            [
                *("unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-m", "mathreason"),
                *("train", str(path), "--results", str(results)),
            ],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            text=True,
            capture_output=True,
            check=False,
        )
        assert second.returncode == 0, second.stderr
        assert ended(first) == 1
    assert "has begun to work on" in (tmp_path / "first.txt").read_text()
    assert state(results)["status"] == "done"
    assert state(results)["starts"] == 2
    assert adapter_bytes(results) == adapter_bytes(wanted)
    [run] = results.iterdir()
    assert list((run / "checkpoints").glob(".writing/*")) == []
    assert read_json(run / "train.json")
