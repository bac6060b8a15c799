"""Evaluation of one variant (base or tuned) on one benchmark, response by response, resumable.

    plan = plan_evaluation(job, run, benchmark, "tuned", tokenizer, data_dir)
    if not is_complete(run, plan):
        evaluate(run, plan, engine, reporter)                       # or shard=Shard(2, 8)

Responses are appended as they come, each line with the `key` of the evaluation: a hash of model, adapter,
prompt, items, sampling and engine. Lines with another key are never used, so a tuned model cannot be served
the base model's answers. A kill loses the responses that were under way and nothing else; what is there is
never asked for again, in whichever shard's file it stands. When all are there, the lines are sorted into
`<variant>.samples.jsonl`, so that the file is the same however the evaluation was stopped or split.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mathreason.evaluation.engine import Engine, Response
from mathreason.evaluation.grading import Grader
from mathreason.evaluation.plan import Plan
from mathreason.evaluation.summary import summarise
from mathreason.progress import Reporter
from mathreason.results import (
    JsonlAppender,
    RunDir,
    Shard,
    append_jsonl,
    content_hash,
    is_torn,
    read_appended,
    read_json,
    write_json,
    write_jsonl,
)
from mathreason.training.stopping import safe_point

TIMES_SECONDS = 5.0
"""Seconds of generation between lines of the times file."""


def is_complete(run: RunDir, plan: Plan) -> bool:
    """Whether this very evaluation is already in the run."""
    path = run.evaluation(plan.benchmark.name, plan.variant)
    return path.is_file() and read_json(path).get("key") == plan.key


def evaluate(
    run: RunDir, plan: Plan, engine: Engine, reporter: Reporter, shard: Shard | None = None
) -> dict[str, Any] | None:
    """Generate and grade what is not there yet; the variant's JSON, None while other shards are at work."""
    path = run.samples(plan.benchmark.name, plan.variant)
    path.parent.mkdir(parents=True, exist_ok=True)
    set_aside(run, plan, reporter)
    own = run.shard(path, shard) if shard else path
    for path in (own, run.times_of(own)):
        _mend(path)
    done = set(_rows(run, plan))
    others = {r.id for i, r in enumerate(plan.requests) if shard and not shard.holds(plan.item_of(i))}
    wanted = len(plan.requests) - len(others)
    before = len(done - others)
    if before:
        reporter.say(f"{plan.title}: going on after {before} of {wanted} responses")
    title = f"{plan.title}, shard {shard.number} of {shard.count}" if shard else plan.title
    with reporter.track(title, wanted, before) as advance, Grader(harness=plan.harness) as grader:
        _generate(run, plan, engine, grader, own, done | others, advance)
    return _finish(run, plan, engine, reporter)


def _generate(
    run: RunDir,
    plan: Plan,
    engine: Engine,
    grader: Grader,
    own: Path,
    skip: set[int],
    advance: Callable[[int], None],
) -> None:
    """Append every response that is not in `skip` to the file `own`, graded."""
    if len(skip) == len(plan.requests):
        return
    samples, clock = JsonlAppender(own), _Clock(run.times_of(own), plan.key)
    try:
        responses = iter(engine.generate(plan.requests, skip))
        while (found := clock.next(responses)) is not None:
            samples.append(_sample(plan, *found, grader))
            advance(1)
            safe_point()
    finally:
        samples.close()
        clock.close()


class _Clock:
    """Measures the time that generation takes, without grading and writing, into a times file."""

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key
        self._seconds = 0.0
        self._responses = 0

    def next(self, responses: Iterator[tuple[int, Response]]) -> tuple[int, Response] | None:
        started = time.monotonic()
        found: tuple[int, Response] | None = next(responses, None)
        self._seconds += time.monotonic() - started
        self._responses += found is not None
        if self._seconds >= TIMES_SECONDS:
            self.close()
        return found

    def close(self) -> None:
        """Write down what was measured since the last line."""
        line = {"key": self._key, "responses": self._responses, "seconds": round(self._seconds, 4)}
        append_jsonl(self._path, [line])
        self._seconds, self._responses = 0.0, 0


def _sample(plan: Plan, id: int, response: Response, grader: Grader) -> dict[str, Any]:
    item, request = plan.items[plan.item_of(id)], plan.requests[id]
    return {
        "key": plan.key,
        "index": plan.item_of(id),
        "sample": id % plan.samples,
        "id": item.id,
        "question": item.question,
        "answer": item.answer,
        "solution": item.solution,
        "steps": item.steps or None,
        "attributes": item.attributes,
        "group": item.group,
        "prompt_sha256": content_hash(request.prompt),
        "response": response.text,
        **grader.grade(response.text, item.answer).to_dict(),
        "truncated": response.finish_reason == "length",
        "finish_reason": response.finish_reason,
        "prompt_tokens": len(request.prompt_ids),
        "response_tokens": response.tokens,
    }


# -- what is there already -------------------------------------------------------------------------


def _rows(run: RunDir, plan: Plan) -> dict[int, dict[str, Any]]:
    """The lines of this evaluation by request, from the whole file and from every shard's."""
    path = run.samples(plan.benchmark.name, plan.variant)
    found: dict[int, dict[str, Any]] = {}
    for file in (path, *run.shards(path)):
        for row in _appended(file):
            if row.get("key") == plan.key:
                found.setdefault(row["index"] * plan.samples + row["sample"], row)
    return found


def _appended(path: Path) -> Iterable[dict[str, Any]]:
    """The complete lines; none where another shard has just merged the file away."""
    try:
        return read_appended(path)
    except FileNotFoundError:
        return []


def _mend(path: Path) -> None:
    """Cut a line that a kill tore off the end of `path`, before anything is appended to it."""
    if is_torn(path):
        write_jsonl(path, read_appended(path))


def set_aside(run: RunDir, plan: Plan, reporter: Reporter) -> None:
    """Keep the files of another evaluation (other settings, model or prompt) under their own key."""
    variant = plan.variant
    result = run.evaluation(plan.benchmark.name, variant)
    samples = run.samples(plan.benchmark.name, variant)
    others = set()
    if result.is_file() and (old := read_json(result)["key"]) != plan.key:
        others.add(old)
        _rename(result, variant, old)
    for file in (samples, *run.shards(samples)):
        rows = list(_appended(file))
        if rows and (old := rows[0]["key"]) != plan.key:
            others.add(old)
            _rename(run.times_of(file), variant, old)
            _rename(file, variant, old)
    for old in sorted(others):
        reporter.warn(
            f"{plan.title}: the run holds an evaluation with other settings; it is kept as {variant}-{old}.*"
        )


def _rename(path: Path, variant: str, key: str) -> None:
    # Of several shards that start at once, one renames and the others find it done.
    with contextlib.suppress(FileNotFoundError):
        path.rename(path.with_name(path.name.replace(variant, f"{variant}-{key}", 1)))


# -- the result ------------------------------------------------------------------------------------


def _finish(run: RunDir, plan: Plan, engine: Engine, reporter: Reporter) -> dict[str, Any] | None:
    """Sort all lines into one file and write the variant's JSON, once every response is there."""
    name, variant = plan.benchmark.name, plan.variant
    path, times_path = run.samples(name, variant), run.times(name, variant)
    rows = _rows(run, plan)
    if len(rows) < len(plan.requests):
        if is_complete(run, plan):  # another shard found all of them first, and cleared up
            return read_json(run.evaluation(name, variant))
        reporter.say(f"{plan.title}: {len(rows)} of {len(plan.requests)} responses; other shards do the rest")
        return None
    ordered = [rows[id] for id in sorted(rows)]
    parts = [*run.shards(path), *run.shards(times_path)]
    times = [row for file in (times_path, *run.shards(times_path)) for row in _appended(file)]
    document = _document(plan, engine, ordered, times)
    write_jsonl(path, ordered)
    write_json(run.evaluation(name, variant), document)
    for part in parts:
        part.unlink(missing_ok=True)
    return document


def _document(
    plan: Plan, engine: Engine, rows: Sequence[dict[str, Any]], times: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    seconds = sum(line["seconds"] for line in times if line["key"] == plan.key)
    tokens = sum(row["response_tokens"] for row in rows)
    return {
        **plan.header,
        "key": plan.key,
        **summarise(rows),
        "model": {name: value for name, value in engine.facts.items() if name != "fallbacks"},
        "fallbacks": list(engine.facts["fallbacks"]),
        "timing": {
            "seconds": round(seconds, 2),
            "items_per_second": round(len(rows) / seconds, 3) if seconds else None,
            "response_tokens_per_second": round(tokens / seconds, 1) if seconds else None,
        },
    }
