"""The whole path, stage by stage: data, training, evaluation of base and tuned, comparison, report.

    with open_session(target) as session:
        run_all(session)

Each stage reads and writes only in the run directory and does nothing when its output is complete, so
the same call after any interruption goes on where it stopped.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mathreason.config import JobConfig
from mathreason.data.problem import Problem
from mathreason.errors import InputError
from mathreason.results import VARIANTS, Shard
from mathreason.session import Session
from mathreason.training import launch, ranks

if TYPE_CHECKING:
    from mathreason.evaluation.plan import Plan
    from mathreason.sharing import Siblings


def run_all(session: Session, siblings: Siblings = ()) -> dict[str, Any]:
    """Everything the job says; returns comparison.json's content.

    From `siblings`, the other runs of a sweep, the data and the base evaluation are taken over.
    """
    from mathreason.sharing import share_base, share_data

    if ranks.rank() == 0:
        share_data(session.job, session.run, siblings, session.reporter)
    train_stage(session)
    if ranks.rank() != 0:  # evaluation and comparison are the work of one process
        return {}
    with session.stage("evaluate"):
        share_base(session, siblings)
        evaluate_stage(session, VARIANTS)
    return compare_stage(session)


def train_stage(session: Session) -> dict[str, Any]:
    """Data and training; returns train.json's content."""
    from mathreason.data.prepare import prepare_data
    from mathreason.data.prompts import Prompter
    from mathreason.evaluation.held_out import set_exam
    from mathreason.models import load_tokenizer
    from mathreason.training.allocator import bound_caches, exact_allocation
    from mathreason.training.compatibility import Setting, require, this_machine
    from mathreason.training.micro_batch import with_micro_batch
    from mathreason.training.train import train

    if not session.run.train.is_file():
        require(Setting(session.job, launch.current(), this_machine()), str(session.run.job))
    bound_caches()
    ranks.join()
    with session.stage("data"):
        if ranks.rank() == 0:
            prompter = Prompter(session.job.prompt, load_tokenizer(session.job.model))
            items = {} if session.run.data.is_file() else benchmark_items(session.job, session.data_dir)
            prepare_data(session.job, session.run, items, prompter, session.data_dir, session.reporter)
        ranks.barrier()
    with session.stage("train"), exact_allocation() if session.job.training.is_exact else nullcontext():
        job = with_micro_batch(session.job, session.run, session.reporter)
        with launch.taken_over(session.run.id, job.model.offload_folder):
            result = train(job, session.run, session.reporter, set_exam(job, session.reporter))
    ranks.leave()
    return result


def benchmark_items(job: JobConfig, data_dir: Path | None) -> dict[str, list[Problem]]:
    """All items of every benchmark of the job, for the audit."""
    from mathreason.evaluation.benchmarks import load_items

    return {config.name: load_items(config, data_dir) for config in job.evaluation.benchmarks}


def evaluate_stage(session: Session, variants: tuple[str, ...], shard: Shard | None = None) -> bool:
    """Evaluate `variants` on every benchmark; whether all of them are complete now.

    The model is loaded once, and the adapter put on for the tuned variant.
    """
    from mathreason.evaluation.plan import plan_evaluation
    from mathreason.evaluation.runner import is_complete
    from mathreason.models import load_tokenizer

    job, run = session.job, session.run
    if "tuned" in variants and not run.train.is_file():
        raise InputError(f"{run.path} has no trained adapter yet; train it first, or evaluate --variant base")
    tokenizer = load_tokenizer(job.model)
    plans = [
        plan_evaluation(job, run, benchmark, variant, tokenizer, session.data_dir)
        for variant in VARIANTS
        if variant in variants
        for benchmark in job.evaluation.benchmarks
    ]
    waiting = [plan for plan in plans if not is_complete(run, plan)]
    if not waiting:
        session.reporter.say("evaluation: already complete")
        return True
    _evaluate_all(session, waiting, shard)
    return all(is_complete(run, plan) for plan in plans)


def _evaluate_all(session: Session, plans: list[Plan], shard: Shard | None) -> None:
    from mathreason.evaluation.engines import open_engines
    from mathreason.evaluation.runner import evaluate

    engines = open_engines(session.job, session.run, session.reporter)
    for plan in plans:
        result = evaluate(session.run, plan, engines(plan), session.reporter, shard)
        if result is None:
            continue
        accuracy = result["accuracy"]
        session.reporter.say(
            f"{plan.title}: {accuracy['correct']} of {accuracy['n']} correct "
            f"({accuracy['value']:.1%}), {result['timing']['items_per_second']} items/s"
        )
        if not result["contamination"]["clean"]:
            session.reporter.warn(result["contamination"]["note"])


def compare_stage(session: Session) -> dict[str, Any]:
    """Comparison and report from what has been evaluated; returns comparison.json's content."""
    from mathreason.analysis.compare import write_comparison
    from mathreason.analysis.report import write_report

    with session.stage("compare"):
        comparison = write_comparison(session.run)
    with session.stage("report"):
        write_report(session.run)
    return comparison
