"""One sentence when the disk does not take what is written: what, where, how much is free, what to do.

    with storing("the checkpoint of step 50", run.checkpoints):
        ...

Python's errors carry the cause as errno. safetensors says it in words, torch.save sometimes; else the folder
itself is asked.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mathreason.errors import InputError, MathreasonError

_ADVICE = {
    errno.ENOSPC: "free some space or move the run directory to a larger file system",
    errno.EDQUOT: "delete files of yours or ask for a larger quota",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
    errno.EROFS: "the file system is read-only; mount it for writing or move the run directory",
    errno.EACCES: "make the folder writable for this user",
    errno.EPERM: "make the folder writable for this user",
    errno.EIO: "the device fails; move the run directory to another one",
}
_WRITER = ("PytorchStreamWriter", "inline_container", "SafetensorError")
_PROBE_BYTES = 1 << 20


@contextmanager
def storing(what: str, folder: Path) -> Iterator[None]:
    """Turn a failure of the file system into a MathreasonError; everything else passes."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        number = _cause(error, folder)
        if number is None:
            raise
        free = shutil.disk_usage(_existing(folder)).free / 1e6
        raise MathreasonError(
            f"cannot write {what} to {folder}: {os.strerror(number)} ({free:.1f} MB free there); "
            f"{_ADVICE[number]}, then give the same command again: what is complete is kept"
        ) from error


def _cause(error: BaseException, folder: Path) -> int | None:
    """errno of the failure behind `error`, None when it is not the file system's."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, OSError) and behind.errno in _ADVICE:
            return behind.errno
        behind = behind.__cause__ or behind.__context__
    text = f"{type(error).__name__}: {error}"
    for number in _ADVICE:
        if os.strerror(number) in text:
            return number
    if any(word in text for word in _WRITER):
        return _probe(_existing(folder))
    return None


def _probe(folder: Path) -> int | None:
    """errno of writing a megabyte to `folder`; None when that goes well."""
    path = folder / f".write-test-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with path.open("wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno if error.errno in _ADVICE else None
    finally:
        path.unlink(missing_ok=True)
    return None


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
