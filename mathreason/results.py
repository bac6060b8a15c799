"""The run directory: where every stage writes, and the only place it reads another stage's work from.

    results/<run id>/
      job.yaml  run.json  data.json  data/{train,validation}.jsonl  train.json  log.jsonl  log.txt
      checkpoints/  adapter/ (or model/ after full fine-tuning)
      evaluations/<benchmark>/<base|tuned>.json, <base|tuned>.samples.jsonl, <base|tuned>.times.jsonl
      shards/<i>-of-<n>.json, .txt           status and log of the processes that share an evaluation
      comparison.json  scores.json  report.html

A JSON file is written to a temporary name, fsynced and renamed, so a reader sees all of it or none
(rename is the one commit that a network file system keeps). A JSON Lines file is only appended to; a
torn last line is dropped by the next writer.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from mathreason import __version__
from mathreason.errors import InputError, MathreasonError

SCHEMA_VERSION = 1
VARIANTS = ("base", "tuned")
STALE_TRIES = 5

_PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "datasets",
    "bitsandbytes",
    "tokenizers",
    "safetensors",
    "scipy",
)


@dataclass(frozen=True)
class Shard:
    """Part `number` of `count`, from 1: every count-th item of a benchmark, for processes that share it."""

    number: int
    count: int

    def holds(self, index: int) -> bool:
        return index % self.count == self.number - 1


@dataclass(frozen=True)
class RunDir:
    """The paths of one run; creating the object touches no disk."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def job(self) -> Path:
        return self.path / "job.yaml"

    @property
    def run(self) -> Path:
        return self.path / "run.json"

    @property
    def data(self) -> Path:
        return self.path / "data.json"

    def problems(self, part: str) -> Path:
        """The prepared problems of `part`: "train" or "validation"."""
        return self.path / "data" / f"{part}.jsonl"

    @property
    def train(self) -> Path:
        return self.path / "train.json"

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def log_text(self) -> Path:
        return self.path / "log.txt"

    def shard_state(self, shard: Shard) -> Path:
        return self.path / "shards" / f"{shard.number}-of-{shard.count}.json"

    def shard_states(self) -> list[Path]:
        """Status of every process that shares or shared an evaluation."""
        return sorted((self.path / "shards").glob("*-of-*.json"))

    def shard_log(self, shard: Shard) -> Path:
        return self.shard_state(shard).with_suffix(".txt")

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def model(self) -> Path:
        """Where full fine-tuning puts the whole model; such a run has no adapter."""
        return self.path / "model"

    def evaluation(self, benchmark: str, variant: str) -> Path:
        return self.path / "evaluations" / benchmark / f"{variant}.json"

    def samples(self, benchmark: str, variant: str) -> Path:
        return self.path / "evaluations" / benchmark / f"{variant}.samples.jsonl"

    def times(self, benchmark: str, variant: str) -> Path:
        return self.path / "evaluations" / benchmark / f"{variant}.times.jsonl"

    def times_of(self, samples: Path) -> Path:
        """The times file that goes with a samples file."""
        return samples.with_name(samples.name.replace(".samples.", ".times."))

    def shard(self, path: Path, shard: Shard) -> Path:
        """Where one shard of an evaluation keeps its part of `path`, a samples or a times file."""
        variant, _, ending = path.name.partition(".")
        return path.with_name(f"{variant}.shard-{shard.number}-of-{shard.count}.{ending}")

    def shards(self, path: Path) -> list[Path]:
        """The parts of `path` that shards have written, sorted."""
        variant, _, ending = path.name.partition(".")
        return sorted(path.parent.glob(f"{variant}.shard-*-of-*.{ending}"))

    def benchmarks(self) -> list[str]:
        """Names of the benchmarks that have at least one evaluation file, sorted."""
        found = self.path.glob("evaluations/*/*")
        return sorted({entry.parent.name for entry in found if not entry.name.startswith(".")})

    @property
    def comparison(self) -> Path:
        return self.path / "comparison.json"

    @property
    def scores(self) -> Path:
        """What lists of runs show of the comparison."""
        return self.path / "scores.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def require(self) -> RunDir:
        """This run, or an InputError when the folder holds none."""
        if not self.run.is_file():
            raise InputError(
                f"{self.path} is not a run directory: it has no run.json. "
                "`mathreason results` lists the runs there are."
            )
        return self


# -- writing ---------------------------------------------------------------------------------------


def make_directory(path: Path) -> None:
    """Create `path` and its parents; a folder that cannot be written is an InputError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot create the folder {path}: {error.strerror}. "
            "Choose another place with --results DIR or MATHREASON_RESULTS."
        ) from error
    probe = path / f".write-test-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"cannot write in {path}: {error.strerror}. "
            "Choose another place with --results DIR or MATHREASON_RESULTS."
        ) from error


def fsync_directory(path: Path) -> None:
    """Make the names in `path` durable (a rename is not, until its directory is synced)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text`: temporary file, fsync, rename. Never leaves a part of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise MathreasonError(f"cannot write {path}: {error.strerror}") from error


def to_json(value: Any, indent: int | None = 2) -> str:
    """JSON text in UTF-8 characters; NaN and infinity are refused, since JSON has none."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a result: `value` with schema_version and provenance in front, atomically."""
    document = {"schema_version": SCHEMA_VERSION, "provenance": provenance(), **value}
    write_text(path, to_json(document) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Replace `path` by one JSON object a line, atomically."""
    write_text(path, "".join(to_json(row, indent=None) + "\n" for row in rows))


def append_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Append one JSON object a line in a single write, flushed to disk."""
    text = "".join(to_json(row, indent=None) + "\n" for row in rows)
    try:
        with path.open("ab") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise MathreasonError(f"cannot write {path}: {error.strerror}") from error


class JsonlAppender:
    """Appends rows to a JSON Lines file, each in one write that outlives the process.

    What survives a power cut is at most `SYNC_SECONDS` behind; a kill loses nothing that was appended.
    """

    SYNC_SECONDS = 1.0

    def __init__(self, path: Path) -> None:
        self._path = path
        self._synced = time.monotonic()
        with self._naming_the_file():
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def append(self, row: dict[str, Any]) -> None:
        line = (to_json(row, indent=None) + "\n").encode("utf-8")
        with self._naming_the_file():
            while line:
                line = line[os.write(self._descriptor, line) :]
            if time.monotonic() - self._synced >= self.SYNC_SECONDS:
                os.fsync(self._descriptor)
                self._synced = time.monotonic()

    def close(self) -> None:
        with self._naming_the_file():
            os.fsync(self._descriptor)
            os.close(self._descriptor)

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise MathreasonError(f"cannot write {self._path}: {error.strerror}") from error


# -- reading ---------------------------------------------------------------------------------------


def _content(path: Path | str) -> bytes:
    """Bytes of a file that others replace by rename.

    On NFS what is opened may be gone from the server before it is read (ESTALE): then the new one is there.
    """
    for _ in range(STALE_TRIES):
        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123  lists open it 20 000 times
                return file.read()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            stale = error
    raise stale


def read_json(path: Path | str) -> dict[str, Any]:
    """The JSON object in `path`; InputError when it is missing, malformed or from a newer version."""
    try:
        document = from_json(_content(path), cache_strings="keys")  # three times as fast as json's
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(document).__name__}")
    version = document.get("schema_version", SCHEMA_VERSION)
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise InputError(
            f"{path} has schema_version {version}; this mathreason reads up to {SCHEMA_VERSION}. "
            "Upgrade mathreason."
        )
    return document


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number (from 1) and object of each line of `path`; blank lines are passed over.

    Raises InputError naming the file and the line of anything that is not a JSON object.
    """
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                if raw.strip():
                    yield number, _json_object(raw, path, number)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _json_object(raw: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}:{number}: not valid UTF-8: {error.reason}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}:{number}: not valid JSON: {error}") from error
    if not isinstance(row, dict):
        raise InputError(f"{path}:{number}: expected a JSON object, found {type(row).__name__}")
    return row


def read_appended(path: Path) -> list[dict[str, Any]]:
    """The complete lines of an appended file; a last line torn by a kill is left out."""
    if not path.exists():
        return []
    raw = path.read_bytes()
    complete = raw[: raw.rfind(b"\n") + 1]
    lines = complete.splitlines()
    return [_json_object(line, path, number) for number, line in enumerate(lines, start=1)]


def is_torn(path: Path) -> bool:
    """Whether an appended file ends within a line, which the next writer has to drop."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def content_hash(value: Any) -> str:
    """SHA-256 of a JSON value in its canonical form (sorted keys), in hexadecimal."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


# -- provenance ------------------------------------------------------------------------------------


INITIAL_PID_NAMESPACE = 4026531836
"""PROC_PID_INIT_INO of the kernel's proc_ns.h."""


def process_space() -> str:
    """Where a process id means something: the host, of a container its own part of it.

    A container may have the name of its host (`docker run --network host`), but counts processes for itself.
    """
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        namespace = INITIAL_PID_NAMESPACE
    own = "" if namespace == INITIAL_PID_NAMESPACE else f"-{namespace}"
    return f"{socket.gethostname()}{own}"


def now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


_context: ContextVar[Mapping[str, Any]] = ContextVar("provenance of the job at hand")


@contextmanager
def provenance_of(values: Mapping[str, Any]) -> Iterator[None]:
    """While open, every JSON written carries `values` (job hash, seeds) in its provenance."""
    token = _context.set(values)
    try:
        yield
    finally:
        _context.reset(token)


def provenance() -> dict[str, Any]:
    """Where a result came from: job, seeds, versions, code revision, host, device and time of writing."""
    return {"written_at": now(), **_context.get({}), **_fixed_provenance(), "device": device()}


def device() -> dict[str, Any]:
    """Processor, cores this process may use, and the GPUs (known once torch is loaded)."""
    found: dict[str, Any] = {"cpu": _cpu_model(), "cores": len(os.sched_getaffinity(0)), "gpus": []}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return found


@cache
def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def _fixed_provenance() -> dict[str, Any]:
    versions = {"mathreason": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "versions": versions,
        "git": git_revision(),
        "host": socket.gethostname(),
        "platform": platform.platform(),
    }


def git_revision() -> dict[str, Any] | None:
    """Commit of the code that runs, and whether files differ from it; None outside a checkout.

    An image built without its .git says its revision through MATHREASON_GIT_REVISION.
    """
    if revision := os.environ.get("MATHREASON_GIT_REVISION"):
        return {"commit": revision.removesuffix("-dirty"), "dirty": revision.endswith("-dirty")}
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        dirty = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": dirty}


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()
