"""Checkpoints that are whole or do not count.

    checkpoints/
      checkpoint-50/   adapter, optimizer, scheduler, random states, trainer_state.json, manifest.json
      .writing/        one that is being written

A checkpoint is written under `.writing`, gets a manifest (size and SHA-256 of each file) as its last
file, and is then renamed to its place. `newest_complete` believes the manifest and nothing else.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from mathreason.errors import MathreasonError
from mathreason.results import file_sha256, fsync_directory, read_json, to_json, write_text

MANIFEST = "manifest.json"
WRITING = ".writing"

_NAME = re.compile(r"checkpoint-(\d+)")


def step_of(checkpoint: Path) -> int:
    """Optimizer step of a checkpoint folder."""
    found = _NAME.fullmatch(checkpoint.name)
    if found is None:
        raise ValueError(f"{checkpoint} is no checkpoint")
    return int(found.group(1))


def commit(written: Path, checkpoints: Path) -> Path:
    """Make the files of `written` durable, add the manifest, and move it to its place in `checkpoints`."""
    files = sorted(path for path in written.rglob("*") if path.is_file())
    listed = {}
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
        name = path.relative_to(written).as_posix()
        listed[name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    for folder in (written, *(path for path in written.rglob("*") if path.is_dir())):
        fsync_directory(folder)
    write_text(written / MANIFEST, to_json({"step": step_of(written), "files": listed}) + "\n")
    final = checkpoints / written.name
    if final.exists():  # a torn one of the same step, from before a kill
        remove(final)
    written.rename(final)
    fsync_directory(checkpoints)
    return final


def is_complete(checkpoint: Path) -> bool:
    """Whether every file of the manifest is there with its size and hash."""
    manifest = checkpoint / MANIFEST
    if not manifest.is_file():
        return False
    try:
        listed = read_json(manifest)["files"]
        return all(
            (checkpoint / name).stat().st_size == facts["bytes"]
            and file_sha256(checkpoint / name) == facts["sha256"]
            for name, facts in listed.items()
        )
    except (OSError, KeyError, TypeError, MathreasonError):
        return False


def complete_checkpoints(checkpoints: Path) -> tuple[list[Path], list[Path]]:
    """(complete, torn) checkpoint folders, each by step."""
    if not checkpoints.is_dir():
        return [], []
    found = _folders(checkpoints)
    complete = [path for path in found if is_complete(path)]
    return complete, [path for path in found if path not in complete]


def steps(checkpoints: Path) -> list[int]:
    """Steps that have a checkpoint folder, complete or torn."""
    return [step_of(checkpoint) for checkpoint in _folders(checkpoints)]


def _folders(checkpoints: Path) -> list[Path]:
    return sorted((path for path in checkpoints.iterdir() if _NAME.fullmatch(path.name)), key=step_of)


def remove(checkpoint: Path) -> None:
    """Delete a checkpoint; the manifest goes first, so that a kill in between leaves a torn one."""
    (checkpoint / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)


def prune(checkpoints: Path, keep_last: int, best_step: int | None) -> None:
    """Delete all but the last `keep_last` checkpoints and the best one."""
    for checkpoint in _folders(checkpoints)[:-keep_last]:
        if step_of(checkpoint) != best_step:
            remove(checkpoint)
