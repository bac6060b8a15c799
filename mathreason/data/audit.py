"""The audit: is a training row in a benchmark of the job?

gsm-hard is the GSM8K *test* set with larger numbers, so training on it and testing on GSM8K measures
memory. Two cheap checks, no model needed:

- **exact after masking numbers**: the question equals a benchmark question once every number is a `#`;
- **13-gram**: the question or its solution shares 13 words in a row with a benchmark question (numbers
  kept). 13 is the length GPT-3's authors used (Brown et al. 2020, appendix C).

Words are compared in lower case, without punctuation, after Unicode NFKC.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from mathreason.data.problem import Problem

NGRAM = 13

_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_WORD = re.compile(r"[^\W_]+|#")

Reason = Literal["exact after masking numbers", "13-gram"]


@dataclass(frozen=True)
class Match:
    """A training row that is in `benchmark`: which item, how it was found and the words shared."""

    benchmark: str
    item: str
    reason: Reason
    shared: str


def words(text: str, mask_numbers: bool = False) -> list[str]:
    """Lower-case words of `text` without punctuation; with `mask_numbers` each number is `#`."""
    text = unicodedata.normalize("NFKC", text).lower()
    if mask_numbers:
        text = _NUMBER.sub("#", text)
    return _WORD.findall(text)


def masked(question: str) -> str:
    """The question with numbers masked, in the form two questions are compared in."""
    return " ".join(words(question, mask_numbers=True))


class Audit:
    """Benchmark questions indexed for look-up; `match` takes microseconds a row."""

    def __init__(self, benchmarks: Mapping[str, Iterable[Problem]]) -> None:
        self.benchmarks = list(benchmarks)
        self._exact: dict[str, list[tuple[str, str]]] = {}
        self._grams: dict[tuple[str, ...], list[tuple[str, str]]] = {}
        for name, items in benchmarks.items():
            for item in items:
                self._index(name, item)

    def _index(self, benchmark: str, item: Problem) -> None:
        entry = (benchmark, item.id)
        self._exact.setdefault(masked(item.question), []).append(entry)
        for gram in set(_grams(words(item.question))):
            self._grams.setdefault(gram, []).append(entry)

    def match(self, question: str, solution: str = "") -> list[Match]:
        """One match for each benchmark that holds this row; empty when it is clean."""
        found: dict[str, Match] = {}
        text = masked(question)
        for benchmark, item in self._exact.get(text, []):
            found.setdefault(benchmark, Match(benchmark, item, "exact after masking numbers", text))
        for part in (question, solution):
            for gram in _grams(words(part)):
                for benchmark, item in self._grams.get(gram, []):
                    found.setdefault(benchmark, Match(benchmark, item, "13-gram", " ".join(gram)))
        return list(found.values())


def _grams(tokens: list[str]) -> Iterable[tuple[str, ...]]:
    return (tuple(tokens[i : i + NGRAM]) for i in range(len(tokens) - NGRAM + 1))
