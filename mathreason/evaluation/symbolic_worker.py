"""The process that compares two expressions with math-verify; started by `symbolic.SymbolicProcess` only.

    python -P symbolic_worker.py PARENT MEMORY SECONDS
    -> "ready"
    <- ["\\\\frac{1}{\\\\sqrt{3}}", "\\\\frac{\\\\sqrt{3}}{3}"]
    -> "equal"

One JSON value a line, in and out. Whatever is asked, this process writes no file, starts no process, opens
no connection, stays within its memory and processor time, and is gone when its parent is: it is the place
where text of unknown origin meets a computer algebra system. It imports nothing of mathreason.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_DIGITS = 30
"""Decimal digits with which two values are compared before anything is simplified."""
_POINTS = ((7, 11), (13, 3))
"""Where two expressions are compared: the i-th variable is set to (a + i) / b."""


def main(parent: int, memory: int, seconds: int) -> None:
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not look like a reply
    _end_with(parent)
    compare = _comparer()
    _confine(memory)
    _reply(replies, "ready")
    for line in sys.stdin:
        _limit_processor_time(seconds)
        candidate, reference = json.loads(line)
        _reply(replies, "equal" if compare(candidate, reference) else "different")


def _reply(replies: Any, word: str) -> None:
    replies.write(json.dumps(word) + "\n")
    replies.flush()


# -- confinement -----------------------------------------------------------------------------------


def _end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however the parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit("the parent has already ended")


def _confine(memory: int) -> None:
    """Limit memory; forbid files, core dumps, processes and connections; leave the folder."""
    for kind, limit in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    os.chdir("/proc/self" if sys.platform == "linux" else "/")  # where nothing can be created
    sys.addaudithook(_refuse)


_FORBIDDEN = (
    "os.exec",
    "os.fork",
    "os.mkdir",
    "os.posix_spawn",
    "os.putenv",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.spawn",
    "os.system",
    "pty.spawn",
    "shutil.",
    "socket.",
    "subprocess.",
)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event.startswith(_FORBIDDEN):
        raise PermissionError(event)
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        raise PermissionError("open for writing")


def _limit_processor_time(seconds: int) -> None:
    """The second bound, for when nobody is left to kill this process: SIGXCPU ends it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime)
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, resource.RLIM_INFINITY))


# -- comparison ------------------------------------------------------------------------------------


def _comparer() -> Any:
    """A function of candidate and reference; the imports and the first parse happen here."""
    import logging

    from latex2sympy2_extended.math_normalization import (
        NormalizationConfig,
    )
    from math_verify import parse, verify
    from math_verify.parser import LatexExtractionConfig

    logging.disable(logging.CRITICAL)
    # Units are gone already; it would take the t of 6t for one.
    settings: Any = [
        LatexExtractionConfig(
            normalization_config=NormalizationConfig(malformed_operators=True, boxed="none")
        )
    ]

    def read(text: str) -> list[Any]:
        # Its own alarm would not stop a long integer operation; the parent's SIGKILL does.
        found = parse(f"${text}$", settings, fallback_mode="no_fallback", parsing_timeout=None)
        return list(found)

    def compare(candidate: str, reference: str) -> bool:
        ours, theirs = read(candidate), read(reference)
        if not ours or not theirs or _differ_in_value(ours[0], theirs[0]):
            return False
        return bool(verify(theirs, ours, timeout_seconds=None))

    compare("x+\\frac{\\sqrt{2}}{2}", "\\frac{\\sqrt{2}}{2}+x")
    return compare


def _differ_in_value(ours: Any, theirs: Any) -> bool:
    """Whether two expressions have different values at some point: then no simplification is needed.

    Decides most wrong answers at once, where `verify` would try every simplification it knows.
    """
    from sympy import Expr, Rational

    if not isinstance(ours, Expr) or not isinstance(theirs, Expr):
        return False
    variables = sorted(ours.free_symbols | theirs.free_symbols, key=str)
    for over, under in _POINTS if variables else _POINTS[:1]:
        point = {name: Rational(over + i, under) for i, name in enumerate(variables)}
        values = [_value(expression, point) for expression in (ours, theirs)]
        if None in values:
            return False
        one, other = values
        if abs(one - other) > 10 ** (5 - _DIGITS) * max(1, abs(one), abs(other)):
            return True
    return False


def _value(expression: Any, point: dict[Any, Any]) -> Any:
    """The value as a number of `_DIGITS` digits; None where there is none."""
    try:
        value = expression.subs(point).doit().evalf(_DIGITS)
    except (ArithmeticError, AttributeError, NotImplementedError, RecursionError, TypeError, ValueError):
        return None
    return value if value.is_number and value.is_finite else None


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
