"""The data stage: the mixture into the run directory, once.

It writes data/train.jsonl and data/validation.jsonl (the problems, so that a resumed run trains on the
same rows whatever happened to the sources) and then data.json. data.json is written last: when it is
there and its hashes fit, the stage is done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mathreason.config import JobConfig
from mathreason.data.mixture import Mixture, build_mixture
from mathreason.data.problem import Problem
from mathreason.data.prompts import Prompter
from mathreason.data.tokens import encode_all
from mathreason.errors import MathreasonError
from mathreason.progress import Reporter
from mathreason.results import RunDir, file_sha256, read_json, read_jsonl, write_json, write_jsonl

PARTS = ("train", "validation")


def prepare_data(
    job: JobConfig,
    run: RunDir,
    benchmarks: Mapping[str, list[Problem]],
    prompter: Prompter,
    data_dir: Path | None,
    reporter: Reporter,
) -> dict[str, Any]:
    """data.json of the run, made now or found complete."""
    if run.data.is_file():
        return verified_data(run)
    mixture = build_mixture(job.data, benchmarks, prompter, data_dir, reporter)
    parts = {"train": mixture.train, "validation": mixture.validation}
    for part, problems in parts.items():
        write_jsonl(run.problems(part), (problem.to_dict() for problem in problems))
    document = {
        **_describe(mixture, prompter, reporter),
        "seed": job.data.seed,
        "prompt_hash": prompter.hash,
        "hashes": {part: file_sha256(run.problems(part)) for part in PARTS},
    }
    write_json(run.data, document)
    kept = mixture.audit.kept.total()
    if kept:
        reporter.warn(
            f"CONTAMINATED: {kept} training rows are in a benchmark of this job (on_contamination: allow)"
        )
    return read_json(run.data)


def verified_data(run: RunDir) -> dict[str, Any]:
    """data.json, after checking that the problem files are the ones it was written for."""
    document = read_json(run.data)
    for part in PARTS:
        path = run.problems(part)
        if not path.is_file() or file_sha256(path) != document["hashes"][part]:
            raise MathreasonError(
                f"{path} is not the file that {run.data} describes; it was changed after the data stage. "
                "Restore it, or delete the run directory and start again."
            )
    return document


def load_problems(run: RunDir, part: str) -> list[Problem]:
    """The prepared problems of `part` ("train" or "validation")."""
    return [Problem(**row) for _, row in read_jsonl(run.problems(part))]


def _describe(mixture: Mixture, prompter: Prompter, reporter: Reporter) -> dict[str, Any]:
    parts = {"train": mixture.train, "validation": mixture.validation}
    tokens: dict[str, dict[str, int]] = {}
    for part, problems in parts.items():
        examples = encode_all(problems, prompter, reporter)
        total = sum(len(example.ids) for example in examples)
        prompt = sum(example.prompt_tokens for example in examples)
        longest = max((len(example.ids) for example in examples), default=0)
        tokens[part] = {"total": total, "supervised": total - prompt, "longest": longest}
    return {
        "sources": [source.to_dict() for source in mixture.sources],
        "counts": {part: len(problems) for part, problems in parts.items()},
        "taken_by_source": dict(Counter(p.source for problems in parts.values() for p in problems)),
        "tokens": tokens,
        "audit": mixture.audit.to_dict(),
    }
