"""One process at a time works on a run: of two on different machines, the one that began last.

    with owning(run.run, session.state["process"]):
        require_ours()                # raises Overtaken where another has begun since

A process sees whether another lives on its own host only. A node that is lost leaves a run that says
`running` for ever, so a start elsewhere cannot be refused: it takes the run over, by writing itself into the
status, and the earlier process, should it live, ends at its next look and writes nothing more.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from mathreason.errors import MathreasonError
from mathreason.results import read_json

LOOK_SECONDS = 5.0
"""Between two looks at the status where one would do no harm if it came late."""


class Overtaken(MathreasonError):
    """Another process works on the run now."""


class _Claim:
    def __init__(self, status: Path, process: dict[str, Any]) -> None:
        self._status = status
        self._process = process
        self._looked = float("-inf")

    def require(self, now: bool) -> None:
        if not now and time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        if not self._status.is_file():
            return
        other = read_json(self._status).get("process")
        if other is not None and other != self._process:
            raise Overtaken(
                f"process {other['pid']} on {other['host']} has begun to work on "
                f"{self._status.parent} since; this one ends here and leaves it to that one"
            )


_current: ContextVar[_Claim | None] = ContextVar("claim of the session at hand", default=None)


@contextmanager
def owning(status: Path, process: dict[str, Any]) -> Iterator[None]:
    """While open, `require_ours` holds the process in `status` (run.json, or a shard's) to be `process`."""
    token = _current.set(_Claim(status, process))
    try:
        yield
    finally:
        _current.reset(token)


def require_ours(now: bool = True) -> None:
    """Raise `Overtaken` where another process works on the run since.

    Without `now` it looks only where its last look is some seconds old.
    """
    claim = _current.get()
    if claim is not None:
        claim.require(now)
