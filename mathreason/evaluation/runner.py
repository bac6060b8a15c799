"""Evaluation of one variant (base or tuned) on one benchmark, sample by sample, resumable.

    plan = plan_evaluation(job, run, benchmark, "tuned", tokenizer, data_dir)
    if not is_complete(run, plan):
        evaluate(run, plan, engine, loaded.facts, reporter)

Samples are appended batch by batch, each line with the `key` of the evaluation: a hash of model, adapter,
prompt, items and sampling. Lines with another key are never used, so a tuned model cannot be served the
base model's answers. A kill loses at most the batch in flight, and the batches are cut the same way when
it goes on, so the file ends up equal to an undisturbed run's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mathreason.analysis.statistics import wilson
from mathreason.config import BenchmarkConfig, EvaluationConfig, JobConfig
from mathreason.data.audit import Audit
from mathreason.data.prepare import PARTS, load_problems
from mathreason.data.problem import Problem
from mathreason.data.prompts import Prompter
from mathreason.errors import InputError
from mathreason.evaluation.benchmarks import choose_items, few_shot_examples, load_items
from mathreason.evaluation.engine import Response, TransformersEngine
from mathreason.evaluation.grading import grade
from mathreason.models import adapter_sha256, planned_facts, weights_sha256
from mathreason.progress import Reporter
from mathreason.results import (
    RunDir,
    append_jsonl,
    content_hash,
    read_appended,
    read_json,
    write_json,
    write_jsonl,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Plan:
    """What will be generated: items, rendered prompts, settings, and the key that names all of it."""

    benchmark: BenchmarkConfig
    variant: str
    items: list[Problem]
    prompts: list[str]
    prompt_ids: list[list[int]]
    batches: list[list[int]]
    key: str
    header: dict[str, Any]


def plan_evaluation(
    job: JobConfig,
    run: RunDir,
    benchmark: BenchmarkConfig,
    variant: str,
    tokenizer: PreTrainedTokenizerBase,
    data_dir: Path | None,
) -> Plan:
    """The evaluation of `variant` on `benchmark`.

    Raises InputError when the adapter was trained with another prompt and the job does not allow that.
    """
    settings = job.evaluation
    every_item = load_items(benchmark, data_dir)
    items = choose_items(every_item, settings.limit, settings.seed)
    shots = few_shot_examples(benchmark, settings.few_shot, settings.seed, data_dir)
    prompter = Prompter(job.prompt, tokenizer, shots)
    prompts = [prompter.prompt(item.question) for item in items]
    prompt_ids = [prompter.prompt_ids(prompt) for prompt in prompts]
    adapter = _adapter(run) if variant == "tuned" else None
    identity = {
        "model": job.model.model_dump(mode="json"),
        "weights": weights_sha256(job.model),
        "computed": planned_facts(job.model),
        "adapter": adapter["sha256"] if adapter else None,
        "prompt": prompter.hash,
        "items": content_hash([item.to_dict() for item in items]),
        "sampling": _sampling(settings),
    }
    header = {
        "benchmark": benchmark.name,
        "variant": variant,
        "items_sha256": identity["items"],
        "items_in_benchmark": len(every_item),
        "prompt": {
            "hash": prompter.hash,
            "style": prompter.style,
            "few_shot": settings.few_shot,
            "example": prompts[0],
            **_prompt_match(job, run, prompter, variant),
        },
        "adapter": adapter,
        "settings": _settings(settings),
        "contamination": _contamination(run, benchmark, every_item, variant),
    }
    batches = _batches([len(ids) for ids in prompt_ids], settings.batch_size)
    return Plan(benchmark, variant, items, prompts, prompt_ids, batches, content_hash(identity)[:16], header)


def _sampling(settings: EvaluationConfig) -> dict[str, Any]:
    """What decides a response beside model, prompt and item."""
    limits = {"max_new_tokens": settings.max_new_tokens, "stop": settings.stop}
    return {"engine": settings.engine, "decoding": "greedy", **limits}


def _settings(settings: EvaluationConfig) -> dict[str, Any]:
    chosen = {"limit": settings.limit, "seed": settings.seed, "batch_size": settings.batch_size}
    return {**_sampling(settings), **chosen}


def _batches(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Item indices in batches of like length, the longest first: what does not fit shows at once."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[start : start + size] for start in range(0, len(order), size)]


def is_complete(run: RunDir, plan: Plan) -> bool:
    """Whether this very evaluation is already in the run."""
    path = run.evaluation(plan.benchmark.name, plan.variant)
    return path.is_file() and read_json(path).get("key") == plan.key


def evaluate(
    run: RunDir, plan: Plan, engine: TransformersEngine, model_facts: Mapping[str, Any], reporter: Reporter
) -> dict[str, Any]:
    """Generate and grade what is not there yet, then write the variant's JSON."""
    samples_path = run.samples(plan.benchmark.name, plan.variant)
    times_path = run.times(plan.benchmark.name, plan.variant)
    samples_path.parent.mkdir(parents=True, exist_ok=True)
    _set_aside(run, plan, reporter)
    done = _resume(samples_path, plan)
    if done:
        reporter.say(
            f"{plan.benchmark.name}, {plan.variant}: going on after {len(done)} of {len(plan.items)} items"
        )
    with reporter.track(f"{plan.benchmark.name}, {plan.variant}", len(plan.items), len(done)) as advance:
        for batch in plan.batches:
            if batch[0] in done:
                continue
            started = time.monotonic()
            responses = engine.generate([plan.prompt_ids[i] for i in batch])
            seconds = time.monotonic() - started
            rows = [_sample(plan, i, response) for i, response in zip(batch, responses, strict=True)]
            times = {"key": plan.key, "ids": [row["id"] for row in rows], "seconds": round(seconds, 4)}
            append_jsonl(times_path, [times])
            append_jsonl(samples_path, rows)
            advance(len(batch))
    document = _summary(plan, read_appended(samples_path), read_appended(times_path), model_facts)
    write_json(run.evaluation(plan.benchmark.name, plan.variant), document)
    return document


def _sample(plan: Plan, index: int, response: Response) -> dict[str, Any]:
    item = plan.items[index]
    verdict = grade(response.text, item.answer)
    return {
        "key": plan.key,
        "index": index,
        "sample": 0,
        "id": item.id,
        "question": item.question,
        "answer": item.answer,
        "solution": item.solution,
        "steps": item.steps or None,
        "attributes": item.attributes,
        "group": item.group,
        "prompt_sha256": content_hash(plan.prompts[index]),
        "response": response.text,
        "extracted": verdict.extracted,
        "strategy": verdict.strategy,
        "correct": verdict.correct,
        "truncated": response.finish_reason == "length",
        "finish_reason": response.finish_reason,
        "prompt_tokens": len(plan.prompt_ids[index]),
        "response_tokens": response.tokens,
    }


def _resume(path: Path, plan: Plan) -> set[int]:
    """Indices of the items in whole batches of `path`; the file is cut back to those."""
    rows = read_appended(path)
    present = {row["index"] for row in rows}
    whole = {i for batch in plan.batches if present.issuperset(batch) for i in batch}
    kept = [row for row in rows if row["index"] in whole]
    if path.exists() and (len(kept) < len(rows) or not path.read_bytes().endswith(b"\n")):
        write_jsonl(path, kept)
    return whole


def _set_aside(run: RunDir, plan: Plan, reporter: Reporter) -> None:
    """Keep samples of another evaluation (other settings, model or prompt) under their own key."""
    samples = run.samples(plan.benchmark.name, plan.variant)
    rows = read_appended(samples)
    old_key = rows[0]["key"] if rows else None
    result = run.evaluation(plan.benchmark.name, plan.variant)
    if old_key is None and result.is_file():
        old_key = read_json(result)["key"]
    if old_key is None or old_key == plan.key:
        return
    reporter.warn(
        f"{plan.benchmark.name}, {plan.variant}: the run holds an evaluation with other settings; "
        f"it is kept as {plan.variant}-{old_key}.*"
    )
    for path in (result, samples, run.times(plan.benchmark.name, plan.variant)):
        if path.exists():
            path.rename(path.with_name(path.name.replace(plan.variant, f"{plan.variant}-{old_key}", 1)))


# -- the summary -----------------------------------------------------------------------------------


def _summary(
    plan: Plan, rows: list[dict[str, Any]], times: list[dict[str, Any]], model_facts: Mapping[str, Any]
) -> dict[str, Any]:
    correct = sum(row["correct"] for row in rows)
    # A batch that was redone after a kill has two lines; its last one counts.
    seconds = sum({tuple(t["ids"]): t["seconds"] for t in times if t["key"] == plan.key}.values())
    tokens = sum(row["response_tokens"] for row in rows)
    return {
        **plan.header,
        "key": plan.key,
        "n": len(rows),
        "accuracy": asdict(wilson(correct, len(rows))),
        "counts": {
            "truncated": sum(row["truncated"] for row in rows),
            "no_answer": sum(row["extracted"] is None for row in rows),
            "fallback_extracted": sum(row["strategy"] == "last_number" for row in rows),
        },
        "model": {name: value for name, value in model_facts.items() if name != "fallbacks"},
        "fallbacks": list(model_facts["fallbacks"]),
        "timing": {
            "seconds": round(seconds, 2),
            "items_per_second": round(len(rows) / seconds, 3) if seconds else None,
            "response_tokens_per_second": round(tokens / seconds, 1) if seconds else None,
        },
    }


def _adapter(run: RunDir) -> dict[str, str]:
    return {"sha256": adapter_sha256(run.adapter), "path": run.adapter.name}


def _prompt_match(job: JobConfig, run: RunDir, prompter: Prompter, variant: str) -> dict[str, Any]:
    """Whether the adapter was trained with this prompt; refused when it was not, unless allowed."""
    if variant == "base":
        return {}
    trained = read_json(run.train)["prompt_hash"]
    if trained == prompter.hash:
        return {"same_as_training": True}
    if not job.evaluation.allow_prompt_mismatch:
        raise InputError(
            f"the adapter of {run.path} was trained with another prompt (hash {trained[:12]}) than this "
            f"evaluation uses ({prompter.hash[:12]}): another instruction, style, template or few-shot "
            "examples. Use the same prompt, or set evaluation.allow_prompt_mismatch: true, "
            "which marks the result."
        )
    return {"same_as_training": False}


def _contamination(
    run: RunDir, benchmark: BenchmarkConfig, items: Sequence[Problem], variant: str
) -> dict[str, Any]:
    """Which of the adapter's training rows are items of this benchmark, looked up afresh."""
    if variant == "base":
        return {"clean": True, "marked": [], "note": "no training data of this job"}
    audit = Audit({benchmark.name: items})
    problems = [problem for part in PARTS for problem in load_problems(run, part)]
    marked = [p.id for p in problems if audit.match(p.question, p.solution)]
    if not marked:
        return {
            "clean": True,
            "marked": [],
            "note": f"none of {len(problems)} training rows is in the benchmark",
        }
    note = f"CONTAMINATED: {len(marked)} of {len(problems)} training rows are items of {benchmark.name}"
    return {"clean": False, "marked": marked[:100], "count": len(marked), "note": note}
