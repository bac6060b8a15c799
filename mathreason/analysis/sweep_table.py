"""A sweep's comparison for the terminal: one row a variant, verdicts in words, what they rest on, warnings.

console.print(sweep_table(compare_variants(...)))
console.print(runs_table(sweep, states, root))        # what a sweep is going to run
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mathreason.analysis import format as fmt
from mathreason.sweep import Sweep

NOTES = (
    "[low, high]: 95 % intervals, for these adapters on other items; ±: how far the seeds lie apart (SD).",
    "difference and p: on the same items, an item with the responses of all seeds being one observation.",
    "from the seeds alone: a 95 % t interval of the difference, for what new trainings would give.",
)
SEEDS_NOTE = (
    "With several seeds, better and worse also need a t test over the seeds below 5 % (seeds' Holm p)."
)


def sweep_table(comparison: dict[str, Any]) -> Group:
    """The comparison for `Console.print`; reads it as `compare_variants` makes it or sweep.json holds it."""
    parts: list[Table | Text] = []
    for benchmark, found in comparison["benchmarks"].items():
        parts.append(_table(benchmark, found, comparison))
        parts += [
            Text(f"{each['name']}: {each['in_words']}", style=_style(each["in_words"]))
            for each in found["variants"]
        ]
    parts += [Text(line, style="dim") for line in (*NOTES, family_note(comparison))]
    warnings = comparison["warnings"]
    return Group(*parts, *(Text(f"warning: {line}", style=_style(line, "yellow")) for line in warnings))


def family_note(comparison: dict[str, Any]) -> str:
    """What Holm's correction is over, and the tests it corrects."""
    results = [each for found in comparison["benchmarks"].values() for each in found["variants"]]
    tests = [each["test"]["name"] for each in results if "test" in each]
    if not tests:
        return "Nothing is compared yet."
    names = " or ".join(dict.fromkeys(tests))
    seeds = f" {SEEDS_NOTE}" if any(each.get("over_seeds") for each in results) else ""
    if len(tests) == 1:
        return f"The verdict rests on the {names}, at 5 %.{seeds}"
    return f"Verdicts rest on Holm's p: at most 5 % for any false one among {len(tests)} ({names}).{seeds}"


def _style(line: str, usual: str = "bold") -> str:
    return "bold red" if line.startswith("CONTAMINATED") else usual


def _table(benchmark: str, found: dict[str, Any], comparison: dict[str, Any]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(Text(f"{benchmark}\nn={found['n']}"), overflow="fold")
    headings = (
        "seeds",
        "accuracy\n%",
        "difference\npoints",
        "p\nHolm p\nseeds' p",
        "trained\nparams",
        "tokens\n/s",
    )
    for heading in (*headings, "peak\nGiB"):
        table.add_column(Text(heading), justify="right", no_wrap=True)
    for base in found["base"]:
        table.add_row(Text(base["name"]), "", accuracy_cell(base["accuracy"], None), *[""] * 5)
    for each in found["variants"]:
        cells = _cells(each, comparison["variants"][each["name"]])
        table.add_row(Text(each["name"]), *(Text(cell) for cell in cells))
    return table


def _cells(result: dict[str, Any], costs: dict[str, Any]) -> list[str]:
    accuracy, difference = result["accuracy"], result.get("difference")
    shown = accuracy_cell(accuracy, result["sd_over_seeds"]) if accuracy else "–"
    change = f"{fmt.points(difference['value'])}\n{fmt.point_bounds(difference)}" if difference else "–"
    return [str(len(result["seeds"])), shown, change, _p_cell(result), *cost_cells(costs)]


def _p_cell(result: dict[str, Any]) -> str:
    """p over items, the same after Holm, and Holm's p over seeds where there are several."""
    if "test" not in result:
        return "–"
    values = [result["test"]["p"], result["p_holm"]]
    if over_seeds := result["over_seeds"]:
        values.append(over_seeds["p_holm"])
    return "\n".join(fmt.p_value(value) for value in values)


def accuracy_cell(accuracy: dict[str, Any], sd: float | None) -> str:
    spread = f" ±{100 * sd:.1f}" if sd is not None else ""
    return f"{100 * accuracy['value']:.1f}{spread}\n{fmt.bounds(accuracy)}"


def cost_cells(costs: dict[str, Any]) -> list[str]:
    """Trainable parameters, tokens a second and peak memory in GiB, as text."""
    parameters, speed = costs["trainable_parameters"], costs["tokens_per_second"]
    memory = costs["peak_memory_bytes"]
    return [
        "–" if parameters is None else fmt.count(parameters),
        "–" if speed is None else fmt.count(round(speed)),
        "–" if memory is None else f"{memory / 2**30:.1f}",
    ]


def runs_table(sweep: Sweep, states: Sequence[str]) -> Table:
    """The runs of a sweep: number, variant, seed, run id, state."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("#", justify="right")
    table.add_column("variant", overflow="fold")
    table.add_column("seed", justify="right")
    table.add_column("changes", overflow="fold")
    for heading in ("run", "state"):
        table.add_column(heading, no_wrap=True)
    for run, state in zip(sweep.runs, states, strict=True):
        changes = ", ".join(f"{key}={value}" for key, value in run.variant.changes.items())
        cells = (str(run.number), run.variant.name, str(run.seed), changes, run.id, state)
        table.add_row(*(Text(cell) for cell in cells))
    return table
