"""Which checkpoint becomes the result: the one with the lowest validation loss, or that solves most problems.

    step    50     100     150
    loss    0.61   0.48    0.47
    solved  31     44      44      of 100      -> step 150: as many as step 100, at a lower loss

Training knows losses and nothing about answers. With `select_by: accuracy` it is given an `Exam`, which lets
the model as it is answer held-out problems of the training data and says how many are right.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mathreason.data.problem import Problem
from mathreason.results import Shard

if TYPE_CHECKING:
    from mathreason.models import LoadedModel

LOSS, CORRECT, ITEMS = "validation_loss", "validation_correct", "validation_items"
"""Keys of a line of the log."""


class Exam(Protocol):
    """Held-out problems for one model, which is asked as it is at each call."""

    items: int

    def correct(self, share: Shard, stopped: Callable[[], bool]) -> int | None:
        """How many of the problems in `share` the model solves; None when `stopped` ended it before all."""
        ...


SetExam = Callable[["LoadedModel", Sequence[Problem]], Exam]
"""Makes the exam of a model from the validation problems."""


@dataclass(frozen=True)
class Choice:
    """A checkpoint and why it was chosen; `correct` of `items` problems where that was asked."""

    step: int
    loss: float
    correct: int | None
    items: int | None
    why: str

    def to_dict(self) -> dict[str, Any]:
        """For train.json's `best`."""
        solved = {} if self.correct is None else {"accuracy": accuracy(self.correct, self.items)}
        return {"step": self.step, "loss": self.loss, **solved, "why": self.why}


def accuracy(correct: int, items: int | None) -> dict[str, Any]:
    """A share for train.json."""
    return {"value": correct / items if items else None, "correct": correct, "n": items}


def choose(history: Sequence[dict[str, Any]], steps: Collection[int] | None = None) -> Choice | None:
    """The best of the validated steps in a trainer's log history; None when none was validated.

    The most problems solved, where they were counted; of equals the lower loss, then the earlier step. With
    `steps` only of these: those that still have a checkpoint.
    """
    validated = [entry for entry in history if LOSS in entry and (steps is None or entry["step"] in steps)]
    if not validated:
        return None
    best = min(validated, key=lambda entry: (-entry.get(CORRECT, 0), entry[LOSS], entry["step"]))
    why = "lowest validation loss"
    if CORRECT in best:
        equal = [e["step"] for e in validated if e[CORRECT] == best[CORRECT] and e is not best]
        why = f"highest accuracy on held-out problems ({best[CORRECT]} of {best[ITEMS]})"
        if equal:
            why += f"; as many as step {', '.join(map(str, equal))}, at the lower validation loss or earlier"
    return Choice(best["step"], best[LOSS], best.get(CORRECT), best.get(ITEMS), why)


def validations(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For train.json: step, loss and, where it was counted, accuracy of every validation."""
    return [
        {"step": entry["step"], "loss": entry[LOSS]}
        | ({"accuracy": accuracy(entry[CORRECT], entry[ITEMS])} if CORRECT in entry else {})
        for entry in history
        if LOSS in entry
    ]


@contextmanager
def undisturbed_chance() -> Iterator[None]:
    """Random numbers drawn inside do not change those that training draws afterwards."""
    import numpy as np
    import torch

    python, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        yield
    random.setstate(python)
    np.random.set_state(numbers)
