"""One finished evaluation, read back and checked: its summary and the graded response to every item.

    evaluation = load_evaluation(run, "gsm8k", "tuned")    # None while it has not been run to its end
    evaluation.samples[12].correct                         # in the benchmark's order
    evaluation.items[3]                                    # every response to the fourth item
    evaluation.setting("max_new_tokens")

A summary that disagrees with its own responses, or that lacks items, is refused: nothing further on looks
at it again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from mathreason.analysis.clustered import Clusters, cluster_items, clustered_accuracy
from mathreason.analysis.statistics import Accuracy
from mathreason.errors import InputError
from mathreason.results import RunDir, read_json, read_jsonl


@dataclass(frozen=True, slots=True)
class Sample:
    """One graded response to one item; `steps` counts the lines of the gold solution, when known.

    `sample` counts the responses to one item from 0. `attributes` and `group` are those of
    `data.problem.Problem`.
    """

    index: int
    id: str
    question: str
    answer: str
    prompt_sha256: str
    response: str
    strategy: str
    correct: bool
    truncated: bool
    response_tokens: int
    extracted: str | None
    steps: int | None
    sample: int = 0
    attributes: dict[str, str] = field(default_factory=dict)
    group: str | None = None
    solution: str = ""


@dataclass(frozen=True)
class Evaluation:
    """What `evaluations/<benchmark>/<variant>.json` says, and the samples it was counted from.

    `samples` holds every response, item by item; each item has the same number of them.
    """

    path: Path
    summary: dict[str, Any]
    samples: list[Sample]

    @cached_property
    def items(self) -> list[list[Sample]]:
        """The responses to each item, in the benchmark's order."""
        return [list(found) for _, found in groupby(self.samples, key=lambda sample: sample.index)]

    @cached_property
    def first(self) -> list[Sample]:
        """The first response to each item."""
        return [item[0] for item in self.items]

    @property
    def correct(self) -> list[bool]:
        return [sample.correct for sample in self.samples]

    @property
    def samples_per_item(self) -> int:
        return len(self.items[0])

    @cached_property
    def right(self) -> list[int]:
        """How many responses to each item are right."""
        return [sum(sample.correct for sample in item) for item in self.items]

    @cached_property
    def clusters(self) -> Clusters:
        """Which items belong together, by their group."""
        return cluster_items([item[0].group for item in self.items])

    @cached_property
    def accuracy(self) -> Accuracy:
        """Over all responses, as sure as the items and their groups allow."""
        return clustered_accuracy(self.right, self.samples_per_item, self.clusters)

    def setting(self, name: str, default: Any = None) -> Any:
        return require(self.summary, "settings", dict, str(self.path)).get(name, default)


def load_evaluation(run: RunDir, benchmark: str, variant: str) -> Evaluation | None:
    """The evaluation of `variant` ("base" or "tuned"), or None when it has no summary yet.

    Raises InputError when a file is malformed, when the summary and the samples disagree, or when items or
    responses are missing (a shard that was not run).
    """
    path = run.evaluation(benchmark, variant)
    if not path.exists():
        return None
    summary = read_json(path)
    samples = _read_samples(run.samples(benchmark, variant), require(summary, "key", str, str(path)))
    _check_agreement(path, summary, samples)
    return Evaluation(path, summary, samples)


def _read_samples(path: Path, key: str) -> list[Sample]:
    """Samples written under `key`, item by item; other keys belong to earlier settings."""
    samples: dict[tuple[int, int], Sample] = {}
    for number, row in read_jsonl(path):
        if row.get("key") != key:
            continue
        sample = _sample(row, f"{path}:{number}")
        place = (sample.index, sample.sample)
        if place in samples:
            raise InputError(
                f"{path}:{number}: item {sample.index}, sample {sample.sample} is there twice; evaluate again"
            )
        samples[place] = sample
    return [samples[place] for place in sorted(samples)]


def _sample(row: dict[str, Any], where: str) -> Sample:
    return Sample(
        index=require(row, "index", int, where),
        id=require(row, "id", str, where),
        question=require(row, "question", str, where),
        answer=require(row, "answer", str, where),
        prompt_sha256=require(row, "prompt_sha256", str, where),
        response=require(row, "response", str, where),
        strategy=require(row, "strategy", str, where),
        correct=require(row, "correct", bool, where),
        truncated=require(row, "truncated", bool, where),
        response_tokens=require(row, "response_tokens", int, where),
        extracted=None if row.get("extracted") is None else require(row, "extracted", str, where),
        steps=None if row.get("steps") is None else require(row, "steps", int, where),
        sample=require({"sample": 0, **row}, "sample", int, where),
        attributes=require({"attributes": {}, **row}, "attributes", dict, where),
        solution=require({"solution": "", **row}, "solution", str, where),
        group=None if row.get("group") is None else require(row, "group", str, where),
    )


def require(row: dict[str, Any], key: str, kind: type[Any], where: str) -> Any:
    """`row[key]`, or an InputError naming `where` when it is missing or not a `kind`."""
    value = row.get(key)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{where}: '{key}' should be {kind.__name__}, found {value!r:.60}; evaluate again")
    return value


def _check_agreement(path: Path, summary: dict[str, Any], samples: list[Sample]) -> None:
    accuracy = require(summary, "accuracy", dict, str(path))
    said = (accuracy.get("correct"), accuracy.get("n"))
    counted = (sum(sample.correct for sample in samples), len(samples))
    if said != counted:
        raise InputError(
            f"{path} says {said[0]} of {said[1]} correct, its samples say {counted[0]} of {counted[1]}; "
            "evaluate again"
        )
    if not samples:
        raise InputError(f"{path} holds no items; evaluate again")
    _check_completeness(path, summary, samples)


def _check_completeness(path: Path, summary: dict[str, Any], samples: list[Sample]) -> None:
    """Raise InputError unless every planned item has as many responses as were asked for.

    The summary says how many items there should be: `items_in_benchmark`, cut to the setting `limit`.
    Without it, the last item that is there has to do.
    """
    settings = require(summary, "settings", dict, str(path))
    per_item = settings.get("samples") or max(sample.sample for sample in samples) + 1
    in_benchmark = summary.get("items_in_benchmark") or samples[-1].index + 1
    items = min(in_benchmark, settings.get("limit") or in_benchmark)
    found = {(sample.index, sample.sample) for sample in samples}
    missing = [
        (index, number)
        for index in range(items)
        for number in range(per_item)
        if (index, number) not in found
    ]
    if missing:
        index, number = missing[0]
        raise InputError(
            f"{path} is not complete: {len(missing)} of {items * per_item} responses are missing, first "
            f"sample {number} of item {index}; run the rest of the evaluation"
        )
    if len(found) > items * per_item:
        raise InputError(
            f"{path} holds {len(found)} responses, {items * per_item} were asked for; evaluate again"
        )
