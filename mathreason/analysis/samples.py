"""One finished evaluation, read back and checked: its summary and the graded response to every item.

    evaluation = load_evaluation(run, "gsm8k", "tuned")    # None while it has not been run to its end
    evaluation.samples[12].correct                         # in the benchmark's order
    evaluation.summary["settings"]["max_new_tokens"]

A summary that disagrees with its own responses is refused: nothing further on looks at it again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mathreason.analysis.statistics import Accuracy, wilson
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
    """What `evaluations/<benchmark>/<variant>.json` says, and the samples it was counted from."""

    path: Path
    summary: dict[str, Any]
    samples: list[Sample]

    @property
    def correct(self) -> list[bool]:
        return [sample.correct for sample in self.samples]

    @property
    def accuracy(self) -> Accuracy:
        return wilson(sum(self.correct), len(self.samples))

    def setting(self, name: str) -> Any:
        return require(self.summary, "settings", dict, str(self.path)).get(name)


def load_evaluation(run: RunDir, benchmark: str, variant: str) -> Evaluation | None:
    """The evaluation of `variant` ("base" or "tuned"), or None when it has no summary yet.

    Raises InputError when a file is malformed, or when the summary and the samples disagree.
    """
    path = run.evaluation(benchmark, variant)
    if not path.exists():
        return None
    summary = read_json(path)
    samples = _read_samples(run.samples(benchmark, variant), require(summary, "key", str, str(path)))
    _check_agreement(path, summary, samples)
    return Evaluation(path, summary, samples)


def _read_samples(path: Path, key: str) -> list[Sample]:
    """Samples written under `key`, in the benchmark's order; other keys belong to earlier settings."""
    samples: dict[int, Sample] = {}
    for number, row in read_jsonl(path):
        if row.get("key") != key:
            continue
        sample = _sample(row, f"{path}:{number}")
        if sample.index in samples:
            raise InputError(f"{path}:{number}: item {sample.index} is there twice; evaluate again")
        samples[sample.index] = sample
    return [samples[index] for index in sorted(samples)]


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
