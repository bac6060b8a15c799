"""A comparison for the terminal: figures with their intervals, verdicts, what they rest on, warnings.

    console.print(comparison_table(compare_run(run)))        # fits 80 columns

It reads a comparison as `compare` makes it or as comparison.json holds it.
"""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import wrap
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mathreason.analysis import format as fmt

SIDES = ("base", "tuned")
_HEADING_WIDTH = 12


def comparison_table(comparison: dict[str, Any]) -> Group:
    """The comparison for `Console.print`: one row a benchmark, then what there is to say about it."""
    labels, benchmarks = comparison["labels"], comparison["benchmarks"]
    compared = [result for result in benchmarks.values() if "test" in result]
    table = _table("n", f"{labels['base']} %", f"{labels['tuned']} %", "difference")
    table.add_column(Text("p\nHolm p" if len(compared) > 1 else "p"), justify="right", no_wrap=True)
    table.add_column(Text("fixed/\nbroken"), justify="right", no_wrap=True)
    for benchmark, result in benchmarks.items():
        table.add_row(*(Text(cell) for cell in _cells(benchmark, result, len(compared) > 1)))
    sampled = {name: result for name, result in benchmarks.items() if result["samples_per_item"] > 1}
    verdicts = [_verdict(benchmark, result) for benchmark, result in benchmarks.items()]
    harness = [line for name, result in benchmarks.items() for line in _harness_lines(name, result, labels)]
    return Group(
        table,
        *([_at_k_table(sampled, labels)] if sampled else []),
        *_styled(verdicts, "bold"),
        *_styled(harness, ""),
        *_styled(_notes(compared), "dim"),
        *_styled(comparison["warnings"], "yellow", "warning: "),
    )


def _table(*headings: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("benchmark", overflow="fold")
    for heading in headings:
        # The name of a run folds; figures and intervals do not.
        lines = wrap(heading, _HEADING_WIDTH)
        table.add_column(Text("\n".join(lines)), justify="right", no_wrap=True)
    return table


def _cells(benchmark: str, result: dict[str, Any], corrected: bool) -> list[str]:
    cells = [benchmark, str(result["n"])]
    for side in SIDES:
        cells.append(_accuracy(result[side]) if result[side] else "–")
    if "test" not in result:
        return [*cells, "–", "–", "–"]
    mcnemar, difference, p = result["mcnemar"], result["difference"], fmt.p_value(result["test"]["p"])
    return [
        *cells,
        f"{fmt.points(difference['value'])}\n{fmt.point_bounds(difference)}",
        f"{p}\n{fmt.p_value(result['p_holm'])}" if corrected else p,
        f"{mcnemar['fixed']}/{mcnemar['broken']}",
    ]


def _accuracy(accuracy: dict[str, Any]) -> str:
    return f"{100 * accuracy['value']:.1f}\n{fmt.bounds(accuracy)}"


def _at_k_table(sampled: dict[str, Any], labels: dict[str, str]) -> Table:
    """pass@k and maj@k of both sides, one row for each k."""
    table = _table("k", *(f"{labels[side]} {name}" for name in ("pass@k", "maj@k") for side in SIDES))
    for benchmark, result in sampled.items():
        columns = [result[name][side] for name in ("pass_at_k", "maj_at_k") for side in SIDES]
        known = next(column for column in columns if column)
        for number, row in enumerate(known):
            cells = [_accuracy(column[number]) if column else "–" for column in columns]
            table.add_row(*(Text(cell) for cell in ("" if number else benchmark, str(row["k"]), *cells)))
    return table


def _verdict(benchmark: str, result: dict[str, Any]) -> str:
    verdict = result.get("verdict", "not compared")
    detectable = result.get("smallest_detectable")
    if verdict != "no evidence of a difference" or detectable is None:
        return f"{benchmark}: {verdict}"
    return f"{benchmark}: {verdict}; one below {100 * detectable:.1f} points would often be missed"


def _harness_lines(benchmark: str, result: dict[str, Any], labels: dict[str, str]) -> list[str]:
    """Scores by the rules of lm-evaluation-harness, where they were kept."""
    kept = {labels[side]: scores for side in SIDES if (scores := result["lm_eval"][side])}
    if not kept:
        return []
    shown = [
        f"{label} " + ", ".join(f"{rule} {fmt.percent(found['value'])}" for rule, found in scores.items())
        for label, scores in kept.items()
    ]
    return [f"{benchmark} as lm-evaluation-harness grades it: {'; '.join(shown)}"]


def _notes(compared: list[dict[str, Any]]) -> list[str]:
    """What the figures are; which of several tests is whose stands in comparison.json."""
    names = list(dict.fromkeys(result["test"]["name"] for result in compared))
    notes = [
        "[low, high]: 95 % intervals" + (f"; p: {' or '.join(names)} on the same items." if names else ".")
    ]
    if any(result["clustered"] for result in compared):
        notes.append("Items of one group count as one observation: intervals and p allow for that.")
    if any(result["samples_per_item"] > 1 for result in compared):
        notes.append("fixed/broken: by the first response to each item.")
    if len(compared) > 1:
        notes.append(f"Verdicts rest on Holm's p: at most 5 % for any false one among the {len(compared)}.")
    return notes


def _styled(lines: Iterable[str], style: str, prefix: str = "") -> list[Text]:
    return [
        Text(prefix + line, style="bold red" if line.startswith("CONTAMINATED") else style) for line in lines
    ]
