"""A look at the sources of a job: columns, lengths in tokens, solution steps, samples, drops.

for look in inspect_sources(job, prompter, data_dir, rows=1000): ...
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import quantiles
from typing import Any

from mathreason.config import JobConfig
from mathreason.data.mixture import source_columns
from mathreason.data.problem import Problem
from mathreason.data.prompts import Prompter
from mathreason.data.rows import MissingColumn, Rejection, parse_row
from mathreason.data.sources import open_source


@dataclass
class SourceLook:
    """What the first `rows` rows of a source, in the job's order, look like."""

    source: str
    origin: str
    rows: int = 0
    columns: dict[str, Counter[str]] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)
    tokens: list[int] = field(default_factory=list)
    steps: Counter[int] = field(default_factory=Counter)
    samples: list[Problem] = field(default_factory=list)
    too_long: int = 0

    def token_quantiles(self) -> tuple[int, int, int, int, int] | None:
        """Shortest, quartile, median, quartile, longest example in tokens; None without examples."""
        if not self.tokens:
            return None
        low, middle, high = (
            quantiles(self.tokens, n=4, method="inclusive") if len(self.tokens) > 1 else self.tokens * 3
        )
        return min(self.tokens), round(low), round(middle), round(high), max(self.tokens)


def inspect_sources(
    job: JobConfig, prompter: Prompter, data_dir: Path | None, rows: int, samples: int
) -> list[SourceLook]:
    """Look at up to `rows` rows of each source; InputError as in training when one is malformed."""
    looks = []
    for config in job.data.mixture:
        opened = open_source(config, data_dir, job.data.seed)
        look = SourceLook(opened.config.source, opened.origin)
        for raw in islice(opened.rows, rows):
            _note_columns(look, raw.values)
            try:
                parsed = parse_row(
                    opened.config.source, raw.values, raw.identifier, source_columns(opened.config)
                )
            except MissingColumn as error:
                raise MissingColumn(f"{raw.place}: {error}") from error
            if isinstance(parsed, Rejection):
                look.rejected[parsed.reason] += 1
            else:
                _note_problem(look, parsed, prompter, job.data.max_length, samples)
        looks.append(look)
    return looks


def _note_columns(look: SourceLook, values: dict[str, Any]) -> None:
    look.rows += 1
    for name, value in values.items():
        look.columns.setdefault(name, Counter())[type(value).__name__] += 1


def _note_problem(look: SourceLook, problem: Problem, prompter: Prompter, limit: int, samples: int) -> None:
    length = len(prompter.encode(problem).ids)
    look.tokens.append(length)
    look.too_long += length > limit
    look.steps[problem.steps] += 1
    if len(look.samples) < samples:
        look.samples.append(problem)
