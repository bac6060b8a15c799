"""One question to a run's model, with the prompt it was trained with."""

from __future__ import annotations

from dataclasses import dataclass

from mathreason.jobfile import load_job
from mathreason.progress import Reporter
from mathreason.results import RunDir


@dataclass(frozen=True)
class Solution:
    """The model's response, the answer extracted from it (None when there is none), and how."""

    response: str
    answer: str | None
    strategy: str
    truncated: bool


def solve(run: RunDir, question: str, base: bool = False) -> Solution:
    """Greedy response of the run's tuned (or base) model to `question`."""
    from mathreason.data.prompts import Prompter
    from mathreason.evaluation.engine import TransformersEngine
    from mathreason.evaluation.extraction import extract
    from mathreason.models import apply_adapter, load_model

    job = load_job(run.job)
    loaded = load_model(job.model, Reporter())
    if not base:
        loaded = apply_adapter(loaded, run.adapter)
    prompter = Prompter(job.prompt, loaded.tokenizer)
    engine = TransformersEngine(loaded, job.evaluation.max_new_tokens, job.evaluation.stop)
    [response] = engine.generate([prompter.prompt_ids(prompter.prompt(question))])
    found = extract(response.text)
    return Solution(response.text.strip(), found.answer, found.strategy, response.finish_reason == "length")
