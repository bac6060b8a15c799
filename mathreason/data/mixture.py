"""The mixture: from each source as many good problems as the job asks for, and a count of all the others.

For each row, in the order the seed decides: audit against the benchmarks, parse, drop a repeated row,
drop one too long; the first `count` that remain are taken. So every number in data.json is about rows
that were really read.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mathreason.config import Columns, DataConfig, SourceConfig
from mathreason.data.audit import Audit, Match, masked, words
from mathreason.data.problem import Problem
from mathreason.data.prompts import Prompter
from mathreason.data.rows import MissingColumn, Rejection, parse_row
from mathreason.data.sources import Opened, Raw, open_source
from mathreason.errors import InputError
from mathreason.progress import Reporter
from mathreason.results import content_hash
from mathreason.training.stopping import safe_point

# With `balance`, this many candidates are collected for each problem asked for; a stream has no end.
BALANCE_POOL = 4
EXAMPLES_SHOWN = 20
STEP_BUCKETS = 8  # problems with more written steps share the last bucket


@dataclass
class SourceReport:
    """What became of the rows of one source."""

    source: str
    split: str
    asked: int | None
    origin: str
    fallback: str | None
    taken: int = 0
    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    shortest_dropped: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "split": self.split,
            "asked": self.asked,
            "taken": self.taken,
            "read": self.read,
            "from": self.origin,
            "fallback": self.fallback,
            "dropped": dict(sorted(self.dropped.items())),
        }


@dataclass
class AuditReport:
    """What the audit found, over all sources."""

    benchmarks: list[str]
    items: int
    policy: str
    by_source: dict[str, Counter[str]] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, str]] = field(default_factory=list)

    def add(self, source: str, identifier: str, matches: list[Match]) -> None:
        counts = self.by_source.setdefault(source, Counter(checked=0, matched=0))
        counts["checked"] += 1
        if not matches:
            return
        counts["matched"] += 1
        self.reasons[matches[0].reason] += 1
        if len(self.examples) < EXAMPLES_SHOWN:
            shown = {"benchmark": matches[0].benchmark, "item": matches[0].item, "reason": matches[0].reason}
            self.examples.append({"id": identifier, **shown, "shared": matches[0].shared[:300]})

    def to_dict(self) -> dict[str, Any]:
        counts = self.by_source.values()
        return {
            "benchmarks": self.benchmarks,
            "benchmark_items": self.items,
            "policy": self.policy,
            "checked": sum(count["checked"] for count in counts),
            "matched": sum(count["matched"] for count in counts),
            "exact": self.reasons["exact after masking numbers"],
            "ngram": self.reasons["13-gram"],
            "kept_contaminated": self.kept.total(),
            "kept_by_benchmark": dict(self.kept),
            "by_source": {name: dict(count) for name, count in self.by_source.items()},
            "examples": self.examples,
        }


@dataclass(frozen=True)
class Mixture:
    """Problems to train on and to validate on, and how they were come by."""

    train: list[Problem]
    validation: list[Problem]
    sources: list[SourceReport]
    audit: AuditReport


def build_mixture(
    config: DataConfig,
    benchmarks: Mapping[str, list[Problem]],
    prompter: Prompter,
    data_dir: Path | None,
    reporter: Reporter,
) -> Mixture:
    """Read all sources of `config` and audit them against the items of `benchmarks`.

    Raises InputError when a source cannot be had, a row is malformed, `on_contamination: fail` meets a
    contaminated row, or nothing is left to train on.
    """
    items = sum(len(problems) for problems in benchmarks.values())
    report = AuditReport(list(benchmarks), items, config.on_contamination)
    builder = _Builder(config, Audit(benchmarks), prompter, report)
    taken: list[Problem] = []
    for source in config.mixture:
        opened = open_source(source, data_dir, config.seed)
        if opened.fallback:
            reporter.warn(opened.fallback)
        taken += builder.take(opened, source)
        _say(builder.sources[-1], reporter)
    if not taken:
        raise InputError(_nothing_left(config, builder.sources))
    train, validation = split_validation(taken, config.validation_fraction, config.seed)
    return Mixture(train, validation, builder.sources, report)


class _Builder:
    def __init__(self, config: DataConfig, audit: Audit, prompter: Prompter, report: AuditReport) -> None:
        self._config = config
        self._audit = audit
        self._prompter = prompter
        self._report = report
        self._seen: set[str] = set()
        self._contaminated: dict[str, list[str]] = {}
        self.sources: list[SourceReport] = []

    def take(self, opened: Opened, asked: SourceConfig) -> list[Problem]:
        """The problems chosen from one opened source."""
        used = opened.config
        count = asked.count if asked.count is not None else used.count
        source = SourceReport(used.source, used.split or "train", count, opened.origin, opened.fallback)
        self.sources.append(source)
        candidates = self._candidates(opened, source)
        if self._config.balance == "solution_steps":
            chosen = balance_by_steps(candidates, count)
        else:
            chosen = _first(candidates, count)
        source.taken = len(chosen)
        for problem in chosen:
            self._report.kept.update(self._contaminated.get(problem.id, []))
        return chosen

    def _candidates(self, opened: Opened, report: SourceReport) -> Iterator[Problem]:
        for raw in opened.rows:
            safe_point()
            report.read += 1
            problem = self._usable(raw, opened.config, report)
            if problem is not None:
                yield problem

    def _usable(self, raw: Raw, config: SourceConfig, report: SourceReport) -> Problem | None:
        try:
            parsed = parse_row(config.source, raw.values, raw.identifier, source_columns(config))
        except MissingColumn as error:
            raise MissingColumn(f"{raw.place}: {error}") from error
        solution = parsed.solution if isinstance(parsed, Problem) else ""
        matches = self._audit.match(parsed.question, solution)
        self._report.add(config.source, raw.identifier, matches)
        if matches and self._config.on_contamination == "fail":
            raise InputError(
                f"{raw.place}: this row is item {matches[0].item} of benchmark {matches[0].benchmark} "
                f"({matches[0].reason}), and data.on_contamination is fail"
            )
        if matches and self._config.on_contamination == "drop":
            report.dropped["contaminated"] += 1
            return None
        if matches:
            self._contaminated[raw.identifier] = [match.benchmark for match in matches]
        if isinstance(parsed, Rejection):
            report.dropped[parsed.reason] += 1
            return None
        return self._within_limits(parsed, report)

    def _within_limits(self, problem: Problem, report: SourceReport) -> Problem | None:
        key = _dedup_key(problem, self._config.dedup)
        if key in self._seen:
            report.dropped["duplicate"] += 1
            return None
        length = len(self._prompter.encode(problem).ids)
        if length > self._config.max_length:
            report.dropped["too_long"] += 1
            report.shortest_dropped = min(length, report.shortest_dropped or length)
            return None
        self._seen.add(key)
        return problem


def source_columns(config: SourceConfig) -> Columns | None:
    """The column mapping of a source of the user's own, None for one whose columns are known."""
    if config.source not in ("jsonl", "hub"):
        return None
    return config.columns or Columns()  # type: ignore[call-arg]


def _dedup_key(problem: Problem, policy: str) -> str:
    question = " ".join(words(problem.question))
    return question if policy == "question" else content_hash([question, " ".join(problem.solution.split())])


def _first(candidates: Iterable[Problem], count: int | None) -> list[Problem]:
    chosen: list[Problem] = []
    for problem in candidates:
        chosen.append(problem)
        if len(chosen) == count:
            break
    return chosen


def balance_by_steps(candidates: Iterable[Problem], count: int | None) -> list[Problem]:
    """`count` problems spread as evenly as the pool allows over the number of written steps."""
    pool = _first(candidates, None if count is None else count * BALANCE_POOL)
    buckets: dict[int, list[Problem]] = {}
    for problem in pool:
        buckets.setdefault(min(problem.steps, STEP_BUCKETS), []).append(problem)
    chosen: list[Problem] = []
    wanted = len(pool) if count is None else min(count, len(pool))
    rank = 0
    while len(chosen) < wanted:
        row = [bucket[rank] for _, bucket in sorted(buckets.items()) if rank < len(bucket)]
        chosen += row[: wanted - len(chosen)]
        rank += 1
    return chosen


def split_validation(
    problems: list[Problem], fraction: float, seed: int
) -> tuple[list[Problem], list[Problem]]:
    """Training and validation part; solutions of one question, numbers masked, stay on one side."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(masked(problem.question), []).append(problem)
    if fraction == 0.0 or len(groups) < 2:
        return problems, []
    order = list(groups)
    random.Random(seed).shuffle(order)
    wanted = max(1, round(fraction * len(problems)))
    validation: list[Problem] = []
    for key in order[:-1]:
        if len(validation) >= wanted:
            break
        validation += groups.pop(key)
    held_out = {problem.id for problem in validation}
    return [problem for problem in problems if problem.id not in held_out], validation


def _say(report: SourceReport, reporter: Reporter) -> None:
    dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(report.dropped.items()))
    asked = "all" if report.asked is None else str(report.asked)
    text = f"{report.source}: took {report.taken} of {asked} asked, {report.read} read ({report.origin})"
    text += f"; dropped {dropped}" if dropped else ""
    if report.asked is not None and report.taken < report.asked:
        reporter.warn(text)
    else:
        reporter.say(text)


def _nothing_left(config: DataConfig, reports: list[SourceReport]) -> str:
    lengths = [r.shortest_dropped for r in reports if r.shortest_dropped is not None]
    if lengths and sum(r.dropped["too_long"] for r in reports) == sum(r.dropped.total() for r in reports):
        return (
            f"data.max_length is {config.max_length}, and every sample is longer: "
            f"the shortest has {min(lengths)} tokens. Raise data.max_length."
        )
    reasons = "; ".join(
        f"{r.source}: {r.read} read, "
        + (", ".join(f"{n} {k}" for k, n in r.dropped.items()) or "none dropped")
        for r in reports
    )
    return f"no problem is left to train on ({reasons})"
