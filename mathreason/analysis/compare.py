"""Base against tuned on the same items, with the same prompts and limits, or not at all.

    write_comparison(run)                     # comparison.json of a run
    console.print(comparison_table(compare_run(run)))
    console.print(comparison_table(compare_runs(baseline, ablation)))    # tuned against tuned

A comparison is a JSON object:

    {"kind": "run", "labels": {"base": "base", "tuned": "tuned"},
     "benchmarks": {"gsm8k": {"n": 300, "base": accuracy, "tuned": accuracy or null, "difference": ...,
                              "mcnemar": ..., "verdict": "better", "by_steps": [...], ...}},
     "warnings": ["gsm8k: 21 of 300 tuned responses were cut off ..."]}
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mathreason.analysis import format as fmt
from mathreason.analysis.errors import by_outcome, by_steps, describe
from mathreason.analysis.samples import Evaluation, load_evaluation, require
from mathreason.analysis.statistics import (
    mcnemar_exact,
    paired_difference,
    relative_improvement,
    smallest_detectable,
    transitions,
    verdict,
)
from mathreason.errors import InputError
from mathreason.results import RunDir, write_json

EXAMPLES = 5
SMALL_N = 100
MANY_TRUNCATED = 0.05

Pair = tuple[Evaluation | None, Evaluation | None]


def compare_run(run: RunDir) -> dict[str, Any]:
    """Compare the tuned model of a run with its base on every benchmark that has been evaluated.

    A benchmark with only one side evaluated is reported on its own, and the comparison says so. Raises
    InputError when nothing has been evaluated, when base and tuned were not given the same items, prompts
    and limits, or when a file is malformed.
    """
    pairs: dict[str, Pair] = {}
    for benchmark in run.benchmarks():
        pair = load_evaluation(run, benchmark, "base"), load_evaluation(run, benchmark, "tuned")
        if pair != (None, None):
            pairs[benchmark] = pair
    if not pairs:
        raise InputError(f"{run.path} holds no finished evaluation; evaluate the run first")
    return _compare("run", {"base": "base", "tuned": "tuned"}, pairs)


def compare_runs(a: RunDir, b: RunDir) -> dict[str, Any]:
    """Compare the tuned models of two runs, `a` in the place of base, on the benchmarks both have.

    Raises InputError when they share none, and in the cases of `compare_run`.
    """
    pairs: dict[str, Pair] = {}
    alone: list[str] = []
    for benchmark in sorted({*a.benchmarks(), *b.benchmarks()}):
        of_a, of_b = load_evaluation(a, benchmark, "tuned"), load_evaluation(b, benchmark, "tuned")
        if of_a is not None and of_b is not None:
            pairs[benchmark] = (of_a, of_b)
        else:
            missing = a.id if of_a is None else b.id
            alone.append(f"{benchmark}: not compared, {missing} has no tuned evaluation")
    if not pairs:
        raise InputError(
            f"{a.path} and {b.path} have no benchmark on which both tuned models were evaluated; "
            "evaluate both on the same one first"
        )
    result = _compare("runs", {"base": a.id, "tuned": b.id}, pairs)
    return {**result, "warnings": result["warnings"] + alone}


def write_comparison(run: RunDir) -> dict[str, Any]:
    """Write comparison.json of the run and return what was written, without its provenance."""
    comparison = compare_run(run)
    write_json(run.comparison, comparison)
    return comparison


def _compare(kind: Literal["run", "runs"], labels: dict[str, str], pairs: dict[str, Pair]) -> dict[str, Any]:
    benchmarks: dict[str, Any] = {}
    warnings: list[str] = []
    for benchmark, (base, tuned) in pairs.items():
        benchmarks[benchmark] = _describe_benchmark(base, tuned)
        for side, evaluation in (("base", base), ("tuned", tuned)):
            if evaluation is None:
                warnings.append(f"{benchmark}: no comparison, {side} has not been evaluated")
            else:
                warnings += _warnings(benchmark, labels[side], evaluation)
        if base is not None and tuned is not None:
            _require_comparable(benchmark, base, tuned)
            benchmarks[benchmark] |= _compare_benchmark(base, tuned)
            warnings += _differing(benchmark, "engine", base.setting("engine"), tuned.setting("engine"))
            warnings += _model_warnings(benchmark, base, tuned) if kind == "run" else []
    # What makes the numbers meaningless comes before what makes them uncertain; each is said once.
    warnings = sorted(dict.fromkeys(warnings), key=lambda text: not text.startswith("CONTAMINATED"))
    return {"kind": kind, "labels": labels, "benchmarks": benchmarks, "warnings": warnings}


def _describe_benchmark(base: Evaluation | None, tuned: Evaluation | None) -> dict[str, Any]:
    """What each side shows on its own."""
    sides = {"base": base, "tuned": tuned}
    samples = {name: side.samples if side is not None else [] for name, side in sides.items()}
    return {
        "n": max(len(samples["base"]), len(samples["tuned"])),
        **{name: asdict(side.accuracy) if side is not None else None for name, side in sides.items()},
        "contamination": _contamination([side for side in (tuned, base) if side is not None]),
        "by_steps": by_steps(samples["base"], samples["tuned"]),
        "errors": {name: describe(found) if found else None for name, found in samples.items()},
    }


def _compare_benchmark(base: Evaluation, tuned: Evaluation) -> dict[str, Any]:
    """What only the pair shows."""
    table = transitions(base.correct, tuned.correct)
    ids = by_outcome(base.samples, tuned.samples)
    return {
        "difference": asdict(paired_difference(base.correct, tuned.correct)),
        "mcnemar": {
            "p_value": mcnemar_exact(table.fixed, table.broken),
            "fixed": table.fixed,
            "broken": table.broken,
            "method": "exact",
        },
        "relative_improvement": relative_improvement(base.accuracy.value, tuned.accuracy.value),
        "verdict": verdict(table.fixed, table.broken),
        "smallest_detectable": smallest_detectable(table.n, table.fixed + table.broken),
        "transitions": asdict(table),
        "examples": {name: ids[name][:EXAMPLES] for name in ("fixed", "broken")},
    }


def _contamination(evaluations: list[Evaluation]) -> dict[str, Any]:
    """The contamination record of the first evaluation that is marked, else of the first one."""
    records: list[dict[str, Any]] = [
        require(each.summary, "contamination", dict, str(each.path)) for each in evaluations
    ]
    marked = [record for record in records if not record.get("clean")]
    return (marked or records)[0]


# -- refusals --------------------------------------------------------------------------------------


def _require_comparable(benchmark: str, base: Evaluation, tuned: Evaluation) -> None:
    """Raise InputError unless both evaluations asked the same items in the same way."""
    where = f"{benchmark}: {base.path} and {tuned.path} cannot be compared:"
    advice = "evaluate both again with the same job"
    if base.summary.get("items_sha256") != tuned.summary.get("items_sha256"):
        raise InputError(f"{where} their items differ (items_sha256); {advice}")
    for before, after in zip(base.samples, tuned.samples, strict=False):
        if (before.index, before.id) != (after.index, after.id):
            raise InputError(f"{where} item {before.id} stands against {after.id}; {advice}")
        if before.prompt_sha256 != after.prompt_sha256:
            raise InputError(f"{where} the prompts of item {before.id} differ; {advice}")
    if len(base.samples) != len(tuned.samples):
        raise InputError(f"{where} {len(base.samples)} items against {len(tuned.samples)}; {advice}")
    for name in ("max_new_tokens", "stop"):
        if base.setting(name) != tuned.setting(name):
            raise InputError(
                f"{where} {name} is {base.setting(name)!r} against {tuned.setting(name)!r}; {advice}"
            )


# -- warnings --------------------------------------------------------------------------------------


def _warnings(benchmark: str, label: str, side: Evaluation) -> list[str]:
    """What one evaluation says against itself."""
    found: list[str] = []
    contamination = _contamination([side])
    if not contamination.get("clean"):
        note = contamination.get("note") or "test items were found in the training data"
        found.append(f"CONTAMINATED: {benchmark}: {note}. The accuracy does not measure what was learned.")
    n = len(side.samples)
    if n < SMALL_N:
        found.append(f"{benchmark}: only {n} items, see how wide the intervals are")
    cut = sum(sample.truncated for sample in side.samples)
    if cut > MANY_TRUNCATED * n:
        found.append(
            f"{benchmark}: {cut} of {n} {label} responses were cut off at "
            f"{side.setting('max_new_tokens')} tokens; raise max_new_tokens"
        )
    return found + [f"{benchmark}: {label} fell back: {text}" for text in side.summary.get("fallbacks") or []]


def _model_warnings(benchmark: str, base: Evaluation, tuned: Evaluation) -> list[str]:
    """Signs that the adapter was left out, or that more than the adapter differs."""
    found: list[str] = []
    responses = [[sample.response for sample in side.samples] for side in (base, tuned)]
    if responses[0] == responses[1]:
        found.append(
            f"{benchmark}: every tuned response equals the base response; "
            "the adapter seems not to have been applied"
        )
    models = [require(side.summary, "model", dict, str(side.path)) for side in (base, tuned)]
    for name in ("name", "revision", "dtype", "quantization", "attention"):
        found += _differing(benchmark, f"the model's {name}", models[0].get(name), models[1].get(name))
    return found


def _differing(benchmark: str, what: str, before: Any, after: Any) -> list[str]:
    if before == after:
        return []
    return [f"{benchmark}: {what} differs, {before} against {after}; part of the difference may come from it"]


# -- the terminal ----------------------------------------------------------------------------------


def comparison_table(comparison: dict[str, Any]) -> Group:
    """The comparison for `Console.print`: one row a benchmark, then every warning."""
    labels = comparison["labels"]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)  # fits a terminal of 80 columns
    table.add_column("benchmark", overflow="fold")
    headings = ("n", f"{labels['base']} %", f"{labels['tuned']} %", "difference", "p", "fixed/\nbroken")
    for heading in headings:
        table.add_column(Text(heading), justify="right")
    for benchmark, result in comparison["benchmarks"].items():
        table.add_row(*(Text(cell) for cell in _cells(benchmark, result)))
    verdicts = [
        f"{benchmark}: {result.get('verdict', 'not compared')}"
        for benchmark, result in comparison["benchmarks"].items()
    ]
    notes = ["[low, high]: 95 % intervals; p: exact McNemar test on the same items."]
    if len(comparison["benchmarks"]) > 1:
        notes.append("Each verdict is at 5 % on its own, not corrected for the number of benchmarks.")
    warnings = _styled(comparison["warnings"], "yellow", "warning: ")
    return Group(table, *_styled(verdicts, "bold"), *_styled(notes, "dim"), *warnings)


def _cells(benchmark: str, result: dict[str, Any]) -> list[str]:
    cells = [benchmark, str(result["n"])]
    for side in ("base", "tuned"):
        accuracy = result[side]
        cells.append(f"{100 * accuracy['value']:.1f}\n{fmt.bounds(accuracy)}" if accuracy else "–")
    if "difference" not in result:
        return [*cells, "–", "–", "–"]
    mcnemar, difference = result["mcnemar"], result["difference"]
    return [
        *cells,
        f"{fmt.points(difference['value'])}\n{fmt.point_bounds(difference)}",
        fmt.p_value(mcnemar["p_value"]),
        f"{mcnemar['fixed']}/{mcnemar['broken']}",
    ]


def _styled(lines: Iterable[str], style: str, prefix: str = "") -> list[Text]:
    return [
        Text(prefix + line, style="bold red" if line.startswith("CONTAMINATED") else style) for line in lines
    ]
