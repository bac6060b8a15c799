"""What runs of one sweep need not do twice: preparing the same data, evaluating the same base model.

    share_data(job, run, siblings, reporter)     # before the data stage
    share_base(session, siblings)                # before the evaluation stage

A run without its own takes over what a sibling has, once that is complete: files are copied (a link would
let one run change another), each appears by rename, and the JSON that makes them count comes last and says
in `copied_from` where it is from. There are no locks: two processes that find nothing to take over both do
the work, and both results are right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mathreason.config import JobConfig
from mathreason.data.prepare import PARTS, verified_data
from mathreason.errors import MathreasonError
from mathreason.evaluation.plan import Plan, plan_evaluation
from mathreason.evaluation.runner import is_complete, set_aside
from mathreason.models import load_tokenizer
from mathreason.progress import Reporter
from mathreason.results import (
    RunDir,
    content_hash,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
    write_text,
)
from mathreason.session import Session

Siblings = Sequence[tuple[JobConfig, RunDir]]


def data_identity(job: JobConfig) -> str:
    """Hash of all in a job that decides its prepared data: mixture, audit, prompt and tokenizer."""
    identity = job.identity()
    tokenizer = {key: identity["model"][key] for key in ("name", "revision")}
    return content_hash(
        {**{key: identity[key] for key in ("data", "prompt", "audited_against")}, "tokenizer": tokenizer}
    )


def share_data(job: JobConfig, run: RunDir, siblings: Siblings, reporter: Reporter) -> None:
    """Give `run` the prepared data of a sibling that wants the same, if there is one and `run` has none."""
    if run.data.is_file():
        return
    wanted = data_identity(job)
    for other, donor in siblings:
        if donor.path == run.path or not donor.data.is_file() or data_identity(other) != wanted:
            continue
        try:
            document = verified_data(donor)
        except MathreasonError as error:
            reporter.warn(f"data not taken over: {error}")
            continue
        for part in PARTS:
            write_text(run.problems(part), donor.problems(part).read_text(encoding="utf-8"))
        write_json(run.data, _from(donor, document))
        verified_data(run)
        reporter.say(f"data: taken over from {donor.id}")
        return


def share_base(session: Session, siblings: Siblings) -> None:
    """Give the session's run every evaluation of the base model that a sibling has under the same key."""
    job, run = session.job, session.run
    if not siblings:
        return
    tokenizer = load_tokenizer(job.model)
    for benchmark in job.evaluation.benchmarks:
        plan = plan_evaluation(job, run, benchmark, "base", tokenizer, session.data_dir)
        if is_complete(run, plan):
            continue
        for _, donor in siblings:
            if donor.path != run.path and _take_over(run, plan, donor, session.reporter):
                break


def _take_over(run: RunDir, plan: Plan, donor: RunDir, reporter: Reporter) -> bool:
    """Copy the donor's evaluation if it is this very one and whole; whether it was."""
    name, variant = plan.benchmark.name, plan.variant
    try:
        if not is_complete(donor, plan):
            return False
        document = read_json(donor.evaluation(name, variant))
        rows = [row for _, row in read_jsonl(donor.samples(name, variant)) if row.get("key") == plan.key]
    except MathreasonError as error:  # another process may be evaluating it anew
        reporter.warn(f"{plan.title}: not taken over: {error}")
        return False
    said, right = document["accuracy"]["correct"], sum(row["correct"] for row in rows)
    if len(rows) != len(plan.requests) or said != right:
        reporter.warn(f"{plan.title}: not taken over from {donor.id}, whose responses do not fit its summary")
        return False
    set_aside(run, plan, reporter)
    write_jsonl(run.samples(name, variant), rows)
    write_json(run.evaluation(name, variant), _from(donor, document))
    reporter.say(f"{plan.title}: taken over from {donor.id}")
    return True


def _from(donor: RunDir, document: dict[str, Any]) -> dict[str, Any]:
    """A donor's JSON for another run: the provenance becomes part of where it was copied from."""
    kept = {key: value for key, value in document.items() if key not in ("schema_version", "provenance")}
    first = {"run": donor.id, "provenance": document.get("provenance")}
    return {**kept, "copied_from": document.get("copied_from") or first}
