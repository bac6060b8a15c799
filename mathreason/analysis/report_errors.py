"""The "Errors" section of the report: kinds of error, what became of what, accuracy by type of problem.

    errors_section(analyse(base, tuned), base, tuned)["transitions"]["rows"]    [("truncated", ...), ...]

Either sequence may be empty. Every string in the result is visible; the template escapes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mathreason.analysis import figures
from mathreason.analysis.errors import CATEGORIES
from mathreason.analysis.problem_types import RIGHT, SMALL_BIN
from mathreason.analysis.report_items import shown_item
from mathreason.analysis.report_page import drawn
from mathreason.analysis.samples import Sample
from mathreason.analysis.text import visible, visible_all


def errors_section(
    found: dict[str, Any],
    base: Sequence[Sample],
    tuned: Sequence[Sample],
    labels: Mapping[str, str] = figures.LABELS,
) -> dict[str, Any]:
    """What the template shows of what `problem_types.analyse` found; `labels` names the sides."""
    sides = [name for name in figures.SIDES if found["categories"][name] is not None]
    return {
        "sides": sides,
        "labels": labels,
        "figure": drawn(figures.error_bars(found["categories"], labels)),
        "facts": _facts(found, sides),
        "transitions": _matrix(found["transitions"]) if found["transitions"] else None,
        "types": [_type(table, labels) for table in found["types"]],
        "small_bin": SMALL_BIN,
        "examples": [
            {"name": name, "items": _examples(chosen, base, tuned, labels), "of": _total(found, name)}
            for name, chosen in found["examples"].items()
            if chosen
        ],
    }


def _facts(found: dict[str, Any], sides: list[str]) -> list[tuple[str, list[str]]]:
    """Rows of a table with a column a side: written calculations, run-ons, wrong set-ups."""
    rows: list[tuple[str, list[str]]] = []
    arithmetic = [found["arithmetic"][side] for side in sides]
    rows.append(("calculations written", [str(each["calculations"]) for each in arithmetic]))
    rows.append(
        ("wrong ones among them", [_share(each["wrong"], each["calculations"]) for each in arithmetic])
    )
    run_on = [found["run_on"][side] for side in sides]
    rows.append(("responses that went on after their answer", [str(each["n"]) for each in run_on]))
    for name, _ in found["set_up"][sides[0]].items():
        rows.append((f"wrong set-up: {name}", [str(found["set_up"][side][name]) for side in sides]))
    return rows


def _share(part: int, whole: int) -> str:
    return f"{part} ({100 * part / whole:.1f} %)" if whole else "0"


def _matrix(transitions: list[dict[str, Any]]) -> dict[str, Any]:
    """The transitions as a table: a row for each category before tuning, a column for each after."""
    counts = {(each["base"], each["tuned"]): each["n"] for each in transitions}
    order = (RIGHT, *CATEGORIES)
    rows = [name for name in order if any(before == name for before, _ in counts)]
    columns = [name for name in order if any(after == name for _, after in counts)]
    cells = [(row, [(counts.get((row, column), 0), row == column) for column in columns]) for row in rows]
    return {"columns": columns, "rows": cells}


def _type(table: dict[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    rows = visible_all(table["rows"])
    bars = [
        (f"{row['label']} (n = {row['n']}{', too few to tell' if row['small'] else ''})", row) for row in rows
    ]
    title = visible(table["name"])
    return {
        "name": title,
        "rows": rows,
        "figure": drawn(figures.accuracy_bars(bars, f"Accuracy by {title}", labels)),
    }


def _examples(
    chosen: list[dict[str, Any]], base: Sequence[Sample], tuned: Sequence[Sample], labels: Mapping[str, str]
) -> list[dict[str, Any]]:
    known = [{sample.id: sample for sample in side} for side in (base, tuned)]
    pairs = [(known[0].get(each["id"]), known[1].get(each["id"])) for each in chosen]
    return [visible_all(shown_item(before, after, labels)) for before, after in pairs]


def _total(found: dict[str, Any], name: str) -> int:
    """How many items the examples of `name` were taken from: an outcome or a category."""
    if found["transitions"]:
        wanted = (False, True) if name == "fixed" else (True, False)
        return sum(
            each["n"]
            for each in found["transitions"]
            if (each["base"] == RIGHT, each["tuned"] == RIGHT) == wanted
        )
    counts = found["categories"]["base"] or found["categories"]["tuned"]
    return int(counts[name])
