"""A disk that does not take what is written gives one sentence, and the last good checkpoint stays."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from support import ROOT, small_job

from mathreason.errors import InputError, MathreasonError
from mathreason.results import append_jsonl, write_text
from mathreason.training.storage import storing

MOUNT = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]


def in_a_small_file_system(folder: Path, size: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script with a file system of `size` at `folder`, which is gone afterwards."""
    folder.mkdir()
    mounted = f'set -e; mount -t tmpfs -o size={size} tmpfs "{folder}"; set +e\n{script}'
    return subprocess.run(
        [*MOUNT, "sh", "-c", mounted],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHON": sys.executable, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        timeout=300,
        check=False,
    )


def job_with_large_checkpoints(path: Path) -> Path:
    job = small_job()
    job["training"].update(max_steps=4, checkpoint_steps=1, keep_last=20)
    job["lora"] = {"r": 128, "alpha": 128, "dropout": 0.1}
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return path


TRAIN = '"$PYTHON" -m mathreason train "{job}" --results "{results}"'


@pytest.mark.slow
def test_a_file_system_that_fills_during_a_checkpoint_loses_nothing(tmp_path: Path) -> None:
    job = job_with_large_checkpoints(tmp_path / "job.yaml")
    small, kept = tmp_path / "small", tmp_path / "kept"
    train = TRAIN.format(job=job, results=small)
    done = in_a_small_file_system(
        small,
        "64m",
        f"""
        {train}; echo "full: $?"
        cp "{small}"/*/run.json "{tmp_path}/full.json"
        ls "{small}"/*/checkpoints -A
        mount -o remount,size=512m "{small}"
        {train}; echo "enlarged: $?"
        cp -r "{small}"/*/adapter "{kept}"
        """,
    )
    assert "full: 1" in done.stdout, done.stderr
    [said] = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    run = next(line.split(" in ")[-1] for line in done.stderr.splitlines() if line.startswith("run "))
    assert "cannot write the checkpoint of step " in said
    assert f"to {run}/checkpoints: No space left on device (" in said
    assert "MB free there); free some space or move the run directory" in said
    assert '"status": "failed"' in (tmp_path / "full.json").read_text()
    listed = [line for line in done.stdout.splitlines() if "checkpoint-" in line]
    assert listed
    assert ".writing" not in done.stdout
    assert "enlarged: 0" in done.stdout, done.stderr
    assert f"training embedded: 4 steps, from {len(listed)}" in done.stderr
    whole = tmp_path / "whole"
    subprocess.run(
        ["sh", "-c", TRAIN.format(job=job, results=whole)], check=True, cwd=ROOT, env=environment()
    )
    [wanted] = whole.glob("*/adapter")
    assert [(kept / path.name).read_bytes() for path in sorted(wanted.iterdir())] == [
        path.read_bytes() for path in sorted(wanted.iterdir())
    ]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}


WRITERS = """
import sys, torch
from pathlib import Path
from safetensors.torch import save_file
from mathreason.errors import MathreasonError
from mathreason.results import append_jsonl, write_json
from mathreason.training.storage import storing
folder = Path(sys.argv[1])
tensor = torch.zeros(2 << 20)
writers = {
    "torch.save": lambda: torch.save({"a": tensor}, folder / "a.pt"),
    "safetensors": lambda: save_file({"a": tensor}, str(folder / "a.safetensors")),
    "append": lambda: append_jsonl(folder / "log.jsonl", [{"text": "x" * (8 << 20)}]),
    "replace": lambda: write_json(folder / "train.json", {"text": "x" * (8 << 20)}),
}
for name, write in writers.items():
    try:
        with storing(name, folder):
            write()
        print(name, "written")
    except MathreasonError as error:
        print(error)
    for path in folder.iterdir():
        path.unlink() if len(sys.argv) < 3 else None
"""


def test_every_way_of_writing_says_that_the_disk_is_full(tmp_path: Path) -> None:
    (tmp_path / "writers.py").write_text(WRITERS)
    done = in_a_small_file_system(
        tmp_path / "small", "4m", f'"$PYTHON" "{tmp_path}/writers.py" "{tmp_path}/small"'
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    for name, line in zip(("torch.save", "safetensors", "append", "replace"), lines, strict=True):
        assert line.startswith(f"cannot write {name} to {tmp_path}/small: No space left on device ("), line


def test_every_way_of_writing_says_that_the_file_system_is_read_only(tmp_path: Path) -> None:
    (tmp_path / "writers.py").write_text(WRITERS)
    small = tmp_path / "small"
    done = in_a_small_file_system(
        small, "64m", f'mount -o remount,ro "{small}"; "$PYTHON" "{tmp_path}/writers.py" "{small}" keep'
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    for name, line in zip(("torch.save", "safetensors", "append", "replace"), lines, strict=True):
        assert line.startswith(f"cannot write {name} to {small}: Read-only file system ("), line
        assert "mount it for writing or move the run directory" in line


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EDQUOT, "ask for a larger quota"),
        (errno.EACCES, "make the folder writable"),
        (errno.ENOSPC, "free some space"),
    ],
)
def test_the_advice_is_that_of_the_cause(tmp_path: Path, number: int, advice: str) -> None:
    with pytest.raises(MathreasonError, match=advice), storing("log.jsonl", tmp_path / "not" / "there"):
        raise OSError(number, os.strerror(number))


def test_a_file_over_the_size_limit_is_said(tmp_path: Path) -> None:
    (tmp_path / "writers.py").write_text(WRITERS)
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        ["sh", "-c", f'ulimit -f 1024; exec "{sys.executable}" "{tmp_path}/writers.py" "{tmp_path}/out"'],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    assert all("File too large" in line and "ulimit -f" in line for line in lines), lines


def test_other_errors_pass_as_they_are(tmp_path: Path) -> None:
    for error in (InputError("no such key"), ValueError("shape"), RuntimeError("shape"), KeyError("loss")):
        with pytest.raises(type(error)) as caught, storing("a checkpoint", tmp_path):
            raise error
        assert caught.value is error


def test_what_can_be_written_is_written(tmp_path: Path) -> None:
    with storing("four files", tmp_path):
        torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
        save_file({"a": torch.ones(2)}, str(tmp_path / "a.safetensors"))
        append_jsonl(tmp_path / "log.jsonl", [{"a": 1}])
        write_text(tmp_path / "a.txt", "a")
    assert len(list(tmp_path.iterdir())) == 4
