"""Which engine answers: the one the job names, made when it is needed.

engine_for = open_engines(job, run, reporter)
engine = engine_for(plan)          # plans of the base model come before those of the tuned one
"""

from __future__ import annotations

from collections.abc import Callable

from mathreason.config import JobConfig
from mathreason.errors import InputError
from mathreason.evaluation.engine import Engine
from mathreason.evaluation.plan import Plan, sampling_of
from mathreason.progress import Reporter
from mathreason.results import RunDir

EngineFor = Callable[[Plan], Engine]


def open_engines(job: JobConfig, run: RunDir, reporter: Reporter) -> EngineFor:
    """A function that gives the engine of a plan."""
    kinds = {"transformers": _transformers, "openai": _openai, "vllm": _vllm}
    return kinds[job.evaluation.engine](job, run, reporter)


def _transformers(job: JobConfig, run: RunDir, reporter: Reporter) -> EngineFor:
    """One loaded model for both variants: the adapter is put on when the first tuned plan comes."""
    from mathreason.evaluation.transformers_engine import TransformersEngine
    from mathreason.models import load_model
    from mathreason.tuned import apply_tuned

    loaded = load_model(job.model, reporter)
    adapted = False

    def engine_for(plan: Plan) -> Engine:
        nonlocal loaded, adapted
        if plan.variant == "tuned" and not adapted:
            loaded = apply_tuned(loaded, run)
            adapted = True
        settings = job.evaluation
        return TransformersEngine(loaded, sampling_of(settings), settings.batch_size, reporter)

    return engine_for


def _openai(job: JobConfig, run: RunDir, reporter: Reporter) -> EngineFor:
    from mathreason.evaluation.openai_engine import OpenAIEngine

    del run
    server = job.evaluation.server
    assert server is not None  # noqa: S101  # the job's schema has it so
    settings = server.model_dump(exclude={"model"})

    def engine_for(plan: Plan) -> Engine:
        return OpenAIEngine(
            **settings,
            model=server.model or job.model.name,
            variant=plan.variant,
            sampling=sampling_of(job.evaluation),
            reporter=reporter,
        )

    return engine_for


def _vllm(job: JobConfig, run: RunDir, reporter: Reporter) -> EngineFor:
    """One model in vLLM for both variants, the adapter with each request of a tuned plan."""
    from mathreason.evaluation.vllm_engine import VllmEngine
    from mathreason.models import model_source

    if job.training.approach == "full":
        raise InputError(
            f"evaluation.engine vllm serves base and adapter from one model, and {run.path} is fine-tuned in "
            f"full; use engine transformers, or serve {run.model} and use engine openai"
        )
    engine = VllmEngine(
        model=model_source(job.model),
        revision=job.model.revision,
        dtype="bfloat16" if job.model.dtype == "auto" else job.model.dtype,
        quantization=job.model.quantization,
        adapter=run.adapter if run.adapter.is_dir() else None,
        seed=job.evaluation.seed,
        sampling=sampling_of(job.evaluation),
        reporter=reporter,
    )

    def engine_for(plan: Plan) -> Engine:
        engine.adapted = plan.variant == "tuned"
        return engine

    return engine_for
