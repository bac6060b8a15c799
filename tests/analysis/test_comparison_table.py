from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from evaluations import answer_again, change_summary, put_in_groups
from rich.console import Console

from mathreason.analysis.compare import compare_run, compare_runs, comparison_table
from mathreason.results import RunDir

BuildRun = Callable[..., RunDir]


def printed(comparison: dict[str, Any], width: int = 200) -> str:
    console = Console(width=width, record=True, file=StringIO())
    console.print(comparison_table(comparison))
    return console.export_text()


def test_the_table_shows_every_number_with_its_interval(build_run: BuildRun) -> None:
    comparison = compare_run(build_run("gsm8k", n=300))
    result = comparison["benchmarks"]["gsm8k"]
    text = printed(comparison)
    for side in ("base", "tuned"):
        accuracy = {end: 100 * result[side][end] for end in ("value", "low", "high")}
        assert "{value:.1f} ".format(**accuracy) in text
        assert "[{low:.1f}, {high:.1f}]".format(**accuracy) in text
    difference = {end: 100 * result["difference"][end] for end in ("value", "low", "high")}
    assert "{value:+.1f} ".format(**difference) in text
    assert "[{low:.1f}, {high:.1f}]".format(**difference) in text
    assert f"{result['mcnemar']['fixed']}/{result['mcnemar']['broken']}" in text
    assert "gsm8k: better" in text
    assert "cut off" in text
    assert "exact McNemar test on the same items" in text
    assert "Holm" not in text


def test_the_verdict_says_what_could_not_have_been_seen(build_run: BuildRun) -> None:
    comparison = compare_run(build_run("gsm8k", n=200, base_rate=0.5, tuned_rate=0.5))
    result = comparison["benchmarks"]["gsm8k"]
    points = f"{100 * result['smallest_detectable']:.1f}"
    expected = f"no evidence of a difference; one below {points} points would often be missed"
    assert expected in printed(comparison)


def test_several_benchmarks_show_both_p_values(build_run: BuildRun) -> None:
    comparison = compare_run(build_run("gsm8k", "svamp", n=100, base_rate=0.4, tuned_rate=0.55))
    for result in comparison["benchmarks"].values():
        result["test"]["p"], result["p_holm"] = 0.012, 0.024
    text = printed(comparison)
    assert "Holm p" in text
    assert text.count("0.012") == text.count("0.024") == 2
    assert "Verdicts rest on Holm's p" in text


def test_groups_and_the_other_harness_are_mentioned(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=100)
    put_in_groups(run, 4)
    scores = {"strict": {"value": 0.25}, "flexible": {"value": 0.5}}
    change_summary(run, "tuned", lambda each: each.update(lm_eval=scores))
    text = printed(compare_run(run))
    assert "sign-flip test over groups" in text
    assert "Items of one group count as one observation" in text
    assert "gsm8k as lm-evaluation-harness grades it: tuned strict 25.0 %, flexible 50.0 %" in text


def test_several_responses_show_pass_and_majority(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=100)
    answer_again(run, 4)
    comparison = compare_run(run)
    text = printed(comparison)
    for name in ("pass_at_k", "maj_at_k"):
        for side in ("base", "tuned"):
            for row in comparison["benchmarks"]["gsm8k"][name][side]:
                assert f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}]" in text
    assert "base pass@k" in text
    run.evaluation("gsm8k", "base").unlink()
    assert "tuned maj@k" in printed(compare_run(run))


def test_what_is_not_compared_says_so(build_run: BuildRun) -> None:
    comparison = compare_run(build_run("gsm8k", n=120, variants=("base",)))
    assert "gsm8k: not compared" in printed(comparison)


def test_two_runs_are_called_by_their_names(build_run: BuildRun) -> None:
    a, b = build_run("gsm8k", n=150, name="a"), build_run("gsm8k", n=150, tuned_rate=0.7, name="b")
    text = printed(compare_runs(a, b))
    assert "a %" in text
    assert "b %" in text


@pytest.mark.parametrize("samples", [1, 4])
def test_the_table_fits_a_terminal_of_80_columns(build_run: BuildRun, samples: int) -> None:
    run = build_run("generator", "gsm8k_platinum", n=300)
    for benchmark in run.benchmarks():
        if samples > 1:
            answer_again(run, samples, benchmark)
    comparison = compare_run(run)
    text = printed(comparison, width=80)
    assert "…" not in text
    assert "difference" in text
    assert "generator " in text
    for accuracy in (each[side] for each in comparison["benchmarks"].values() for side in ("base", "tuned")):
        assert f"[{100 * accuracy['low']:.1f}, {100 * accuracy['high']:.1f}]" in text
    assert max(map(len, text.splitlines())) <= 80


def test_contamination_stands_out(build_run: BuildRun) -> None:
    assert "CONTAMINATED" in printed(compare_run(build_run("gsm8k", n=20, clean=False)))


def test_names_are_not_read_as_markup(build_run: BuildRun) -> None:
    assert "[bold]x" in printed(compare_run(build_run("[bold]x", n=20)))
