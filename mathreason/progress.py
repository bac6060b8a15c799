"""Telling the user what happens: on screen (stderr) and in the run's log.txt.

    reporter = Reporter(run.log_text)
    reporter.say("training: 1 123 steps")
    with reporter.track("gsm8k, tuned", total=200) as advance:
        advance(16)

A progress bar is drawn only on a terminal. Elsewhere (a Slurm log, a pipe) the messages are plain
lines, and long stages leave a line in the log every half minute.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mathreason.results import now

if TYPE_CHECKING:
    from rich.console import Console

LOG_INTERVAL_SECONDS = 30.0
PIPE_WIDTH = 120  # columns of a table that goes to a file or a pipe


def output_console() -> Console:
    """The console for a command's result on standard output; wide when that is no terminal."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


class Reporter:
    """Messages to the screen and to a log file; use as a context manager or call `close`."""

    def __init__(self, log: Path | None = None, quiet: bool = False) -> None:
        self.quiet = quiet
        self.warnings: list[str] = []
        self._console_cache: Console | None = None
        self._log = log.open("a", encoding="utf-8") if log is not None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def say(self, text: str) -> None:
        """One plain message."""
        self._write(text)
        if not self.quiet:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """A message that must not be missed: a fallback taken, rows dropped, a mark on a result."""
        self.warnings.append(text)
        self._write(f"warning: {text}")
        if not self.quiet:
            self._console.print(
                f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True
            )

    def note(self, text: str) -> None:
        """A line for the log file alone."""
        self._write(text)

    @contextmanager
    def track(self, what: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
        """Show how far a long stage is; yields a function that is called with each advance."""
        state = {"done": done, "logged": time.monotonic()}

        def log_advance(count: int) -> None:
            state["done"] += count
            if time.monotonic() - state["logged"] >= LOG_INTERVAL_SECONDS:
                state["logged"] = time.monotonic()
                self._write(f"{what}: {state['done']} of {total}")

        if self.quiet or not self._console.is_terminal:
            yield log_advance
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task(what, total=total, completed=done)

            def advance(count: int) -> None:
                log_advance(count)
                bar.advance(task, count)

            yield advance

    @property
    def _console(self) -> Console:
        if self._console_cache is None:
            from rich.console import Console

            self._console_cache = Console(file=sys.stderr)
        return self._console_cache

    def _write(self, text: str) -> None:
        if self._log is not None:
            self._log.write(f"{now()} {text}\n")
            self._log.flush()
