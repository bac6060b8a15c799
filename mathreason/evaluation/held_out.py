"""How many held-out training problems a model solves while it trains: evaluation's own way, in small.

    exam = set_exam(job, reporter)(loaded, validation_problems)
    exam.correct(Shard(1, 1), lambda: False)      # of exam.items, greedily, with the model as it is now

Prompt, engine, end of a response and grading are those of an evaluation with this job's prompt. The problems
are `training.select_items` of the validation part, drawn by `data.seed`; no benchmark has any part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from mathreason.config import JobConfig
from mathreason.data.problem import Problem
from mathreason.data.prompts import Prompter
from mathreason.errors import InputError
from mathreason.evaluation.benchmarks import choose_items
from mathreason.evaluation.engine import Request
from mathreason.evaluation.grading import Grader
from mathreason.evaluation.plan import sampling_of
from mathreason.models import LoadedModel
from mathreason.progress import Reporter
from mathreason.results import Shard
from mathreason.training.selection import Exam, SetExam


class HeldOut:
    """An `Exam` of `problems`, whose references must be ones that can be graded against."""

    def __init__(
        self, job: JobConfig, loaded: LoadedModel, problems: Sequence[Problem], reporter: Reporter
    ) -> None:
        prompter = Prompter(job.prompt, loaded.tokenizer)
        prompts = [prompter.prompt(problem.question) for problem in problems]
        self.items = len(problems)
        self._problems = problems
        self._requests = [Request(i, text, prompter.prompt_ids(text), 0) for i, text in enumerate(prompts)]
        self._sampling = replace(sampling_of(job.evaluation), temperature=0.0)
        self._batch_size = job.evaluation.batch_size
        self._loaded = LoadedModel(loaded.model, loaded.tokenizer, dict(loaded.facts))
        self._reporter = reporter

    def correct(self, share: Shard, stopped: Callable[[], bool]) -> int | None:
        """How many of the problems in `share` the model solves now; it is left in evaluation mode.

        None when `stopped`, asked before the first response and after each, said so.
        """
        from mathreason.evaluation.transformers_engine import TransformersEngine

        engine = TransformersEngine(self._loaded, self._sampling, self._batch_size, self._reporter)
        others = {request.id for request in self._requests if not share.holds(request.id)}
        right = 0
        if stopped():
            return None
        with Grader() as grader:
            for id, response in engine.generate(self._requests, others):
                right += grader.grade(response.text, self._problems[id].answer).correct
                if stopped():
                    return None
        return right


def set_exam(job: JobConfig, reporter: Reporter) -> SetExam:
    """What makes the exam of a model; InputError when no validation problem can be graded."""

    def make(loaded: LoadedModel, problems: Sequence[Problem]) -> Exam:
        usable = [problem for problem in problems if _gradable(problem)]
        chosen = choose_items(usable, job.training.select_items, job.data.seed)
        if not chosen:
            raise InputError(
                f"training.select_by is accuracy, but none of the {len(problems)} validation problems can be "
                "graded; raise data.validation_fraction, or set select_by: loss"
            )
        reporter.note(f"{len(chosen)} of {len(problems)} validation problems are answered at each checkpoint")
        return HeldOut(job, loaded, chosen, reporter)

    return make


def _gradable(problem: Problem) -> bool:
    try:
        Grader(symbolic=False).grade("", problem.answer)
    except InputError:
        return False
    return True
