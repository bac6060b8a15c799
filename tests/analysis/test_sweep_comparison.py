"""Variants of a sweep against a reference: pooled over seeds, paired over items, corrected."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluations import change_samples, change_summary, put_in_groups, recount, rows_of

from mathreason.analysis.clustered import (
    cluster_items,
    clustered_accuracy,
    clustered_difference,
    sign_flip_test,
)
from mathreason.analysis.compare import compare_runs
from mathreason.analysis.statistics import holm
from mathreason.analysis.sweep_comparison import Trained, compare_variants, seed_test
from mathreason.errors import InputError
from mathreason.results import RunDir

BuildRun = Callable[..., RunDir]
BuildSweep = Callable[..., list[Trained]]

RATES = {"r=8": 0.40, "r=16": 0.41, "r=32": 0.65}


@pytest.fixture
def build_sweep(build_run: BuildRun) -> BuildSweep:
    """A function that writes runs of some variants with some seeds, whose responses are drawn anew."""

    def build(
        rates: dict[str, float] = RATES, seeds: tuple[int, ...] = (1, 2, 3), n: int = 150
    ) -> list[Trained]:
        trained = []
        for variant, rate in rates.items():
            for seed in seeds:
                run = build_run("gsm8k", n=n, name=f"{variant}-{seed}")
                rng = random.Random(f"{variant}/{seed}")
                change_samples(run, "tuned", lambda rows, rng=rng, rate=rate: redraw(rows, rng, rate))
                recount(run, "tuned")
                trained.append(Trained(variant, {"lora.r": int(variant[2:])}, seed, run))
        return trained

    return build


def redraw(rows: list[dict[str, Any]], rng: random.Random, rate: float) -> None:
    """Half of an item's chance is the item's own, so that seeds agree more than chance would have them."""
    for row in rows:
        hard = random.Random(row["id"]).random()
        row["correct"] = (hard + rng.random()) / 2 < rate


def counts(trained: list[Trained], variant: str) -> list[int]:
    rows = [rows_of(each.run, "tuned") for each in trained if each.variant == variant]
    return [sum(row["correct"] for row in item) for item in zip(*rows, strict=True)]


def of(comparison: dict[str, Any], variant: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        each for each in comparison["benchmarks"]["gsm8k"]["variants"] if each["name"] == variant
    )
    return found


def test_seeds_are_pooled_with_items_as_what_is_independent(build_sweep: BuildSweep) -> None:
    trained = build_sweep()
    comparison = compare_variants("sweep", trained, "r=8")
    clusters = cluster_items([None] * 150)
    before = counts(trained, "r=8")
    for variant in ("r=16", "r=32"):
        found, after = of(comparison, variant), counts(trained, variant)
        accuracy = clustered_accuracy(after, 3, clusters)
        assert (found["accuracy"]["value"], found["accuracy"]["low"]) == (accuracy.value, accuracy.low)
        difference = clustered_difference(before, after, 3, clusters)
        assert found["difference"]["value"] == pytest.approx((sum(after) - sum(before)) / 450)
        assert (found["difference"]["low"], found["difference"]["high"]) == (difference.low, difference.high)
        assert found["test"] == {
            "name": "exact sign-flip test over items",
            "p": sign_flip_test(before, after, clusters),
        }
        values = [seed["accuracy"]["value"] for seed in found["seeds"]]
        assert sum(values) / 3 == pytest.approx(found["accuracy"]["value"])
        assert found["sd_over_seeds"] > 0
    assert of(comparison, "r=8")["in_words"] == "reference"
    assert "no evidence of a difference; one below" in of(comparison, "r=16")["in_words"]
    assert of(comparison, "r=32")["in_words"].startswith("better than r=8 by ")
    assert ", with 3 of 3 seeds; from the seeds alone [" in of(comparison, "r=32")["in_words"]


def test_test_over_seeds_is_student_s() -> None:
    from scipy.stats import ttest_1samp

    differences = [0.02, 0.05, 0.035]
    wanted = ttest_1samp(differences, 0)
    interval = wanted.confidence_interval()
    assert seed_test(differences) == pytest.approx(
        {"low": interval.low, "high": interval.high, "p": wanted.pvalue}
    )
    assert seed_test([-each for each in differences])["p"] == pytest.approx(wanted.pvalue)  # type: ignore[index]
    assert seed_test([0.02]) is None
    assert seed_test([0.02, 0.02]) is None


def test_difference_of_one_lucky_seed_is_no_verdict_on_the_variant(build_sweep: BuildSweep) -> None:
    trained = build_sweep({"r=8": 0.4, "r=32": 0.4})
    change_samples(trained[5].run, "tuned", lambda rows: [row.update(correct=True) for row in rows])
    recount(trained[5].run, "tuned")
    found = of(compare_variants("sweep", trained, "r=8"), "r=32")
    assert found["p_holm"] < 0.001
    assert found["over_seeds"]["p_holm"] == found["over_seeds"]["p"] > 0.05
    assert found["verdict"] == "unclear over seeds"
    assert "unclear over seeds: these adapters are better by" in found["in_words"]


def test_what_many_seeds_say_against_themselves_is_said_once(build_sweep: BuildSweep) -> None:
    trained = build_sweep({"r=8": 0.4})
    for each in trained:
        change_samples(
            each.run, "tuned", lambda rows: [row.update(truncated=row["index"] < 50) for row in rows]
        )
    warnings = compare_variants("sweep", trained, "r=8")["warnings"]
    assert [each for each in warnings if "cut off" in each] == [
        "gsm8k: 150 of 450 r=8 responses were cut off at 256 tokens; raise max_new_tokens"
    ]


def test_p_values_are_corrected_over_the_variants(build_sweep: BuildSweep) -> None:
    comparison = compare_variants("sweep", build_sweep(), "r=16")
    tested = [of(comparison, variant) for variant in ("r=8", "r=32")]
    assert [each["p_holm"] for each in tested] == holm([each["test"]["p"] for each in tested])
    assert "p_holm" not in of(comparison, "r=16")


def test_one_seed_is_the_comparison_of_two_runs(build_sweep: BuildSweep) -> None:
    trained = build_sweep({"r=8": 0.4, "r=16": 0.5}, seeds=(1,))
    found = of(compare_variants("sweep", trained, "r=8"), "r=16")
    plain = compare_runs(trained[0].run, trained[1].run)["benchmarks"]["gsm8k"]
    assert found["difference"] == plain["difference"]
    assert found["test"]["name"] == plain["test"]["name"] == "exact McNemar test"
    assert found["test"]["p"] == pytest.approx(plain["test"]["p"])
    assert (found["accuracy"], found["verdict"]) == (plain["tuned"], plain["verdict"])


def test_groups_of_items_are_what_is_independent(build_sweep: BuildSweep) -> None:
    trained = build_sweep()
    for each in trained:
        put_in_groups(each.run, 5)
    comparison = compare_variants("sweep", trained, "r=8")
    assert comparison["benchmarks"]["gsm8k"]["groups"] == 30
    assert of(comparison, "r=32")["test"]["name"] == "exact sign-flip test over groups"


def test_base_is_a_line_of_its_own_for_each_evaluation_of_it(build_sweep: BuildSweep) -> None:
    trained = build_sweep()
    for each in trained[1:]:
        change_summary(each.run, "base", lambda one: one.update(copied_from={"run": trained[0].run.id}))
    [base] = compare_variants("sweep", trained, "r=8")["benchmarks"]["gsm8k"]["base"]
    assert base["name"] == "base"
    assert base["evaluated_in"] == [trained[0].run.id]
    assert len(base["runs"]) == 9
    for each in trained[3:6]:
        change_summary(each.run, "base", lambda one: one.update(key="other"))
        change_samples(each.run, "base", lambda rows: [row.update(key="other") for row in rows])
    bases = compare_variants("sweep", trained, "r=8")["benchmarks"]["gsm8k"]["base"]
    assert [each["name"] for each in bases] == ["base of r=8; r=32", "base of r=16"]


def test_runs_that_are_not_finished_are_left_out_and_named(build_sweep: BuildSweep) -> None:
    trained = build_sweep()
    trained[4].run.evaluation("gsm8k", "tuned").unlink()  # r=16, seed 2
    for each in trained[6:]:
        each.run.evaluation("gsm8k", "tuned").unlink()
    comparison = compare_variants("sweep", trained, "r=8")
    assert of(comparison, "r=16")["seeds_compared"] == [1, 3]
    before, after = (
        sum(counts([each for each in trained[:6] if each.seed != 2], variant)) for variant in ("r=8", "r=16")
    )
    assert of(comparison, "r=16")["difference"]["value"] == pytest.approx((after - before) / 300)
    assert of(comparison, "r=32")["in_words"] == "not finished"
    assert any("r=16, seed 2 is not finished and left out" in warning for warning in comparison["warnings"])
    for each in trained[:6]:
        each.run.evaluation("gsm8k", "tuned").unlink(missing_ok=True)
    with pytest.raises(InputError, match="no run of sweep has a finished evaluation"):
        compare_variants("sweep", trained, "r=8")


def test_contaminated_variant_is_marked(build_sweep: BuildSweep) -> None:
    trained = build_sweep()
    mark = {"clean": False, "marked": ["a"], "note": "12 rows are items of gsm8k"}
    change_summary(trained[7].run, "tuned", lambda each: each.update(contamination=mark))
    comparison = compare_variants("sweep", trained, "r=8")
    assert of(comparison, "r=32")["in_words"].startswith("CONTAMINATED: better")
    assert not of(comparison, "r=16")["contaminated"]
    assert comparison["warnings"][0].startswith("CONTAMINATED: gsm8k")


REFUSALS: dict[str, tuple[Callable[[RunDir], object], str]] = {
    "items": (
        lambda run: change_summary(run, "tuned", lambda each: each.update(items_sha256="f")),
        "items differ",
    ),
    "prompts": (
        lambda run: change_samples(run, "tuned", lambda rows: rows[3].update(prompt_sha256="f")),
        "prompts of item gsm8k/test/3 differ",
    ),
    "limits": (
        lambda run: change_summary(run, "tuned", lambda each: each["settings"].update(max_new_tokens=512)),
        "max_new_tokens is 256 against 512",
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_runs_that_cannot_be_compared_are_refused(build_sweep: BuildSweep, what: str) -> None:
    trained = build_sweep(seeds=(1,), n=20)
    change, said = REFUSALS[what]
    change(trained[2].run)
    with pytest.raises(InputError, match=said):
        compare_variants("sweep", trained, "r=8")


def test_prompts_may_differ_where_the_sweep_asks_for_it(build_sweep: BuildSweep) -> None:
    trained = build_sweep(seeds=(1,), n=20)
    REFUSALS["prompts"][0](trained[2].run)
    comparison = compare_variants("sweep", trained, "r=8", same_prompts=False)
    assert "gsm8k: the variants were given other prompts, as the sweep asks for" in comparison["warnings"]


def test_costs_are_those_of_the_trainings(build_sweep: BuildSweep, tmp_path: Path) -> None:
    trained = build_sweep({"r=8": 0.4}, seeds=(1, 2))
    (tmp_path / "r=8-2" / "train.json").write_text(
        '{"total_tokens_per_second": 1000.3, "peak_memory_bytes": 5}'
    )
    facts = compare_variants("sweep", trained, "r=8")["variants"]["r=8"]
    assert facts["tokens_per_second"] == pytest.approx((9001.7 + 1000.3) / 2)
    assert (facts["peak_memory_bytes"], facts["trainable_parameters"]) == (9_876_543_210, 25_231_360)
