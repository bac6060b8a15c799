"""Word problems from templates, with worked solutions: a source that needs no download.

`generate("train", 3000, seed=1)` yields problems such as

    Problem(
        question="Tom has 5 apples. Tom buys 3 bags with 4 apples in each bag. "
        "How many apples does Tom have now?",
        solution="Tom buys 3 * 4 = 12 apples.\\nTom has 5 + 12 = 17 apples.",
        answer="17",
        source="generator",
        id="generator/train-1/0",
    )

A story is a chain: an opening (someone has something), up to two events (the amount changes) and a closing
(what is asked). Each of the three is drawn from a family: its wordings, its worked lines and the rule that
draws its numbers. Numbers are whole, from 2 to 120; products come from the tables up to 12 times 12.

Whether a question belongs to "train" or to "test" is decided by a hash of its words without the numbers
(`side`), so no test question ever appears in training with other numbers, whatever the seeds.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Literal

from mathreason.data.problem import Problem
from mathreason.data.story_worlds import (
    CONTAINERS,
    NAMES,
    PLACES,
    THINGS,
    WORLD_WEIGHTS,
    WORLDS,
    Family,
    article,
    plural,
)

Split = Literal["train", "test"]

TEST_SHARE = 8  # one question in so many is on the test side
EVENT_WEIGHTS = (4, 4, 2)  # how often 0, 1 or 2 events come between opening and closing


@dataclass(frozen=True)
class Story:
    """A told story: sentences, each with the worked lines that follow from it, and what is asked."""

    beats: tuple[tuple[str, tuple[str, ...]], ...]
    ask: str
    answer: int

    @property
    def told(self) -> str:
        return " ".join(sentence for sentence, _ in self.beats if sentence)

    @property
    def question(self) -> str:
        return f"{self.told} {self.ask}"

    @property
    def worked(self) -> tuple[str, ...]:
        return tuple(line for _, lines in self.beats for line in lines)


def story(rng: Random) -> Story:
    """A story of one to four worked lines."""
    while True:
        world = rng.choices(WORLDS, WORLD_WEIGHTS)[0]
        count = rng.choices((0, 1, 2), EVENT_WEIGHTS)[0] if world.events else 0
        families = [
            rng.choice(world.openings),
            *rng.choices(world.events, k=count),
            rng.choice(world.closings),
        ]
        drawn = _chain(rng, families)
        if drawn is not None and 1 <= len(drawn.worked) <= 4:
            return drawn


def _chain(rng: Random, families: list[Family]) -> Story | None:
    """Tell `families` one after the other; None when the numbers do not allow it."""
    a, b, d, e = rng.sample(NAMES, 4)
    one, c = rng.choice(THINGS), rng.choice(CONTAINERS)
    words = {
        "a": a,
        "b": b,
        "d": d,
        "e": e,
        "one": one,
        "an": article(one),
        "o": plural(one),
        "c": c,
        "cs": plural(c),
    }
    beats: list[tuple[str, tuple[str, ...]]] = []
    amount = 0
    ask = ""
    for family in families:
        numbers = family.draw(rng, amount)
        if numbers is None:
            return None
        fields = {**words, "place": rng.choice(PLACES), "x": amount, **numbers}
        told = rng.choice(family.told).format(**fields)
        beats.append((told, tuple(line.format(**fields) for line in family.worked)))
        ask = rng.choice(family.ask).format(**fields) if family.ask else ask
        amount = numbers["z"]
    return Story(tuple(beats), ask, amount)


def side(question: str) -> Split:
    """The split a question belongs to, by its words alone: case, punctuation and numbers do not count."""
    words = " ".join(re.findall(r"[a-z]+|#", re.sub(r"[0-9]+", "#", question.lower())))
    digest = hashlib.sha256(words.encode("ascii")).digest()
    return "test" if int.from_bytes(digest[:4], "big") % TEST_SHARE == 0 else "train"


def stories(split: Split, seed: int) -> Iterator[Story]:
    """An endless run of stories whose questions lie on the `split` side, the same for the same seed."""
    rng = Random(f"{split}-{seed}")
    while True:
        drawn = story(rng)
        if side(drawn.question) == split:
            yield drawn


def generate(split: Split, count: int, seed: int) -> Iterator[Problem]:
    """The first `count` problems of `split` for `seed`; a smaller count gives the same first problems."""
    for number, drawn in enumerate(islice(stories(split, seed), count)):
        yield Problem(
            question=drawn.question,
            solution="\n".join(drawn.worked),
            answer=str(drawn.answer),
            source="generator",
            id=f"generator/{split}-{seed}/{number}",
        )
