"""Items with their responses as the report shows them: cut to length, in parts, the parts marked.

    shown_item(base, tuned)["tuned"]["parts"]
        [["She sold ", "", ""], ["48 + 24 = 73", "differs wrong", "gives 72"], [" in all.", "differs", ""]]

A part is a text, its marks ("differs": in the first step where the two responses part ways; "wrong": a
wrong calculation of a wrong response) and a note to stand after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise, zip_longest
from typing import Any

from mathreason.analysis.calculations import calculations, first_wrong
from mathreason.analysis.errors import category, outcome, set_up
from mathreason.analysis.figures import LABELS
from mathreason.analysis.samples import Sample
from mathreason.analysis.steps import Step, first_difference, step_at, steps

MAX_BROWSER_ITEMS = 1000
MAX_RESPONSE_CHARACTERS = 4000
MAX_MARKS = 20

Part = tuple[str, str, str]


def browser_items(
    base: Sequence[Sample], tuned: Sequence[Sample], labels: Mapping[str, str] = LABELS
) -> list[dict[str, Any]]:
    """The first items of a benchmark, as the page's script reads them."""
    pairs = zip_longest(base[:MAX_BROWSER_ITEMS], tuned[:MAX_BROWSER_ITEMS])
    return [shown_item(before, after, labels) for before, after in pairs]


def shown_item(
    base: Sample | None, tuned: Sample | None, labels: Mapping[str, str] = LABELS
) -> dict[str, Any]:
    """One item with the response of each model that was evaluated; at least one is given."""
    differs: tuple[Step | None, Step | None] = (None, None)
    if base is not None and tuned is not None:
        result = outcome(base, tuned)
        known = base
        if result in ("fixed", "broken"):
            differs = first_difference(base.response, tuned.response)
    else:
        known = next(sample for sample in (base, tuned) if sample is not None)
        result = "right" if known.correct else "wrong"
    return {
        "id": known.id,
        "question": known.question[:MAX_RESPONSE_CHARACTERS],
        "answer": known.answer[:MAX_RESPONSE_CHARACTERS],
        "outcome": result,
        "base": shown_response(base, labels["base"], differs[0]) if base is not None else None,
        "tuned": shown_response(tuned, labels["tuned"], differs[1]) if tuned is not None else None,
    }


def shown_response(sample: Sample, label: str, differs: Step | None = None) -> dict[str, Any]:
    """A response in marked parts, and what is known of it."""
    kind = category(sample)
    detail = set_up(sample)
    found = None if sample.correct else first_wrong(sample.response)
    written = steps(sample.response)
    slip = step_at(written, found.start) if found is not None else None
    return {
        "label": label,
        "parts": _parts(sample, differs),
        "cut": len(sample.response) > MAX_RESPONSE_CHARACTERS,
        "correct": sample.correct,
        "extracted": None if sample.extracted is None else sample.extracted[:200],
        "category": kind if detail in (None, "other") else f"{kind}: {detail}",
        "slip": f"wrong calculation in step {slip.number} of {len(written)}" if slip is not None else None,
        "length": _length(sample),
    }


def _length(sample: Sample) -> str:
    """Tokens where they were counted, else words."""
    tokens = sample.response_tokens
    return f"{tokens} tokens" if tokens else f"{len(sample.response.split())} words"


def _parts(sample: Sample, differs: Step | None) -> list[Part]:
    shown = sample.response[:MAX_RESPONSE_CHARACTERS]
    wrong = [] if sample.correct else [each for each in calculations(shown) if not each.right][:MAX_MARKS]
    notes = {each.end: f"gives {each.true}" for each in wrong}
    step = (differs.start, min(differs.end, len(shown))) if differs is not None else (0, 0)
    edges = {0, len(shown), *step, *(edge for each in wrong for edge in (each.start, each.end))}
    places = sorted(edge for edge in edges if edge <= len(shown))
    parts: list[Part] = []
    for start, end in pairwise(places):
        marks = ["differs"] if step[0] <= start < step[1] else []
        marks += ["wrong"] if any(each.start <= start < each.end for each in wrong) else []
        parts.append((shown[start:end], " ".join(marks), notes.get(end, "")))
    return parts
