"""The README.md of an exported model: what a reader must know before using it, from the run's own files.

    text = model_card(run, "bfloat16", tokenizer)

Every figure is one of data.json, train.json and comparison.json; what the run does not hold (evaluations, a
comparison) is said to be missing and never left out silently.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mathreason.config import EMBEDDED_MODEL, JobConfig
from mathreason.jobfile import load_job
from mathreason.results import RunDir, read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DATASETS = {
    "gsm8k": "openai/gsm8k",
    "gsm_hard": "reasoning-machines/gsm-hard",
    "numinamath_qwq_cot": "PrimeIntellect/NuminaMath-QwQ-CoT-5M",
}
"""Hub names of the sources that have one."""


def model_card(run: RunDir, dtype: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The card of `run`'s merged model, whose weights are `dtype`, in Markdown with a YAML head."""
    from mathreason.data.prompts import Prompter

    job = load_job(run.job)
    comparison = read_json(run.path / "comparison.json") if (run.path / "comparison.json").is_file() else None
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # noqa: S701 (Markdown of a run's own figures, not a page)
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    prompter = Prompter(job.prompt, tokenizer)
    return environment.get_template("model_card.md.j2").render(
        head=yaml.safe_dump(_head(job, comparison), sort_keys=False, allow_unicode=True).strip(),
        job=job,
        dtype=dtype,
        run=run.id,
        data=read_json(run.data),
        trained=read_json(run.train),
        benchmarks=(comparison or {}).get("benchmarks", {}),
        prompt=prompter.prompt("{question}"),
        style=prompter.style,
    )


def _head(job: JobConfig, comparison: dict[str, Any] | None) -> dict[str, Any]:
    """The metadata that the Hugging Face Hub reads (huggingface.co/docs/hub/model-cards)."""
    sources = [
        source.path if source.source == "hub" else DATASETS.get(source.source) for source in job.data.mixture
    ]
    head: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["math", "reasoning", "lora"],
        "model_name": job.name,
    }
    if job.model.name != EMBEDDED_MODEL:
        head["base_model"] = job.model.name
    if named := sorted({str(source) for source in sources if source}):
        head["datasets"] = named
    results = [
        {
            "task": {"type": "text-generation"},
            "dataset": {"name": name, "type": DATASETS.get(name, name)},
            "metrics": [{"type": "accuracy", "value": round(100 * found["tuned"]["value"], 2)}],
        }
        for name, found in (comparison or {}).get("benchmarks", {}).items()
    ]
    if results:
        head["model-index"] = [{"name": job.name, "results": results}]
    return head
