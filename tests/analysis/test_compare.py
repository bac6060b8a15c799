from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from evaluations import answer_again, change_samples, change_summary, put_in_groups, rows_of

from mathreason.analysis.clustered import cluster_bootstrap, clustered_difference, sign_flip_test
from mathreason.analysis.compare import compare_run, compare_runs, write_comparison
from mathreason.analysis.planning import detectable_before
from mathreason.analysis.samples import Evaluation, load_evaluation
from mathreason.analysis.sampling import at_k
from mathreason.analysis.statistics import (
    holm,
    mcnemar_exact,
    newcombe_paired,
    paired_difference,
    transitions,
    wilson,
)
from mathreason.errors import InputError, MathreasonError
from mathreason.results import RunDir, read_json

BuildRun = Callable[..., RunDir]


def both_sides(run: RunDir, benchmark: str = "gsm8k") -> tuple[Evaluation, Evaluation]:
    base, tuned = (load_evaluation(run, benchmark, variant) for variant in ("base", "tuned"))
    assert base is not None
    assert tuned is not None
    return base, tuned


def test_the_comparison_counts_what_the_samples_hold(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=250)
    base, tuned = rows_of(run, "base"), rows_of(run, "tuned")
    pairs = [(before["correct"], after["correct"]) for before, after in zip(base, tuned, strict=True)]
    result = compare_run(run)["benchmarks"]["gsm8k"]
    fixed, broken = pairs.count((False, True)), pairs.count((True, False))
    assert result["transitions"] == {
        "both": pairs.count((True, True)),
        "fixed": fixed,
        "broken": broken,
        "neither": pairs.count((False, False)),
    }
    assert result["mcnemar"] == {
        "p_value": mcnemar_exact(fixed, broken),
        "fixed": fixed,
        "broken": broken,
        "method": "exact",
    }
    assert (result["n"], result["samples_per_item"]) == (250, 1)
    difference = paired_difference(*zip(*pairs, strict=True))
    assert result["difference"]["value"] == pytest.approx((fixed - broken) / 250)
    assert (result["difference"]["low"], result["difference"]["high"]) == (difference.low, difference.high)
    newcombe = newcombe_paired(transitions(*zip(*pairs, strict=True)))
    assert (result["newcombe"]["low"], result["newcombe"]["high"]) == newcombe
    assert result["base"]["low"] == wilson(sum(row["correct"] for row in base), 250).low
    assert result["smallest_detectable"] == pytest.approx(detectable_before(250, (fixed + broken) / 250))
    assert {"discordant": 0.2, "difference": detectable_before(250, 0.2)} in result["planned_detectable"]
    assert sum(row["n"] for row in result["by_steps"]) == 250
    assert (
        result["examples"]["fixed"]
        == [row["id"] for row, pair in zip(base, pairs, strict=True) if pair == (False, True)][:5]
    )


def test_the_verdict_on_one_benchmark_rests_on_mcnemar(build_run: BuildRun) -> None:
    result = compare_run(build_run("gsm8k", n=250))["benchmarks"]["gsm8k"]
    assert result["test"] == {"name": "exact McNemar test", "p": result["mcnemar"]["p_value"]}
    assert result["p_holm"] == result["test"]["p"]
    assert result["verdict"] == "better"
    assert result["verdict_rests_on"] == "exact McNemar test"
    assert result["clustered"] is None
    assert result["pass_at_k"] == result["maj_at_k"] == {"base": None, "tuned": None}


def test_the_comparison_is_written_as_a_result(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=40)
    written = write_comparison(run)
    document = read_json(run.comparison)
    assert document["benchmarks"] == written["benchmarks"] == compare_run(run)["benchmarks"]
    assert document["schema_version"] == 1
    assert "versions" in document["provenance"]


def test_scores_for_lists_are_never_those_of_another_comparison(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=40)
    comparison = write_comparison(run)["benchmarks"]["gsm8k"]
    scores = read_json(run.scores)["benchmarks"]["gsm8k"]
    assert scores["n"] == 40
    assert scores["tuned"]["value"] == comparison["tuned"]["value"]
    run.comparison.unlink()
    run.comparison.mkdir()  # which no file can replace
    with pytest.raises(MathreasonError):
        write_comparison(run)
    assert not run.scores.exists()


def test_samples_of_earlier_settings_are_not_counted(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=20)
    before = compare_run(run)
    change_samples(run, "tuned", lambda rows: rows.insert(0, rows[0] | {"key": "other", "correct": True}))
    assert compare_run(run) == before


def test_one_side_alone_is_described_and_said_to_be_alone(build_run: BuildRun) -> None:
    for variants, missing in ((("base",), "tuned"), (("tuned",), "base")):
        comparison = compare_run(build_run("gsm8k", n=120, variants=variants, name=missing))
        result = comparison["benchmarks"]["gsm8k"]
        assert result[variants[0]]["n"] == 120
        assert result[missing] is None
        assert "difference" not in result
        assert "verdict" not in result
        assert f"gsm8k: no comparison, {missing} has not been evaluated" in comparison["warnings"]


def test_an_unfinished_evaluation_counts_as_none(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=20)
    run.evaluation("gsm8k", "tuned").unlink()
    assert compare_run(run)["benchmarks"]["gsm8k"]["tuned"] is None
    run.evaluation("gsm8k", "base").unlink()
    with pytest.raises(InputError, match="no finished evaluation"):
        compare_run(run)


def test_two_runs_are_compared_by_their_tuned_models(build_run: BuildRun) -> None:
    a = build_run("gsm8k", "svamp", n=150, tuned_rate=0.2, name="a")
    b = build_run("gsm8k", n=150, tuned_rate=0.7, name="b")
    comparison = compare_runs(a, b)
    assert comparison["labels"] == {"base": "a", "tuned": "b"}
    assert list(comparison["benchmarks"]) == ["gsm8k"]
    result = comparison["benchmarks"]["gsm8k"]
    assert result["base"] == compare_run(a)["benchmarks"]["gsm8k"]["tuned"]
    assert result["tuned"] == compare_run(b)["benchmarks"]["gsm8k"]["tuned"]
    assert "svamp: not compared, b has no tuned evaluation" in comparison["warnings"]


# -- several benchmarks ----------------------------------------------------------------------------


def let_outcomes_be(run: RunDir, benchmark: str, fixed: int, broken: int) -> None:
    """The first items are fixed, the next broken, all others wrong with both."""
    for variant, right in (("base", range(fixed, fixed + broken)), ("tuned", range(fixed))):
        change_samples(
            run,
            variant,
            lambda rows, right=right: [row.update(correct=row["index"] in right) for row in rows],
            benchmark,
        )
        change_summary(
            run, variant, lambda each, right=right: each["accuracy"].update(correct=len(right)), benchmark
        )


def test_with_several_benchmarks_the_verdict_rests_on_holms_p(build_run: BuildRun) -> None:
    names = ("asdiv", "gsm8k", "svamp")
    run = build_run(*names, n=100)
    for name, fixed, broken in zip(names, (12, 10, 3), (3, 2, 20), strict=True):
        let_outcomes_be(run, name, fixed, broken)
    results = compare_run(run)["benchmarks"]
    p_values = [mcnemar_exact(12, 3), mcnemar_exact(10, 2), mcnemar_exact(3, 20)]
    assert [results[name]["test"]["p"] for name in names] == p_values
    assert [results[name]["p_holm"] for name in names] == holm(p_values)
    # 12 against 3 is p = 0.035 and 10 against 2 is p = 0.039: enough alone, not among three.
    assert [results[name]["verdict"] for name in names] == [
        "no evidence of a difference",
        "no evidence of a difference",
        "worse",
    ]
    assert results["gsm8k"]["verdict_rests_on"] == "exact McNemar test, Holm-corrected for 3 benchmarks"


def test_a_benchmark_that_is_not_compared_does_not_count_in_the_correction(build_run: BuildRun) -> None:
    run = build_run("gsm8k", "svamp", n=100)
    let_outcomes_be(run, "gsm8k", 9, 1)
    let_outcomes_be(run, "svamp", 3, 2)
    assert compare_run(run)["benchmarks"]["gsm8k"]["p_holm"] == pytest.approx(2 * mcnemar_exact(9, 1))
    run.evaluation("svamp", "base").unlink()
    result = compare_run(run)["benchmarks"]["gsm8k"]
    assert result["p_holm"] == mcnemar_exact(9, 1)
    assert result["verdict"] == "better"


# -- groups ----------------------------------------------------------------------------------------


def test_items_in_groups_are_judged_by_their_groups(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=120)
    let_outcomes_be(run, "gsm8k", 10, 1)
    alone = compare_run(run)["benchmarks"]["gsm8k"]
    assert alone["verdict"] == "better"
    put_in_groups(run, 5)
    base, tuned = both_sides(run)
    result = compare_run(run)["benchmarks"]["gsm8k"]
    # The ten fixed items are two texts: of 2³ sign patterns of three groups that changed, six are as large.
    assert result["test"]["name"] == result["verdict_rests_on"] == "exact sign-flip test over groups"
    assert result["test"]["p"] == pytest.approx(sign_flip_test(base.right, tuned.right, base.clusters))
    assert result["test"]["p"] == pytest.approx(0.5)
    assert result["verdict"] == "no evidence of a difference"
    assert result["mcnemar"] == alone["mcnemar"]
    assert result["newcombe"] is None
    clustered, difference = result["clustered"], result["difference"]
    assert clustered["groups"] == 24
    assert clustered["p"] == result["test"]["p"]
    for name in ("low", "high", "se"):
        assert clustered[name] == difference[name]
    assert difference["low"] < alone["difference"]["low"]
    assert clustered["effective_items"] < 60
    low, high = cluster_bootstrap(
        base.right, tuned.right, 1, base.clusters, seed=clustered["bootstrap"]["seed"]
    )
    assert (clustered["bootstrap"]["low"], clustered["bootstrap"]["high"]) == (low, high)
    # So few independent items could not show anything at all.
    assert alone["smallest_detectable"] is not None
    assert result["smallest_detectable"] is None


# -- several responses -----------------------------------------------------------------------------


def test_several_responses_are_judged_by_their_items(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=120)
    first = compare_run(run)["benchmarks"]["gsm8k"]
    answer_again(run, 4)
    base, tuned = both_sides(run)
    result = compare_run(run)["benchmarks"]["gsm8k"]
    assert (result["n"], result["samples_per_item"], result["base"]["n"]) == (120, 4, 480)
    assert result["test"]["name"] == "exact sign-flip test over items"
    assert result["test"]["p"] == sign_flip_test(base.right, tuned.right, base.clusters)
    difference = clustered_difference(base.right, tuned.right, 4, base.clusters)
    assert (result["difference"]["low"], result["difference"]["high"]) == (difference.low, difference.high)
    assert result["difference"]["value"] == pytest.approx((sum(tuned.right) - sum(base.right)) / 480)
    for side, evaluation in (("base", base), ("tuned", tuned)):
        rows = at_k(evaluation.items, evaluation.clusters)
        assert result["pass_at_k"][side] == rows["pass_at_k"]
        assert result["maj_at_k"][side] == rows["maj_at_k"]
    # What is told of single responses is told of the first.
    for name in ("transitions", "mcnemar", "by_steps", "errors", "examples", "analysis"):
        assert result[name] == first[name]
    assert json.loads(json.dumps(result)) == result


# -- other harness ---------------------------------------------------------------------------------


def test_scores_as_lm_eval_has_them_stand_beside_our_own(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=100)
    assert compare_run(run)["benchmarks"]["gsm8k"]["lm_eval"] == {"base": None, "tuned": None}
    scores = {"strict": {"value": 0.25}, "flexible": {"value": 0.5}}
    change_summary(run, "tuned", lambda each: each.update(lm_eval=scores))
    assert compare_run(run)["benchmarks"]["gsm8k"]["lm_eval"] == {"base": None, "tuned": scores}
