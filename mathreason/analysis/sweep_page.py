"""sweep.html: the variants of a sweep in one figure and one table, with what the verdicts rest on.

    render_sweep(comparison)     "<!doctype html>..."    from sweep.json's content, nothing else

Like the report of a run it holds its style and loads nothing; each run's own report is one link away.
"""

from __future__ import annotations

from typing import Any

from mathreason.analysis import figures
from mathreason.analysis import format as fmt
from mathreason.analysis.report_page import drawn, render_page
from mathreason.analysis.sweep_comparison import UNSURE
from mathreason.analysis.sweep_table import cost_cells, family_note
from mathreason.analysis.text import visible, visible_all
from mathreason.results import to_json


def render_sweep(comparison: dict[str, Any]) -> str:
    """The page as HTML text."""
    shown = visible_all(comparison)
    return render_page(
        "sweep.html.j2",
        title=shown["name"],
        reference=shown["reference"],
        benchmarks=[_benchmark(name, found, shown) for name, found in shown["benchmarks"].items()],
        variants=[_variant(name, facts) for name, facts in shown["variants"].items()],
        warnings=shown["warnings"],
        family=visible(family_note(comparison)),
    )


def _benchmark(name: str, found: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
    reference = shown["reference"]
    return {
        "name": name,
        "found": found,
        "headline": _headline(found["variants"], reference),
        "figure": drawn(figures.accuracy_by_variant(found["variants"], reference)),
        "costs": {each: cost_cells(facts) for each, facts in shown["variants"].items()},
    }


def _headline(variants: list[dict[str, Any]], reference: str) -> dict[str, str]:
    """The answer in a word and a sentence: which variants differ from the reference."""
    compared = [each for each in variants if "verdict" in each]
    if not compared:
        return {"tone": "unclear", "word": "No comparison yet", "sentence": "Only one variant is finished."}
    verdicts = ("better", "worse")
    named = {
        verdict: [each["name"] for each in compared if each["verdict"] == verdict] for verdict in verdicts
    }
    said = [
        f"{verdict.capitalize()} than {reference}: {', '.join(names)}"
        for verdict, names in named.items()
        if names
    ]
    if not said and any(each["verdict"] == UNSURE for each in compared):
        said = [f"No variant differs from {reference} by more than a seed may"]
    tones = [verdict for verdict, names in named.items() if names]
    clean = not any(each["contaminated"] for each in variants)
    return {
        "tone": tones[0] if len(tones) == 1 and clean else "unclear",
        "word": ". ".join(said) or f"No evidence that any variant differs from {reference}",
        "sentence": "; ".join(_short(each) for each in compared),
    }


def _short(result: dict[str, Any]) -> str:
    difference = result["difference"]
    size = f"{fmt.points(difference['value'])} points {fmt.point_bounds(difference)}"
    return f"{result['name']} {size}, {result['verdict']}"


def _variant(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    changes = [
        f"{key}: {value if isinstance(value, str) else to_json(value, indent=None)}"
        for key, value in facts["changes"].items()
    ]
    return {"name": name, "changes": changes or ["nothing"], "runs": facts["runs"]}
