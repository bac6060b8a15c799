"""One HTML file that says whether tuning helped, how sure that is, and shows every response behind it.

    write_report(run)    # results/<run id>/report.html, opens anywhere, loads nothing from anywhere

The file holds its style, its script and its data; a content security policy with their hashes keeps
anything else from running, whatever a model has written. It works for a run that was only evaluated, only
trained, or evaluated on one side so far, and says which.
"""

from __future__ import annotations

import base64
import hashlib
from itertools import zip_longest
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from mathreason.analysis import figures
from mathreason.analysis import format as fmt
from mathreason.analysis.calculations import first_wrong
from mathreason.analysis.compare import compare_run
from mathreason.analysis.errors import category, outcome
from mathreason.analysis.run_facts import (
    data_facts,
    evaluation_facts,
    provenance_facts,
    shown_status,
    training_facts,
)
from mathreason.analysis.samples import Evaluation, Sample, load_evaluation
from mathreason.analysis.text import visible, visible_all
from mathreason.results import RunDir, read_json, write_text

MAX_BROWSER_ITEMS = 1000
MAX_RESPONSE_CHARACTERS = 4000

_HERE = Path(__file__).parent
_TONES = {"better": "better", "worse": "worse"}

Sides = dict[str, Evaluation | None]


def write_report(run: RunDir) -> Path:
    """Write report.html of the run and return its path.

    Raises InputError when the folder is no run, when a file of it is malformed, or when its base and tuned
    evaluations cannot be compared (see compare_run).
    """
    run.require()
    write_text(run.report, render_report(run))
    return run.report


def render_report(run: RunDir) -> str:
    """The report as HTML text; raises what `write_report` raises."""
    style = (_HERE / "report.css").read_text(encoding="utf-8") + figures.PALETTE
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    facts = read_json(run.run)
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.globals["fmt"] = fmt
    return environment.get_template("report.html.j2").render(
        style=Markup(style),  # noqa: S704 (the project's own file)
        script=Markup(script),  # noqa: S704 (the project's own file)
        policy=_policy(style, script),
        title=visible(str(facts.get("name") or run.id)),
        run_id=visible(run.id),
        status=visible(shown_status(facts) or ""),
        training=_training(run),
        data=data_facts(run),
        provenance=provenance_facts(run),
        job=visible(run.job.read_text(encoding="utf-8", errors="replace")) if run.job.exists() else None,
        max_characters=MAX_RESPONSE_CHARACTERS,
        **_evaluation_context(run),
    )


def _evaluation_context(run: RunDir) -> dict[str, Any]:
    """What the template shows of the evaluations; all of it empty when none has finished."""
    sides = {name: _sides(run, name) for name in run.benchmarks()}
    sides = {name: each for name, each in sides.items() if any(each.values())}
    comparison = compare_run(run) if sides else {"benchmarks": {}, "warnings": []}
    results: dict[str, Any] = comparison["benchmarks"]
    bars = figures.accuracy_bars([(visible(name), result) for name, result in results.items()])
    items = {name: _browser_items(each) for name, each in sides.items()}
    return {
        "headlines": [_headline(name, result) for name, result in results.items()],
        # Contamination stands in its own red box.
        "warnings": [visible(text) for text in comparison["warnings"] if not text.startswith("CONTAMINATED")],
        "accuracy_figure": _figure(bars),
        "benchmarks": [_benchmark(name, result, sides[name]) for name, result in results.items()],
        "browser": {
            visible(name): {"shown": len(items[name]), "total": results[name]["n"]} for name in results
        },
        "browser_json": htmlsafe_json_dumps(visible_all(items)),
    }


def _sides(run: RunDir, benchmark: str) -> Sides:
    return {side: load_evaluation(run, benchmark, side) for side in figures.SIDES}


def _policy(style: str, script: str) -> str:
    """Content security policy that lets only this style and this script through, by hash."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _figure(svg: str) -> Markup:
    """SVG made by the figures module, which escapes every text in it."""
    return Markup(svg)  # noqa: S704


# -- the answer ------------------------------------------------------------------------------------


def _headline(benchmark: str, result: dict[str, Any]) -> dict[str, Any]:
    """The answer for one benchmark: a word, a sentence, and whether contamination takes it back."""
    record = result["contamination"]
    contaminated = not record.get("clean")
    verdict = result.get("verdict")
    word = verdict.capitalize() if verdict else "No comparison yet"
    return {
        "benchmark": visible(benchmark),
        "contaminated": contaminated,
        "note": visible(str(record.get("note") or "test items were found in the training data")),
        "marked": len(record.get("marked") or []),
        "tone": "unclear" if contaminated else _TONES.get(str(verdict), "unclear"),
        "word": f"{word}, on contaminated data" if contaminated else word,
        "sentence": _compared_sentence(result) if verdict else _single_sentence(result),
    }


def _compared_sentence(result: dict[str, Any]) -> str:
    difference = result["difference"]
    return (
        f"{fmt.percent(result['base']['value'])} → {fmt.percent(result['tuned']['value'])}, "
        f"{fmt.points(difference['value'])} points {fmt.point_bounds(difference)}, "
        f"McNemar p {fmt.p_relation(result['mcnemar']['p_value'])}, {fmt.count(result['n'])} items"
    )


def _single_sentence(result: dict[str, Any]) -> str:
    side, missing = ("base", "tuned") if result["base"] else ("tuned", "base")
    accuracy = result[side]
    return (
        f"{side} {fmt.percent(accuracy['value'])} {fmt.bounds(accuracy)}, "
        f"{fmt.count(result['n'])} items; {missing} has not been evaluated"
    )


# -- one benchmark ---------------------------------------------------------------------------------


def _benchmark(name: str, result: dict[str, Any], sides: Sides) -> dict[str, Any]:
    samples = {side: found.samples if found is not None else [] for side, found in sides.items()}
    lengths = {side: [sample.response_tokens for sample in found] for side, found in samples.items()}
    categories = {
        side: described["categories"] if described else None for side, described in result["errors"].items()
    }
    compared = "difference" in result
    return {
        "name": visible(name),
        "result": result,
        "compared": compared,
        "steps_figure": _figure(figures.accuracy_by_steps(result["by_steps"])),
        "errors_figure": _figure(figures.error_bars(categories)),
        "lengths_figure": _figure(figures.length_histogram(lengths)),
        "transition_figure": _figure(figures.transition_bar(result["transitions"])) if compared else None,
        "examples": [
            (outcome_name, _examples(result["examples"][outcome_name], samples))
            for outcome_name in ("fixed", "broken")
            if compared
        ],
        "facts": evaluation_facts(sides),
    }


def _examples(ids: list[str], samples: dict[str, list[Sample]]) -> list[dict[str, Any]]:
    wanted = set(ids)
    pairs = zip(samples["base"], samples["tuned"], strict=True)
    return [visible_all(_item(base, tuned)) for base, tuned in pairs if base.id in wanted]


def _browser_items(sides: Sides) -> list[dict[str, Any]]:
    """The first items of a benchmark, as the page's script reads them."""
    samples = {side: found.samples[:MAX_BROWSER_ITEMS] if found else [] for side, found in sides.items()}
    return [_item(base, tuned) for base, tuned in zip_longest(samples["base"], samples["tuned"])]


def _item(base: Sample | None, tuned: Sample | None) -> dict[str, Any]:
    if base is not None and tuned is not None:
        result = outcome(base, tuned)
        known = base
    else:
        known = next(sample for sample in (base, tuned) if sample is not None)
        result = "right" if known.correct else "wrong"
    return {
        "id": known.id,
        "question": known.question[:MAX_RESPONSE_CHARACTERS],
        "answer": known.answer[:MAX_RESPONSE_CHARACTERS],
        "outcome": result,
        "base": _response(base) if base is not None else None,
        "tuned": _response(tuned) if tuned is not None else None,
    }


def _response(sample: Sample) -> dict[str, Any]:
    """A response in three parts: up to its first wrong calculation, that calculation, and the rest."""
    found = None if sample.correct else first_wrong(sample.response)
    shown = sample.response[:MAX_RESPONSE_CHARACTERS]
    if found is not None and found.end <= len(shown):
        parts = [shown[: found.start], shown[found.start : found.end], shown[found.end :]]
    else:
        parts = [shown, "", ""]
    return {
        "parts": parts,
        "cut": len(sample.response) > len(shown),
        "correct": sample.correct,
        "extracted": None if sample.extracted is None else sample.extracted[:200],
        "category": category(sample),
        "tokens": sample.response_tokens,
    }


# -- training --------------------------------------------------------------------------------------


def _training(run: RunDir) -> dict[str, Any] | None:
    facts = training_facts(run)
    if facts is None:
        return None
    curve = figures.loss_curves(facts["training_points"], facts["validation_points"])
    return {**facts, "figure": _figure(curve)}
