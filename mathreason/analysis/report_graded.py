"""The error analysis of any file of graded responses, without a run.

    write_errors_page(Path("graded.jsonl"), Path("errors.html"))

Each line of the file is an object with `response`, `answer` and `correct`, as `mathreason grade` writes it.
Taken as well where they are there: `question`, `solution`, `id`, `extracted`, `strategy`, `truncated` (or a
`finish_reason` of "length"), `response_tokens`, `steps`, `attributes` and `group`; `prompt` and
`ground_truth` do for `question` and `answer`. Without a `group`, responses to one question are one.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2.utils import htmlsafe_json_dumps

from mathreason.analysis.clustered import cluster_items, clustered_accuracy
from mathreason.analysis.problem_types import analyse
from mathreason.analysis.report_errors import errors_section
from mathreason.analysis.report_items import browser_items
from mathreason.analysis.report_page import render_page
from mathreason.analysis.samples import Sample
from mathreason.analysis.text import visible, visible_all
from mathreason.errors import InputError
from mathreason.results import read_jsonl, write_text

LABELS = {"base": "model", "tuned": ""}
_SYNONYMS = {"question": "prompt", "answer": "ground_truth"}


def write_errors_page(graded: Path, output: Path) -> Path:
    """Write the page and return its path; InputError names the line that is not a graded response."""
    samples = load_graded(graded)
    clusters = cluster_items([sample.group for sample in samples])
    accuracy = clustered_accuracy([int(sample.correct) for sample in samples], 1, clusters)
    name = visible(graded.name)
    items = browser_items(samples, [], LABELS)
    page = render_page(
        "errors.html.j2",
        title=name,
        accuracy=asdict(accuracy),
        groups=clusters.count if clusters.count < len(samples) else None,
        errors=errors_section(analyse(samples, []), samples, [], LABELS),
        browser={name: {"shown": len(items), "total": len(samples)}},
        browser_json=htmlsafe_json_dumps(visible_all({name: items})),
    )
    write_text(output, page)
    return output


def load_graded(path: Path) -> list[Sample]:
    """Every line of the file as a sample of its own."""
    samples = [_sample(row, number, f"{path}:{number}") for number, row in read_jsonl(path)]
    if not samples:
        raise InputError(f"{path} holds no responses")
    return samples


def _sample(row: dict[str, Any], number: int, where: str) -> Sample:
    # Where the tokens were not counted, 0 says so.
    row = {name: row[other] for name, other in _SYNONYMS.items() if other in row} | row
    optional: dict[str, Any] = {
        "question": "",
        "solution": "",
        "attributes": {},
        "truncated": row.get("finish_reason") == "length",
    }
    row = {**optional, **{key: value for key, value in row.items() if value is not None}}
    if isinstance(row.get("answer"), int | float):
        row["answer"] = str(row["answer"])
    for key in ("response", "answer", "correct"):
        if key not in row:
            raise InputError(
                f"{where}: the key '{key}' is missing; `mathreason grade` adds 'correct' to lines with "
                "'response' and 'answer'"
            )
    response = _typed(row, "response", str, where)
    extracted, strategy = _extraction(row, response)
    return Sample(
        index=number,
        id=str(row.get("id", f"line {number}")),
        question=_typed(row, "question", str, where),
        answer=_typed(row, "answer", str, where),
        prompt_sha256="",
        response=response,
        strategy=strategy,
        correct=_typed(row, "correct", bool, where),
        truncated=_typed(row, "truncated", bool, where),
        response_tokens=_typed({"response_tokens": 0, **row}, "response_tokens", int, where),
        extracted=extracted,
        steps=_typed(row, "steps", int, where) if "steps" in row else None,
        attributes={str(key): str(value) for key, value in _typed(row, "attributes", dict, where).items()},
        group=str(row["group"]) if "group" in row else row["question"] or None,
        solution=_typed(row, "solution", str, where),
    )


def _extraction(row: dict[str, Any], response: str) -> tuple[str | None, str]:
    """The answer read from the response and how, from the row or, where it does not say, read again."""
    if "strategy" in row:
        found = row.get("extracted")
        return None if found is None else str(found), str(row["strategy"])
    from mathreason.evaluation.extraction import extract

    extraction = extract(response)
    return extraction.answer, extraction.strategy


def _typed(row: dict[str, Any], key: str, kind: type[Any], where: str) -> Any:
    value = row[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InputError(
            f"{where}: '{key}' should be {kind.__name__}, found {value!r:.60}; correct this line"
        )
    return value
