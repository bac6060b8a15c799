"""One HTML file that says whether tuning helped, how sure that is, and shows every response behind it.

    write_report(run)    # results/<run id>/report.html, opens anywhere, loads nothing from anywhere

The file holds its style, its script and its data; a content security policy with their hashes keeps
anything else from running, whatever a model has written. It works for a run that was only evaluated, only
trained, or evaluated on one side so far, and says which.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2.utils import htmlsafe_json_dumps

from mathreason.analysis import figures
from mathreason.analysis import format as fmt
from mathreason.analysis.compare import compare_run
from mathreason.analysis.report_errors import errors_section
from mathreason.analysis.report_items import browser_items
from mathreason.analysis.report_page import drawn, render_page
from mathreason.analysis.run_facts import (
    data_facts,
    evaluation_facts,
    provenance_facts,
    shown_status,
    training_facts,
)
from mathreason.analysis.samples import Evaluation, load_evaluation
from mathreason.analysis.text import visible, visible_all
from mathreason.results import RunDir, read_json, write_text

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
    facts = read_json(run.run)
    return render_page(
        "report.html.j2",
        title=visible(str(facts.get("name") or run.id)),
        run_id=visible(run.id),
        status=visible(shown_status(facts) or ""),
        training=_training(run),
        data=data_facts(run),
        provenance=provenance_facts(run),
        job=visible(run.job.read_text(encoding="utf-8", errors="replace")) if run.job.exists() else None,
        **_evaluation_context(run),
    )


def _evaluation_context(run: RunDir) -> dict[str, Any]:
    """What the template shows of the evaluations; all of it empty when none has finished."""
    sides = {name: _sides(run, name) for name in run.benchmarks()}
    sides = {name: each for name, each in sides.items() if any(each.values())}
    comparison = compare_run(run) if sides else {"benchmarks": {}, "warnings": []}
    results: dict[str, Any] = comparison["benchmarks"]
    bars = figures.accuracy_bars([(visible(name), result) for name, result in results.items()])
    compared = [result for result in results.values() if "test" in result]
    items = {name: _browser_items(each) for name, each in sides.items()}
    return {
        "headlines": [_headline(name, result) for name, result in results.items()],
        # Contamination stands in its own red box.
        "warnings": [visible(text) for text in comparison["warnings"] if not text.startswith("CONTAMINATED")],
        "tests": list(dict.fromkeys(result["test"]["name"] for result in compared)),
        "holm": len(compared) > 1,
        "accuracy_figure": drawn(bars),
        "benchmarks": [_benchmark(name, result, sides[name]) for name, result in results.items()],
        "browser": {
            visible(name): {"shown": len(items[name]), "total": results[name]["n"]} for name in results
        },
        "browser_json": htmlsafe_json_dumps(visible_all(items)),
    }


def _browser_items(sides: Sides) -> list[dict[str, Any]]:
    """The first response to each of the first items."""
    base, tuned = (found.first if (found := sides[side]) is not None else [] for side in figures.SIDES)
    return browser_items(base, tuned)


def _sides(run: RunDir, benchmark: str) -> Sides:
    return {side: load_evaluation(run, benchmark, side) for side in figures.SIDES}


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
        f"{result['test']['name']} p {fmt.p_relation(result['test']['p'])}, {fmt.count(result['n'])} items"
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
    first = {side: found.first if found is not None else [] for side, found in sides.items()}
    lengths = {side: [sample.response_tokens for sample in found] for side, found in first.items()}
    compared = "difference" in result
    return {
        "name": visible(name),
        "result": result,
        "compared": compared,
        "steps_figure": drawn(figures.accuracy_by_steps(result["by_steps"])),
        "lengths_figure": drawn(figures.length_histogram(lengths)),
        "transition_figure": drawn(figures.transition_bar(result["transitions"])) if compared else None,
        "at_k": _at_k(result),
        "harness": _harness(name, result),
        "errors": errors_section(result["analysis"], first["base"], first["tuned"]),
        "facts": evaluation_facts(sides),
    }


def _at_k(result: dict[str, Any]) -> dict[str, Any] | None:
    """pass@k and maj@k as a table; None where each item has one response."""
    columns = {
        f"{side} {label}": result[name][side]
        for name, label in (("pass_at_k", "pass@k"), ("maj_at_k", "maj@k"))
        for side in figures.SIDES
        if result[name][side]
    }
    if not columns:
        return None
    rows = [(cells[0]["k"], cells) for cells in zip(*columns.values(), strict=True)]
    return {"headings": list(columns), "rows": rows}


def _harness(name: str, result: dict[str, Any]) -> list[str]:
    """Scores by the rules of lm-evaluation-harness, where they were kept."""
    return [
        visible(
            f"{name}, {side}, as lm-evaluation-harness grades it: "
            + ", ".join(f"{rule} {fmt.percent(found['value'])}" for rule, found in scores.items())
        )
        for side in figures.SIDES
        if (scores := result["lm_eval"][side])
    ]


# -- training --------------------------------------------------------------------------------------


def _training(run: RunDir) -> dict[str, Any] | None:
    facts = training_facts(run)
    if facts is None:
        return None
    curve = figures.loss_curves(facts["training_points"], facts["validation_points"])
    return {**facts, "figure": drawn(curve)}
