"""The variants of a sweep against one of them, on the same items, over all their seeds.

    items         1     2     3     4          three seeds: of each item's three answers, how many are right
    r=8           0     3     1     2          reference
    r=32          1     3     3     2          +0.25, an item with its three answers being one observation

    comparison = compare_variants("quickstart-rank", trained, reference="r=8")
    comparison["benchmarks"]["gsm8k"]["variants"][1]["verdict"]          # "better"

Intervals and tests are those of `compare`, with items (or groups of items) as what is independent. They
hold for these adapters on other items of the benchmark, and with many items find differences that another
training would not show. With several seeds a verdict therefore asks for a second test as well, a t test of
the differences over the seeds (`over_seeds`). Each kind of test is Holm-corrected over the whole sweep.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from statistics import mean, stdev
from typing import Any

from scipy.special import stdtr, stdtrit

from mathreason.analysis import format as fmt
from mathreason.analysis.clustered import (
    Clusters,
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
from mathreason.analysis.planning import SIGNIFICANCE, detectable_before
from mathreason.analysis.samples import Evaluation, load_evaluation
from mathreason.analysis.statistics import holm, verdict
from mathreason.errors import InputError
from mathreason.results import RunDir, read_json

NO_EVIDENCE = "no evidence of a difference"
UNSURE = "unclear over seeds"


@dataclass(frozen=True)
class Trained:
    """One run of a variant, and what makes it that: the values it changes, and its seed."""

    variant: str
    changes: dict[str, Any]
    seed: int
    run: RunDir


@dataclass(frozen=True)
class _Variant:
    """The finished evaluations of a variant on one benchmark, by seed."""

    name: str
    by_seed: dict[int, Evaluation]

    def pooled(self, seeds: Iterable[int] | None = None) -> Evaluation:
        """One evaluation with the responses of all `seeds` to each item; of all there are by default."""
        chosen = [self.by_seed[seed] for seed in (self.by_seed if seeds is None else seeds)]
        fallbacks = [text for each in chosen for text in each.summary.get("fallbacks") or []]
        marks = {"contamination": contamination(chosen), "fallbacks": list(dict.fromkeys(fallbacks))}
        samples = sorted((sample for each in chosen for sample in each.samples), key=lambda one: one.index)
        return Evaluation(chosen[0].path, chosen[0].summary | marks, samples)


def compare_variants(
    name: str, trained: Sequence[Trained], reference: str, same_prompts: bool = True
) -> dict[str, Any]:
    """Every variant against `reference` on every benchmark, as a JSON object.

    Runs that are not finished are left out and named in the warnings. Raises InputError when no run is
    finished, and when runs were not given the same items, limits, sampling or (with `same_prompts`) prompts.
    """
    names = list(dict.fromkeys(each.variant for each in trained))
    found = sorted({benchmark for each in trained for benchmark in each.run.benchmarks()})
    benchmarks: dict[str, Any] = {}
    warnings: list[str] = []
    for benchmark in found:
        variants = _load(benchmark, trained, names)
        if not any(each.by_seed for each in variants):
            continue
        warnings += _missing(benchmark, trained, variants)
        warnings += _check(benchmark, variants, reference, same_prompts)
        benchmarks[benchmark] = _benchmark(benchmark, trained, variants, reference)
    if not benchmarks:
        raise InputError(f"no run of {name} has a finished evaluation of its tuned model yet")
    _give_verdicts(benchmarks, reference)
    return {
        "kind": "sweep",
        "name": name,
        "reference": reference,
        "variants": {each: _facts([one for one in trained if one.variant == each]) for each in names},
        "benchmarks": benchmarks,
        "warnings": sorted(
            dict.fromkeys(warnings), key=lambda warning: not warning.startswith("CONTAMINATED")
        ),
    }


# -- reading and checking --------------------------------------------------------------------------


def _load(benchmark: str, trained: Sequence[Trained], names: Sequence[str]) -> list[_Variant]:
    variants = {name: _Variant(name, {}) for name in names}
    for each in trained:
        evaluation = load_evaluation(each.run, benchmark, "tuned")
        if evaluation is not None:
            variants[each.variant].by_seed[each.seed] = evaluation
    return list(variants.values())


def _missing(benchmark: str, trained: Sequence[Trained], variants: Sequence[_Variant]) -> list[str]:
    there = {(variant.name, seed) for variant in variants for seed in variant.by_seed}
    return [
        f"{benchmark}: {each.variant}, seed {each.seed} is not finished and left out ({each.run.id})"
        for each in trained
        if (each.variant, each.seed) not in there
    ]


def _check(benchmark: str, variants: Sequence[_Variant], reference: str, same_prompts: bool) -> list[str]:
    """Refuse what cannot be compared; what has to be said of the rest."""
    ordered = sorted(variants, key=lambda variant: variant.name != reference)
    evaluations = [found for variant in ordered for found in variant.by_seed.values()]
    said: list[str] = []
    for found in evaluations:
        require_comparable(benchmark, evaluations[0], found, same_prompts)
        said += warnings_between(benchmark, evaluations[0], found, same_model=False)
    for variant in ordered:
        if variant.by_seed:
            said += warnings_of(benchmark, variant.name, variant.pooled())
    prompts = {tuple(sample.prompt_sha256 for sample in found.first) for found in evaluations}
    if len(prompts) > 1:
        said.append(f"{benchmark}: the variants were given other prompts, as the sweep asks for")
    return said


# -- one benchmark ---------------------------------------------------------------------------------


def _benchmark(
    benchmark: str, trained: Sequence[Trained], variants: Sequence[_Variant], reference: str
) -> dict[str, Any]:
    anchor = next(found for variant in variants for found in variant.by_seed.values())
    compared_with = next(variant for variant in variants if variant.name == reference)
    clusters = anchor.clusters
    return {
        "n": len(anchor.items),
        "samples_per_item": anchor.samples_per_item,
        "groups": clusters.count if clusters.count < len(anchor.items) else None,
        "base": _bases(benchmark, trained),
        "variants": [_result(variant, compared_with) for variant in variants],
    }


def _bases(benchmark: str, trained: Sequence[Trained]) -> list[dict[str, Any]]:
    """The base models, each once: one, unless variants have other weights or prompts."""
    known: dict[str, tuple[Evaluation, list[Trained]]] = {}
    for each in trained:
        evaluation = load_evaluation(each.run, benchmark, "base")
        if evaluation is not None:
            known.setdefault(evaluation.summary["key"], (evaluation, []))[1].append(each)
    return [
        {
            "name": "base" if len(known) == 1 else f"base of {'; '.join(_names(runs))}",
            "runs": [each.run.id for each in runs],
            "evaluated_in": [each.run.id for each in runs if not _is_copy(each.run, benchmark)],
            "accuracy": asdict(evaluation.accuracy),
        }
        for evaluation, runs in known.values()
    ]


def _names(runs: Sequence[Trained]) -> list[str]:
    return list(dict.fromkeys(each.variant for each in runs))


def _is_copy(run: RunDir, benchmark: str) -> bool:
    return "copied_from" in read_json(run.evaluation(benchmark, "base"))


def _result(variant: _Variant, reference: _Variant) -> dict[str, Any]:
    result: dict[str, Any] = {
        "name": variant.name,
        "seeds": [
            {"seed": seed, "run": found.path.parents[2].name, "accuracy": asdict(found.accuracy)}
            for seed, found in variant.by_seed.items()
        ],
        "accuracy": None,
        "contaminated": False,
    }
    if not variant.by_seed:
        return result
    pooled = variant.pooled()
    values = [found.accuracy.value for found in variant.by_seed.values()]
    result["accuracy"] = asdict(pooled.accuracy)
    result["sd_over_seeds"] = stdev(values) if len(values) > 1 else None
    result["contaminated"] = not contamination([pooled]).get("clean")
    if variant is not reference and reference.by_seed:
        result |= _against(variant, reference)
    return result


def _against(variant: _Variant, reference: _Variant) -> dict[str, Any]:
    """What only the pair shows, over the seeds both have; if they share none, over as many as both have."""
    shared = [seed for seed in reference.by_seed if seed in variant.by_seed]
    most = min(len(reference.by_seed), len(variant.by_seed))
    ours, theirs = (shared or list(side.by_seed)[:most] for side in (variant, reference))
    before, after = reference.pooled(theirs), variant.pooled(ours)
    counts = (before.right, after.right, after.samples_per_item, after.clusters)
    change = effective_change(*counts)
    by_seed = [
        variant.by_seed[one].accuracy.value - reference.by_seed[other].accuracy.value
        for one, other in zip(ours, theirs, strict=True)
    ]
    return {
        "seeds_compared": ours,
        "difference": asdict(clustered_difference(*counts)),
        "differences_by_seed": by_seed,
        "over_seeds": seed_test(by_seed),
        "test": {
            "name": _test_name(after.samples_per_item, after.clusters),
            "p": sign_flip_test(before.right, after.right, after.clusters),
        },
        "smallest_detectable": detectable_before(round(change.n), change.discordant),
    }


def seed_test(differences: Sequence[float]) -> dict[str, float] | None:
    """t test and 95 % interval of the mean difference from its spread over seeds: what new trainings give.

    Student 1908 (Biometrika 6:1), with little power for two or three seeds. None where they show no spread.
    """
    n = len(differences)
    if n < 2 or not (spread := stdev(differences)):
        return None
    value, se = mean(differences), spread / sqrt(n)
    half = float(stdtrit(n - 1, 0.975)) * se
    p = 2 * float(stdtr(n - 1, -abs(value) / se))
    return {"low": value - half, "high": value + half, "p": p}


def _test_name(samples: int, clusters: Clusters) -> str:
    if clusters.count < len(clusters.labels):
        return "exact sign-flip test over groups"
    return "exact sign-flip test over items" if samples > 1 else "exact McNemar test"


# -- the verdicts ----------------------------------------------------------------------------------


def _give_verdicts(benchmarks: dict[str, Any], reference: str) -> None:
    """Add to each comparison its p-values within the family of all, the verdict, and that in plain words."""
    results = [each for found in benchmarks.values() for each in found["variants"]]
    compared = [each for each in results if "test" in each]
    seeded = [each["over_seeds"] for each in compared if each["over_seeds"]]
    for over_seeds, p in zip(seeded, holm([each["p"] for each in seeded]), strict=True):
        over_seeds["p_holm"] = p
    for result, p in zip(compared, holm([each["test"]["p"] for each in compared]), strict=True):
        result["p_holm"] = p
        found: str = verdict(p, result["difference"]["value"])
        sure = not result["over_seeds"] or result["over_seeds"]["p_holm"] < SIGNIFICANCE
        result["verdict"] = found if sure or found == NO_EVIDENCE else UNSURE
    for result in results:
        words = _words(result, reference)
        result["in_words"] = f"CONTAMINATED: {words}" if result["contaminated"] else words


def _words(result: dict[str, Any], reference: str) -> str:
    if result["name"] == reference:
        return "reference"
    if "verdict" not in result:
        return "not compared" if result["accuracy"] else "not finished"
    if result["verdict"] == NO_EVIDENCE:
        missed = result["smallest_detectable"]
        rest = f"; one below {100 * missed:.1f} points would often be missed" if missed else ""
        return f"{NO_EVIDENCE}{rest}"
    value = result["difference"]["value"]
    size = f"{fmt.points(abs(value)).lstrip('+')} points"
    seeds = [each * value > 0 for each in result["differences_by_seed"]]
    agree = f"with {sum(seeds)} of {len(seeds)} seeds" if len(seeds) > 1 else "with one seed"
    over_seeds = result["over_seeds"]
    if result["verdict"] == UNSURE:
        better = "better" if value > 0 else "worse"
        return (
            f"{UNSURE}: these adapters are {better} by {size}, {agree}; from the seeds alone "
            f"{fmt.point_bounds(over_seeds)}, Holm's p {fmt.p_value(over_seeds['p_holm'])}"
        )
    rest = f"; from the seeds alone {fmt.point_bounds(over_seeds)}" if over_seeds else ""
    return f"{result['verdict']} than {reference} by {size}, {agree}{rest}"


# -- what a variant costs --------------------------------------------------------------------------


def _facts(runs: Sequence[Trained]) -> dict[str, Any]:
    """What a variant changes, and what its training took: parameters, speed (mean), memory (highest)."""
    documents = [read_json(each.run.train) for each in runs if each.run.train.is_file()]

    def all_of(key: str) -> list[Any]:
        return [document[key] for document in documents if document.get(key) is not None]

    speeds = all_of("total_tokens_per_second")
    return {
        "changes": runs[0].changes,
        "runs": {str(each.seed): each.run.id for each in runs},
        "trainable_parameters": max(all_of("trainable_parameters"), default=None),
        "tokens_per_second": mean(speeds) if speeds else None,
        "peak_memory_bytes": max(all_of("peak_memory_bytes"), default=None),
    }
