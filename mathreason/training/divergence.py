"""Noticing that training has gone wrong, and at which data.

    trend = Trend()
    if said := trend.note(step, loss, names):   # names() gives the ids of the step's problems
        ...                                     # "the loss has been more than 3 times its median ..."

A loss that is no number is wrong at once. One that stays above `FACTOR` times the median of the steps before
for `PATIENCE` steps is, too; a single hard step is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import median
from typing import Any

FACTOR = 3.0
PATIENCE = 50
WINDOW = 200
"""Steps the running median is taken of; steps above `FACTOR` times it do not enter."""
ENOUGH = 20
"""Steps before the median means something."""


class Trend:
    """The losses of the last steps, in nats per supervised token, and how long they have been too high."""

    def __init__(self) -> None:
        self.problem_ids: list[str] = []  # of the step where it began
        self._losses: list[float] = []
        self._above = 0
        self._since = 0

    def note(self, step: int, loss: float, names: Callable[[], list[str]]) -> str | None:
        """What is wrong after `step` with this mean loss, None when nothing is."""
        if not math.isfinite(loss):
            self.problem_ids = names()
            return f"the loss of step {step} is {loss}"
        if len(self._losses) < ENOUGH or loss <= FACTOR * median(self._losses):
            self._above = 0
            self._losses = [*self._losses, loss][-WINDOW:]
            return None
        if self._above == 0:
            self._since, self.problem_ids = step, names()
        self._above += 1
        if self._above < PATIENCE:
            return None
        return (
            f"since step {self._since} the loss has been more than {FACTOR:g} times its median "
            f"{median(self._losses):.4g}, at step {step} {loss:.4g}"
        )

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {
            "losses": self._losses,
            "above": self._above,
            "since": self._since,
            "problem_ids": self.problem_ids,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's `state()`."""
        self._losses, self._above = list(state["losses"]), state["above"]
        self._since, self.problem_ids = state["since"], list(state["problem_ids"])
