"""Base against tuned on the same items, with the same prompts and limits, or not at all.

    write_comparison(run)                     # comparison.json of a run
    console.print(comparison_table(compare_run(run)))
    console.print(comparison_table(compare_runs(baseline, ablation)))    # tuned against tuned

A comparison is a JSON object:

    {"kind": "run", "labels": {"base": "base", "tuned": "tuned"},
     "benchmarks": {"gsm8k": {"n": 300, "samples_per_item": 1, "base": accuracy, "tuned": accuracy or null,
                              "difference": ..., "test": {"name": "exact McNemar test", "p": 0.01},
                              "p_holm": 0.02, "verdict": "better", "by_steps": [...], ...}},
     "warnings": ["gsm8k: 21 of 300 tuned responses were cut off ..."]}

`n` counts items. The verdict rests on `p_holm`: with several benchmarks the chance of any false verdict is
5 % for all together. Where items share a group or have several responses, intervals and test are those of
`clustered`. Transitions, examples, McNemar and the error analysis look at the first response to each item.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from mathreason.analysis.clustered import (
    RESAMPLES,
    cluster_bootstrap,
    clustered_difference,
    effective_change,
    sign_flip_test,
)
from mathreason.analysis.comparability import (
    contamination,
    require_comparable,
    warnings_between,
    warnings_of,
)
from mathreason.analysis.comparison_table import comparison_table
from mathreason.analysis.errors import by_outcome, by_steps, describe
from mathreason.analysis.planning import detectable_before, plan_items
from mathreason.analysis.problem_types import analyse
from mathreason.analysis.samples import Evaluation, load_evaluation
from mathreason.analysis.sampling import at_k
from mathreason.analysis.statistics import (
    holm,
    mcnemar_exact,
    newcombe_paired,
    relative_improvement,
    transitions,
    verdict,
)
from mathreason.errors import InputError
from mathreason.results import RunDir, to_json, write_json, write_text

__all__ = ["compare_run", "compare_runs", "comparison_table", "write_comparison"]

EXAMPLES = 5
BOOTSTRAP_SEED = 0

Pair = tuple[Evaluation | None, Evaluation | None]


def compare_run(run: RunDir) -> dict[str, Any]:
    """Compare the tuned model of a run with its base on every benchmark that has been evaluated.

    A benchmark with only one side evaluated is reported on its own, and the comparison says so. Raises
    InputError when nothing has been evaluated, when base and tuned were not given the same items, prompts,
    limits and sampling, when one side lacks items, or when a file is malformed.
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
    """Write comparison.json of the run and return what was written, without its provenance.

    scores.json holds the few numbers of it that lists of runs show, which may be of thousands.
    """
    comparison = compare_run(run)
    run.scores.unlink(missing_ok=True)  # so that they are never those of another comparison
    write_json(run.comparison, comparison)
    write_text(run.scores, to_json({"benchmarks": brief(comparison)}, indent=None) + "\n")
    return comparison


def brief(comparison: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Of each benchmark the number of items, both accuracies and their difference."""

    def value(entry: dict[str, Any], name: str) -> dict[str, float] | None:
        return {"value": entry[name]["value"]} if entry.get(name) else None

    names = ("base", "tuned", "difference")
    return {
        benchmark: {"n": entry.get("n"), **{name: value(entry, name) for name in names}}
        for benchmark, entry in comparison["benchmarks"].items()
    }


def _compare(kind: Literal["run", "runs"], labels: dict[str, str], pairs: dict[str, Pair]) -> dict[str, Any]:
    benchmarks: dict[str, Any] = {}
    warnings: list[str] = []
    for benchmark, (base, tuned) in pairs.items():
        if base is not None and tuned is not None:
            require_comparable(benchmark, base, tuned)
        benchmarks[benchmark] = _describe_benchmark(base, tuned)
        for side, evaluation in (("base", base), ("tuned", tuned)):
            if evaluation is None:
                warnings.append(f"{benchmark}: no comparison, {side} has not been evaluated")
            else:
                warnings += warnings_of(benchmark, labels[side], evaluation)
        if base is not None and tuned is not None:
            benchmarks[benchmark] |= _compare_benchmark(base, tuned)
            warnings += warnings_between(benchmark, base, tuned, same_model=kind == "run")
    _give_verdicts([result for result in benchmarks.values() if "test" in result])
    # What makes the numbers meaningless comes before what makes them uncertain; each is said once.
    warnings = sorted(dict.fromkeys(warnings), key=lambda text: not text.startswith("CONTAMINATED"))
    return {"kind": kind, "labels": labels, "benchmarks": benchmarks, "warnings": warnings}


def _describe_benchmark(base: Evaluation | None, tuned: Evaluation | None) -> dict[str, Any]:
    """What each side shows on its own."""
    sides = {"base": base, "tuned": tuned}
    first = {name: side.first if side is not None else [] for name, side in sides.items()}
    n = max(len(first["base"]), len(first["tuned"]))
    return {
        "n": n,
        "samples_per_item": max(side.samples_per_item for side in sides.values() if side is not None),
        **{name: asdict(side.accuracy) if side is not None else None for name, side in sides.items()},
        **_at_k(sides),
        "lm_eval": {
            name: side.summary.get("lm_eval") if side is not None else None for name, side in sides.items()
        },
        "planned_detectable": plan_items([n])[0]["detectable"],
        "contamination": contamination([side for side in (tuned, base) if side is not None]),
        "by_steps": by_steps(first["base"], first["tuned"]),
        "errors": {name: describe(found) if found else None for name, found in first.items()},
        "analysis": analyse(first["base"], first["tuned"]),
    }


def _at_k(sides: dict[str, Evaluation | None]) -> dict[str, Any]:
    """pass@k and maj@k of each side; None for a side that was given one response to each item."""
    rows = {
        name: at_k(side.items, side.clusters) if side is not None and side.samples_per_item > 1 else None
        for name, side in sides.items()
    }
    return {
        name: {side: found[name] if found else None for side, found in rows.items()}
        for name in ("pass_at_k", "maj_at_k")
    }


def _compare_benchmark(base: Evaluation, tuned: Evaluation) -> dict[str, Any]:
    """What only the pair shows, but for the verdict."""
    table = transitions(*([each.correct for each in side.first] for side in (base, tuned)))
    ids = by_outcome(base.first, tuned.first)
    counts = (base.right, tuned.right, base.samples_per_item, base.clusters)
    change = effective_change(*counts)
    return {
        "difference": asdict(clustered_difference(*counts)),
        "newcombe": _newcombe(base, tuned),
        "mcnemar": {
            "p_value": mcnemar_exact(table.fixed, table.broken),
            "fixed": table.fixed,
            "broken": table.broken,
            "method": "exact",
        },
        "test": _test(base, tuned),
        "clustered": _clustered(base, tuned),
        "relative_improvement": relative_improvement(base.accuracy.value, tuned.accuracy.value),
        "smallest_detectable": detectable_before(round(change.n), change.discordant),
        "transitions": asdict(table),
        "examples": {name: ids[name][:EXAMPLES] for name in ("fixed", "broken")},
    }


def _test(base: Evaluation, tuned: Evaluation) -> dict[str, Any]:
    """The test that fits what is independent: groups, items with all their responses, or single responses."""
    if base.clusters.count < len(base.items):
        name = "exact sign-flip test over groups"
    elif base.samples_per_item > 1:
        name = "exact sign-flip test over items"
    else:
        table = transitions(base.correct, tuned.correct)
        return {"name": "exact McNemar test", "p": mcnemar_exact(table.fixed, table.broken)}
    return {"name": name, "p": sign_flip_test(base.right, tuned.right, base.clusters)}


def _newcombe(base: Evaluation, tuned: Evaluation) -> dict[str, float] | None:
    """Newcombe's interval, which papers often give; None where responses are not independent."""
    if base.clusters.count < len(base.samples):
        return None
    low, high = newcombe_paired(transitions(base.correct, tuned.correct))
    return {"low": low, "high": high}


def _clustered(base: Evaluation, tuned: Evaluation) -> dict[str, Any] | None:
    """The figures that groups of items call for; None when every item stands alone."""
    if base.clusters.count == len(base.items):
        return None
    counts = (base.right, tuned.right, base.samples_per_item, base.clusters)
    difference = clustered_difference(*counts)
    low, high = cluster_bootstrap(*counts, seed=BOOTSTRAP_SEED)
    return {
        "groups": base.clusters.count,
        "effective_items": effective_change(*counts).n,
        "method": "exact sign-flip test over groups",
        "p": sign_flip_test(base.right, tuned.right, base.clusters),
        "low": difference.low,
        "high": difference.high,
        "se": difference.se,
        "bootstrap": {"low": low, "high": high, "resamples": RESAMPLES, "seed": BOOTSTRAP_SEED},
    }


def _give_verdicts(results: list[dict[str, Any]]) -> None:
    """Add to each compared benchmark its p-value within the family of all, and the verdict that follows."""
    family = len(results)
    for result, p in zip(results, holm([result["test"]["p"] for result in results]), strict=True):
        name = result["test"]["name"]
        result["p_holm"] = p
        result["verdict"] = verdict(p, result["difference"]["value"])
        result["verdict_rests_on"] = f"{name}, Holm-corrected for {family} benchmarks" if family > 1 else name
