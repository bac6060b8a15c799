"""Being asked to stop, and stopping at the next safe point with everything kept.

    with listening(run.path / "STOP", deadline) as stop:      # a session does this
        ...
        safe_point()                                          # raises Stopped when a stop was asked for

A stop is asked for by a file named STOP in the run directory, by SIGTERM, SIGUSR1 or Ctrl-C, by a
`--deadline`, or by the end time that Slurm says in SLURM_JOB_END_TIME. Signal handlers only set a flag.

A batch job has a stop file of its own, which MATHREASON_STOP_FILE names: no signal crosses a container or
srun, and of several jobs that work on a run only one may be meant. A process that stops, whatever the reason,
leaves it in FILE.obeyed, so that the batch script can tell stopped from done.
Training looks at it after each optimizer step and saves a checkpoint first (`agreed`: all ranks take the
same decision); everything else asks at its own safe points. A stop is no failure: exit code 0.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from mathreason.errors import InputError
from mathreason.ownership import require_ours
from mathreason.results import write_text
from mathreason.training.ranks import joined, largest_of_ranks, rank

STOP_FILE = "STOP"
OWN_STOP_FILE = "MATHREASON_STOP_FILE"
SLURM_MARGIN_SECONDS = 10.0
"""What is left of a Slurm job's time for writing the status and ending, beside the measured checkpoint."""

REASONS = (
    "",
    "Ctrl-C",
    "SIGUSR1",
    "SIGTERM",
    "the deadline",
    "the end of the Slurm job's time",
    "a STOP file",
    "the job's own stop file",
)
_BY_SIGNAL = {signal.SIGINT: 1, signal.SIGUSR1: 2, signal.SIGTERM: 3}
_DEADLINE, _SLURM, _FILE, _OWN_FILE = 4, 5, 6, 7

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


class Stopped(BaseException):
    """Work ended at a safe point because a stop was asked for; the message is the reason.

    Not an `Exception`, so that what handles failures does not take it for one.
    """


class StopRequest:
    """Whether and why to stop. `file` is the STOP file, `deadline` seconds since the epoch.

    `margin` is how many seconds before a deadline the work must begin to end. A STOP file that was there
    before is meant for others, or for an earlier start; `alone` says whether this process alone obeys one.
    """

    def __init__(self, file: Path, deadline: float | None, alone: Callable[[], bool]) -> None:
        self.margin = 0.0
        self._file = file
        self._before = _identity(file)
        own = os.environ.get(OWN_STOP_FILE)
        self._own_file = Path(own) if own else None
        self._deadline = deadline
        self._slurm = _slurm_end()
        self._alone = alone
        self._signal = 0
        self._interrupted = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler. A second Ctrl-C interrupts at once; other further signals change nothing."""
        if number == signal.SIGINT:
            if self._interrupted:
                signal.default_int_handler(number, frame)
            self._interrupted = True
        self._signal = _BY_SIGNAL[signal.Signals(number)]

    def code(self) -> int:
        """Index into `REASONS` of why to stop now; 0 is not to."""
        if self._signal:
            return self._signal
        # The clocks and the file system's views of ranks differ; once they are connected rank 0's count.
        if rank() != 0 and joined():
            return 0
        soon = time.time() + self.margin
        if self._deadline is not None and soon >= self._deadline:
            return _DEADLINE
        if self._slurm is not None and soon + SLURM_MARGIN_SECONDS >= self._slurm:
            return _SLURM
        if self._own_file is not None and self._own_file.exists():
            return _OWN_FILE
        return _FILE if _identity(self._file) not in (None, self._before) else 0

    def obey(self, code: int) -> Stopped:
        """The exception to raise."""
        if code == _FILE:
            self.clear()
        return Stopped(REASONS[code])

    @property
    def found_before(self) -> bool:
        """Whether the STOP file is one from before."""
        return self._before is not None

    def clear(self) -> None:
        """Remove the STOP file, unless others are to see it too."""
        if rank() == 0 and self._alone():
            self._file.unlink(missing_ok=True)


def _identity(file: Path) -> tuple[int, int] | None:
    """Tells one STOP file from a later one; None where there is none."""
    try:
        facts = file.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns


_current: ContextVar[StopRequest | None] = ContextVar("stop request of the session at hand", default=None)


def current() -> StopRequest | None:
    """The request that the open session listens for, None outside a session."""
    return _current.get()


def safe_point() -> None:
    """Raise `Stopped` when this process was asked to stop. Call it where nothing would be lost.

    Ranks stop together, in training, which agrees on it; until they part this does nothing.
    """
    request = current()
    if joined():
        return
    require_ours(now=False)
    if request is not None and (code := request.code()):
        raise request.obey(code)


def agreed(request: StopRequest | None) -> int:
    """`request.code()` as all ranks see it: a signal that reached any of them stops them all."""
    return int(largest_of_ranks(request.code() if request is not None else 0))


def leave_word(stop: Stopped) -> None:
    """Tell the batch job that this process belongs to, if any, why it stopped."""
    own = os.environ.get(OWN_STOP_FILE)
    if own and rank() == 0:
        write_text(Path(f"{own}.obeyed"), f"{stop}\n")


@contextmanager
def listening(
    file: Path, deadline: float | None, alone: Callable[[], bool] = lambda: True
) -> Iterator[StopRequest]:
    """Listen for a stop while open. `alone`: whether this process alone obeys `file` and so removes it."""
    request = StopRequest(file, deadline, alone)
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, request.note) for number in _BY_SIGNAL}
    token = _current.set(request)
    try:
        yield request
    except Stopped:
        # The process is about to exit with code 0; a second signal until then shall not change that.
        before = {number: handler for number, handler in before.items() if number == signal.SIGINT}
        raise
    finally:
        _current.reset(token)
        for number, handler in before.items():
            signal.signal(number, handler)


# -- when ------------------------------------------------------------------------------------------


def parse_deadline(text: str, now: datetime | None = None) -> float:
    """Seconds since the epoch of `text`: 3h20m, 90s, 17:30 (the next one) or an ISO 8601 time.

    A time without a zone is local. InputError when it is none of these, or past.
    """
    here = (now or datetime.now()).astimezone()
    if _DURATION.fullmatch(text):
        parts = re.findall(r"([\d.]+)([dhms])", text)
        return here.timestamp() + sum(float(number) * _UNITS[unit] for number, unit in parts)
    if clock := _CLOCK.fullmatch(text):
        today = here.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
        return (today if today > here else today + timedelta(days=1)).timestamp()
    try:
        moment = datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        raise InputError(
            f"--deadline {text}: give a duration (3h20m, 90s), a time of day (17:30) or an ISO 8601 time"
        ) from error
    if moment <= here:
        raise InputError(f"--deadline {text} is past")
    return moment.timestamp()


def _slurm_end() -> float | None:
    text = os.environ.get("SLURM_JOB_END_TIME", "")
    return float(text) if text.isdecimal() else None
