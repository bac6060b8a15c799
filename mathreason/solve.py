"""One question to a run's model, with the prompt it was trained with."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    from mathreason.evaluation.engine import Request
    from mathreason.evaluation.extraction import extract
    from mathreason.evaluation.plan import sampling_of
    from mathreason.evaluation.transformers_engine import TransformersEngine
    from mathreason.models import load_model
    from mathreason.tuned import apply_tuned

    job = load_job(run.job)
    loaded = load_model(job.model, Reporter())
    if not base:
        loaded = apply_tuned(loaded, run)
    prompter = Prompter(job.prompt, loaded.tokenizer)
    prompt = prompter.prompt(question)
    sampling = replace(sampling_of(job.evaluation), temperature=0.0)
    engine = TransformersEngine(loaded, sampling, 1, Reporter())
    [(_, response)] = engine.generate([Request(0, prompt, prompter.prompt_ids(prompt), seed=0)])
    found = extract(response.text)
    return Solution(response.text.strip(), found.answer, found.strategy, response.finish_reason == "length")
