"""The README.md of an exported model: what a reader must know before using it, from the run's own files.

    text = model_card(run, {"dtype": "bfloat16", "base": ..., "check": ...}, tokenizer)

Every figure is one of data.json, train.json, comparison.json, the evaluations and the export's own check;
what the run does not hold (evaluations, a comparison) is said to be missing and never left out silently. No
folder of this machine is named: a base that is a folder goes by its last part.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mathreason.config import EMBEDDED_MODEL, JobConfig, ModelConfig, SourceConfig
from mathreason.jobfile import load_job
from mathreason.models import model_source
from mathreason.results import RunDir, read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DATASETS = {
    "gsm8k": "openai/gsm8k",
    "gsm_hard": "reasoning-machines/gsm-hard",
    "numinamath_qwq_cot": "PrimeIntellect/NuminaMath-QwQ-CoT-5M",
}
"""Hub names of the sources that have one."""
_HUB_NAME = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")
_FOLDERS = re.compile(r"(?<![\w:/.~])~?(?:/[^\s/'\",;)]+)+/(?=[^\s/])")
"""The folders in front of an absolute path's last part; addresses (https://...) are none."""


def model_card(run: RunDir, facts: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> str:
    """The card of `run`'s merged model in Markdown with a YAML head.

    `facts` are those of the export's manifest: `dtype` of the weights, `base` (its commit or hash) and
    `check` (how the merged model compares with the adapter).
    """
    from mathreason.data.prompts import Prompter

    job = load_job(run.job)
    comparison = read_json(run.comparison) if run.comparison.is_file() else {}
    found = comparison.get("benchmarks", {})
    compared = {name: entry for name, entry in found.items() if "verdict" in entry}
    scored = {name: entry for name, entry in found.items() if entry["tuned"] is not None}
    base, is_published = base_name(job.model)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # noqa: S701 (Markdown of a run's own figures, not a page)
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}"
    environment.filters["signed"] = lambda value: f"{100 * value:+.1f}"
    environment.filters["without_folders"] = without_folders
    prompter = Prompter(job.prompt, tokenizer)
    head = _head(job, base if is_published else None, scored)
    return environment.get_template("model_card.md.j2").render(
        head=yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip(),
        job=job,
        facts=facts,
        run=run.id,
        base=base,
        data=read_json(run.data),
        trained=read_json(run.train),
        compared=compared,
        alone={name: entry for name, entry in scored.items() if name not in compared},
        settings=_settings(run, scored),
        warnings=comparison.get("warnings", []),
        prompt=prompter.prompt("{question}"),
        style=prompter.style,
    )


def base_name(config: ModelConfig) -> tuple[str, bool]:
    """What to call the base model, and whether that is a name on the Hub (a folder's last part is none)."""
    if config.name == EMBEDDED_MODEL:
        return config.name, False
    source = Path(model_source(config))
    if not source.is_dir():
        return config.name, True
    for part in source.absolute().parts:  # a snapshot in the Hub's cache, named by its commit
        if part.startswith("models--") and part.count("--") == 2:
            return part.removeprefix("models--").replace("--", "/"), True
    return source.resolve().name, False


def without_folders(text: str) -> str:
    """`text` with each absolute path cut to its last part."""
    return _FOLDERS.sub("", text)


def _settings(run: RunDir, scored: dict[str, Any]) -> dict[str, Any]:
    """The tuned model's evaluation of each benchmark that is still there, for how it was asked."""
    paths = {name: run.evaluation(name, "tuned") for name in scored}
    return {name: read_json(path) for name, path in paths.items() if path.is_file()}


def _dataset(source: SourceConfig) -> str | None:
    if source.source != "hub":
        return DATASETS.get(source.source)
    name = str(source.path)
    return name if _HUB_NAME.fullmatch(name) and not Path(name).exists() else None


def _head(job: JobConfig, base: str | None, scored: dict[str, Any]) -> dict[str, Any]:
    """The metadata that the Hugging Face Hub reads (huggingface.co/docs/hub/model-cards)."""
    head: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["math", "reasoning", "lora"],
        "model_name": job.name,
    }
    if base is not None:
        head["base_model"] = base
    if named := sorted({name for source in job.data.mixture if (name := _dataset(source))}):
        head["datasets"] = named
    results = [
        {
            "task": {"type": "text-generation"},
            "dataset": {"name": name, "type": DATASETS.get(name, name)},
            "metrics": [{"type": "accuracy", "value": round(100 * found["tuned"]["value"], 2)}],
        }
        for name, found in scored.items()
    ]
    if results:
        head["model-index"] = [{"name": job.name, "results": results}]
    return head
