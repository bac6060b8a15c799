"""Whether two expressions are equal, asked of math-verify in a process that can be killed.

    with SymbolicProcess() as symbolic:
        symbolic.equal("11+x", "x+11")                          -> "equal"
        symbolic.equal("\\\\frac{1}{\\\\sqrt{3}}", "\\\\frac{\\\\sqrt{3}}{3}")  -> "equal"
        symbolic.equal("x^{x^{x^{x}}}", "x")                     -> "refused"
        symbolic.equal("(x+1)^{5000}", "(x+2)^{5000}")          -> "timeout"

The process (`symbolic_worker`) starts with the first question, serves all further ones, and is killed and
replaced when an answer takes too long. Only short expressions made of `_TOKEN`s reach it. A model's text is
hostile: an alarm inside the process would not stop a long integer operation, and a thread cannot be killed.
"""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Literal

from mathreason.errors import MathreasonError

Verdict = Literal["equal", "different", "timeout", "refused"]
"""`refused` is text that must not reach the process, or on which the process gave out."""

SECONDS = 2.0
"""Wall-clock limit of one comparison; the start of the process does not count."""
START_SECONDS = 60.0
"""Wall-clock limit of the start: the imports may come from a slow network file system."""
MEMORY = 640 * 2**20
"""Bytes of address space of the process; it holds about 130 MiB after its imports."""

_ENVIRONMENT = ("HOME", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "PYTHONPATH", "PYTHONUSERBASE", "TMPDIR")


_SAME_EVERYWHERE = {  # whether gmpy2 is installed must not change a verdict
    "MPMATH_NOGMPY": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "SYMPY_GROUND_TYPES": "python",
}


class SymbolicProcess:
    """One process, started when first needed. Usable from several threads, one question at a time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._stop: weakref.finalize[[subprocess.Popen[bytes], int], SymbolicProcess] | None = None

    def __enter__(self) -> SymbolicProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the process, if there is one. The next question would start another."""
        if self._stop is not None:
            self._stop()
        self._process = self._stop = None

    def start(self) -> None:
        """Start the process if it does not run: `equal` does so too, outside of its time limit."""
        with self._exchange():
            self._running()

    def equal(self, candidate: str, reference: str, seconds: float = SECONDS) -> Verdict:
        """Whether `candidate` is the same expression, equation or inequality as `reference`.

        Gives up after `seconds`, at most `SECONDS`, of wall-clock time. Raises MathreasonError when the
        process cannot be started.
        """
        if not (may_compare(candidate) and may_compare(reference)):
            return "refused"
        if _variables(candidate) != _variables(reference):
            return "different"
        with self._exchange():
            process = self._running()
            _write_line(process, json.dumps([_as_meant(candidate), _as_meant(reference)]))
            reply = _read_line(process, min(seconds, SECONDS))
            if reply == "equal":
                return "equal"
            if reply == "different":
                return "different"
            self.close()
        return "timeout" if reply is None else "refused"  # refused: it ran out of memory, or crashed

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        """One question at a time; one that is interrupted must not leave its reply to the next."""
        with self._lock:
            try:
                yield
            except BaseException:
                self.close()
                raise

    def _running(self) -> subprocess.Popen[bytes]:
        """The process; another one where it has ended, or belongs to the process this one was forked from."""
        if self._process is not None and (self._process.poll() is not None or self._owner != os.getpid()):
            self.close()
        if self._process is None:
            self._owner = os.getpid()
            self._process = _start()
            self._stop = weakref.finalize(self, _kill, self._process, self._owner)
            if (said := _read_line(self._process, START_SECONDS)) != "ready":
                self.close()
                raise MathreasonError(
                    "the process for symbolic comparison does not start"
                    + (" within its time" if said is None else "")
                    + "; check that `python -c 'import math_verify'` works here"
                )
        return self._process


def _start() -> subprocess.Popen[bytes]:
    worker = Path(__file__).with_name("symbolic_worker.py")
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    environment |= _SAME_EVERYWHERE
    return subprocess.Popen(
        # -P: the modules beside the worker must not stand in for the standard library's
        [sys.executable, "-P", str(worker), str(os.getpid()), str(MEMORY), str(int(SECONDS) + 1)],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # Ctrl-C is for the parent, which then ends this one
    )


def _write_line(process: subprocess.Popen[bytes], text: str) -> None:
    assert process.stdin is not None  # noqa: S101  # Popen was given a pipe
    with suppress(BrokenPipeError):  # it has just ended; the reply will say so
        process.stdin.write(text.encode() + b"\n")


def _read_line(process: subprocess.Popen[bytes], seconds: float) -> str | None:
    """The next reply; None when it does not come in time, "" when the process has ended."""
    assert process.stdout is not None  # noqa: S101  # Popen was given a pipe
    descriptor, received, deadline = process.stdout.fileno(), b"", time.monotonic() + seconds
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP)
    while not received.endswith(b"\n"):
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return None
        chunk = os.read(descriptor, 4096)
        if not chunk:
            return ""
        received += chunk
    return str(json.loads(received))


def _kill(process: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() != owner:  # after a fork it is the other one's
        return
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


# -- what may reach the process --------------------------------------------------------------------

MAX_LENGTH = 300
MAX_TOKENS = 150
MAX_DEPTH = 12
MAX_DIGITS = 30

_FUNCTIONS = "sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|arccot|arcsec|arccsc|sinh|cosh|tanh|ln|log|lg|exp"
_GREEK = (
    "alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau|phi|varphi"
    "|chi|psi|omega|Gamma|Delta|Theta|Lambda|Sigma|Phi|Psi|Omega"
)
_TOKEN = re.compile(
    rf"\\(?:[dt]?frac|sqrt|[dt]?binom|cdot|times|div|pi|infty|[lr]floor|[lr]ceil|[lg]eq?|neq?|pm|mp|{_FUNCTIONS}"
    rf"|{_GREEK})(?![A-Za-z])|\\[{{}}]|\d+(?:\.\d+)?|\.\d+|[A-Za-z]|[-+*/^_=<>()\[\]{{}}|!' ]"
)
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{4,}")
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")
_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_LARGE_POWER = re.compile(r"\^\s?\{?\s?-?\d{5,}|\d{5,}\s?!|[})]\s?!|(?:\^(?:\{[^{}^]*|\w)){3}")
_DEGREES = re.compile(r"\\(sin|cos|tan|cot|sec|csc) ?[{(]{0,2}(\d+)[)}]{0,2}(?![\d.A-Za-z\\(^])")
_DECIMAL = re.compile(r"(?<![\d.])(\d*)\.(\d+)(?![\d.])")


def may_compare(text: str) -> bool:
    """Whether `text` is a short expression of known commands, single letters and bounded numbers."""
    tokens = _TOKEN.findall(text[: MAX_LENGTH + 1])
    if len(text) > MAX_LENGTH or len(tokens) > MAX_TOKENS or sum(map(len, tokens)) != len(text):
        return False
    if _WORD.search(text) or "__" in text or _LARGE_POWER.search(text):
        return False
    if any(len(number) > MAX_DIGITS for number in _NUMBER.findall(text)):
        return False
    depth = deepest = 0
    for piece in tokens:
        depth += (piece in _OPENING) - (piece in _CLOSING)
        deepest = max(deepest, depth)
    return depth == 0 and deepest <= MAX_DEPTH


def _variables(text: str) -> set[str]:
    """The letters outside of commands, in their case (math-verify takes X for x), without i and e."""
    return {token for token in _TOKEN.findall(text) if token.isalpha()} - {"i", "e"}


def _as_meant(text: str) -> str:
    """`0.5x` as `\\frac{5}{10}x`, as a float would be compared with a tolerance; `\\cos36` in degrees.

    An i stands alone, or math-verify takes it for a variable.
    """
    text = _DEGREES.sub(r"\\\1(\\frac{\2*\\pi}{180})", text)
    text = "".join(" i " if piece == "i" else piece for piece in _TOKEN.findall(text))
    return _DECIMAL.sub(lambda match: f"\\frac{{{int(match[1] + match[2])}}}{{1{'0' * len(match[2])}}}", text)
