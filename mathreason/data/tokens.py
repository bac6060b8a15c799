"""Training problems to token ids, once: in parallel, and kept for the next run with the same problems.

    examples = encode_all(problems, prompter, reporter)     # equal to [prompter.encode(p) for p in problems]

    ~/.cache/mathreason/tokens/<key>      a line of JSON, then all lengths, prompt lengths and ids as int32

The key is a hash of all that decides the ids: problems, prompt, tokenizer, library versions and the code
that joins them. A file counts only if its line says that key and its numbers have the hash it says, so a
torn or foreign one is never used. MATHREASON_CACHE or XDG_CACHE_HOME take the place of ~/.cache. Fewer than
`MANY` problems take about a second: they are neither shared over processes nor kept.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from mathreason.data.problem import Problem
from mathreason.data.prompts import Example, Prompter
from mathreason.progress import Reporter
from mathreason.results import content_hash, file_sha256

MANY = 2000
KEPT_FILES = 16
"""Token files of that many sets of problems stay, the last used ones."""
FORMAT = "mathreason tokens 1"


def encode_all(problems: Sequence[Problem], prompter: Prompter, reporter: Reporter) -> list[Example]:
    """`prompter.encode` of each problem, from the cache where it has them."""
    if len(problems) < MANY:
        return [prompter.encode(problem) for problem in problems]
    key = _key(problems, prompter)
    folder = _folder()
    examples = _read(folder / key, key, len(problems))
    if examples is None:
        examples = _in_processes(problems, prompter, len(os.sched_getaffinity(0)))
        try:
            _write(folder / key, key, examples)
        except OSError as error:
            reporter.note(f"tokens are not kept for the next run in {folder}: {error.strerror}")
    return examples


def _folder() -> Path:
    cache = os.environ.get("MATHREASON_CACHE")
    if cache:
        return Path(cache) / "tokens"
    home = os.environ.get("XDG_CACHE_HOME") or f"{os.environ.get('HOME', os.devnull)}/.cache"
    return Path(home) / "mathreason" / "tokens"


def _key(problems: Sequence[Problem], prompter: Prompter) -> str:
    """Hash of all that decides the ids."""
    texts = [[problem.question, problem.solution, problem.answer] for problem in problems]
    return content_hash(
        {
            "problems": texts,
            "prompt": [prompter.hash, prompter.instruction, [s.to_dict() for s in prompter.shots]],
            "tokenizer": prompter.tokenizer_identity(),
            "versions": {name: metadata.version(name) for name in ("transformers", "tokenizers")},
            "code": file_sha256(Path(__file__).with_name("prompts.py")),
        }
    )


# -- the file --------------------------------------------------------------------------------------


def _write(path: Path, key: str, examples: Sequence[Example]) -> None:
    """Put the file in its place by rename, and drop the ones that were not used for longest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = [len(e.ids) for e in examples] + [e.prompt_tokens for e in examples]
    payload = np.array([*numbers, *(i for e in examples for i in e.ids)], dtype="<i4").tobytes()
    head = {"format": FORMAT, "key": key, "sha256": hashlib.sha256(payload).hexdigest()}
    temporary = path.with_name(f".{key}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(json.dumps(head).encode() + b"\n" + payload)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    with suppress(FileNotFoundError):  # another run clears up as well
        kept = sorted(path.parent.glob("[0-9a-f]" * len(key)), key=lambda file: file.stat().st_mtime)
        for old in kept[:-KEPT_FILES]:
            old.unlink()


def _read(path: Path, key: str, count: int) -> list[Example] | None:
    """The examples of a file that is whole and has this key; None for any other."""
    try:
        line, _, payload = path.read_bytes().partition(b"\n")
        head: Any = json.loads(line)
    except (OSError, ValueError):
        return None
    wanted = {"format": FORMAT, "key": key, "sha256": hashlib.sha256(payload).hexdigest()}
    if head != wanted:
        return None
    numbers = np.frombuffer(payload, dtype="<i4")
    lengths, prompts = numbers[:count].tolist(), numbers[count : 2 * count].tolist()
    ids = numbers[2 * count :]
    ends = np.cumsum(lengths).tolist()
    with suppress(OSError):
        os.utime(path)
    return [
        Example(ids[end - length : end].tolist(), prompt)
        for end, length, prompt in zip(ends, lengths, prompts, strict=True)
    ]


# -- the work --------------------------------------------------------------------------------------


def _in_processes(problems: Sequence[Problem], prompter: Prompter, count: int) -> list[Example]:
    """Encode in `count` processes; the share of one that does not answer is encoded here."""
    # Forked, since a new interpreter would take longer to import the tokenizer than to use it.
    context = multiprocessing.get_context("fork")
    receivers: list[Connection] = []
    for part in range(1, count):
        receiver, sender = context.Pipe(duplex=False)
        context.Process(target=_work, args=(sender, prompter, problems[part::count]), daemon=True).start()
        sender.close()
        receivers.append(receiver)
    found: list[Example | None] = [None] * len(problems)
    found[::count] = [prompter.encode(problem) for problem in problems[::count]]
    for part, receiver in enumerate(receivers, start=1):
        try:
            found[part::count] = receiver.recv()
        except EOFError:
            found[part::count] = [prompter.encode(problem) for problem in problems[part::count]]
        finally:
            receiver.close()
    return [example for example in found if example is not None]


def _work(sender: Connection, prompter: Prompter, problems: Sequence[Problem]) -> None:
    sender.send([prompter.encode(problem) for problem in problems])
    sender.close()
