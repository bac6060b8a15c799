"""What will be generated in one evaluation, and the key that names all of it.

plan = plan_evaluation(job, run, benchmark, "tuned", tokenizer, data_dir)
plan.requests[0].prompt      # rendered; the requests are the items times the samples of each
plan.key                     # 16 hexadecimal digits: model, adapter, prompt, items, sampling, engine
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mathreason.config import PLACEMENT_KEYS, BenchmarkConfig, EvaluationConfig, JobConfig
from mathreason.data.audit import Audit
from mathreason.data.prepare import PARTS, load_problems
from mathreason.data.problem import Problem
from mathreason.data.prompts import Prompter
from mathreason.errors import InputError
from mathreason.evaluation.benchmarks import choose_items, load_items
from mathreason.evaluation.engine import Request, Sampling
from mathreason.evaluation.fewshot import evaluation_prompter
from mathreason.evaluation.harness import HarnessTask, harness_task
from mathreason.evaluation.openai_engine import identity as served_identity
from mathreason.models import planned_facts, weights_sha256
from mathreason.results import RunDir, content_hash, read_json
from mathreason.tuned import tuned_path, tuned_sha256

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Plan:
    """Items, and the requests for their responses: `samples` to an item, one after the other.

    `harness` is the task of lm-evaluation-harness whose verdicts stand beside our own.
    """

    benchmark: BenchmarkConfig
    variant: str
    items: list[Problem]
    requests: list[Request]
    samples: int
    harness: HarnessTask
    key: str
    header: dict[str, Any]

    @property
    def title(self) -> str:
        return f"{self.benchmark.name}, {self.variant}"

    def item_of(self, request: int) -> int:
        """Index of the item that the request with this id is for."""
        return request // self.samples


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
    prompter = evaluation_prompter(job.prompt, settings, benchmark, tokenizer, data_dir)
    requests = _requests(items, every_item, prompter, settings)
    adapter = {"sha256": tuned_sha256(run), "path": tuned_path(run).name} if variant == "tuned" else None
    identity = {
        **_model_identity(job, variant),
        "adapter": adapter["sha256"] if adapter else None,
        "prompt": prompter.hash,
        "items": content_hash([item.to_dict() for item in items]),
        "sampling": _sampling_identity(settings),
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
            "few_shot_format": settings.few_shot_format,
            "example": requests[0].prompt,
            **_prompt_match(job, run, prompter, variant),
        },
        "adapter": adapter,
        "settings": {
            **_sampling_identity(settings),
            **{"limit": settings.limit, "seed": settings.seed, "batch_size": settings.batch_size},
        },
        "contamination": _contamination(run, benchmark, every_item, variant),
    }
    key = content_hash(identity)[:16]
    harness = harness_task(settings.few_shot_format)
    return Plan(benchmark, variant, items, requests, settings.samples, harness, key, header)


def _requests(
    items: Sequence[Problem], every_item: Sequence[Problem], prompter: Prompter, settings: EvaluationConfig
) -> list[Request]:
    positions = {item.id: position for position, item in enumerate(every_item)}
    requests: list[Request] = []
    for item in items:
        prompt = prompter.prompt(item.question, positions[item.id])
        ids = prompter.prompt_ids(prompt)
        messages = prompter.messages(item.question, positions[item.id])
        for sample in range(settings.samples):
            seed = int(content_hash([settings.seed, item.id, sample])[:15], 16)
            requests.append(Request(len(requests), prompt, ids, seed, messages))
    return requests


def sampling_of(settings: EvaluationConfig) -> Sampling:
    """How tokens are chosen under these settings."""
    return Sampling(settings.max_new_tokens, tuple(settings.stop), settings.temperature, settings.top_p)


def _sampling_identity(settings: EvaluationConfig) -> dict[str, Any]:
    """What decides a response beside model, prompt and item; the seed only where tokens are drawn."""
    drawn = {"sampling_seed": settings.seed} if settings.temperature else {}
    return {
        "engine": settings.engine,
        "decoding": "sampling" if settings.temperature else "greedy",
        **sampling_of(settings).to_dict(),
        "samples": settings.samples,
        **drawn,
    }


def _model_identity(job: JobConfig, variant: str) -> dict[str, Any]:
    """Which model answers: its weights and how it is computed here, or the name it is served under."""
    if (server := job.evaluation.server) is not None:
        name = server.model or job.model.name
        return {"served": served_identity(name, server.tuned_model, variant, server.endpoint)}
    return {
        "model": job.model.model_dump(mode="json", exclude=PLACEMENT_KEYS),
        "weights": weights_sha256(job.model),
        "computed": planned_facts(job.model),
    }


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
