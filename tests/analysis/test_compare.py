from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from mathreason.analysis.compare import compare_run, compare_runs, comparison_table, write_comparison
from mathreason.analysis.statistics import mcnemar_exact, wilson
from mathreason.errors import InputError
from mathreason.results import RunDir, read_json

BuildRun = Callable[..., RunDir]


def change_summary(run: RunDir, variant: str, change: Callable[[dict[str, Any]], object]) -> None:
    path = run.evaluation("gsm8k", variant)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def change_samples(run: RunDir, variant: str, change: Callable[[list[dict[str, Any]]], object]) -> None:
    path = run.samples("gsm8k", variant)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows_of(run: RunDir, variant: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.samples("gsm8k", variant).read_text().splitlines()]


def printed(comparison: dict[str, Any]) -> str:
    console = Console(width=200, record=True, file=StringIO())
    console.print(comparison_table(comparison))
    return console.export_text()


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
    assert result["n"] == 250
    assert result["difference"]["value"] == pytest.approx((fixed - broken) / 250)
    assert result["difference"]["low"] < result["difference"]["value"] < result["difference"]["high"]
    assert result["base"]["low"] == wilson(sum(row["correct"] for row in base), 250).low
    assert result["verdict"] == "better"
    assert sum(row["n"] for row in result["by_steps"]) == 250
    assert (
        result["examples"]["fixed"]
        == [row["id"] for row, pair in zip(base, pairs, strict=True) if pair == (False, True)][:5]
    )


def test_the_comparison_is_written_as_a_result(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=40)
    written = write_comparison(run)
    document = read_json(run.comparison)
    assert document["benchmarks"] == written["benchmarks"] == compare_run(run)["benchmarks"]
    assert document["schema_version"] == 1
    assert "versions" in document["provenance"]


REFUSALS: list[tuple[str, Callable[[RunDir], object], str]] = [
    (
        "items",
        lambda run: change_summary(run, "tuned", lambda each: each.update(items_sha256="ff")),
        "items differ",
    ),
    (
        "ids",
        lambda run: change_samples(run, "tuned", lambda rows: rows[3].update(id="gsm8k/test/999")),
        "gsm8k/test/999",
    ),
    (
        "prompts",
        lambda run: change_samples(run, "tuned", lambda rows: rows[3].update(prompt_sha256="ff")),
        "prompts of item gsm8k/test/3 differ",
    ),
    (
        "token limits",
        lambda run: change_summary(run, "tuned", lambda each: each["settings"].update(max_new_tokens=512)),
        "max_new_tokens is 256 against 512",
    ),
    (
        "stops",
        lambda run: change_summary(run, "tuned", lambda each: each["settings"].update(stop=[])),
        "stop is",
    ),
    (
        "summary and samples",
        lambda run: change_samples(run, "tuned", lambda rows: rows.pop()),
        "its samples say",
    ),
    (
        "an item twice",
        lambda run: change_samples(run, "tuned", lambda rows: rows.append(rows[0])),
        "twice",
    ),
    (
        "a missing field",
        lambda run: change_samples(run, "base", lambda rows: rows[7].pop("response")),
        "base.samples.jsonl:8: 'response'",
    ),
    (
        "a number for a truth value",
        lambda run: change_samples(run, "base", lambda rows: rows[7].update(correct=1)),
        "base.samples.jsonl:8: 'correct'",
    ),
]


@pytest.mark.parametrize(("change", "message"), [each[1:] for each in REFUSALS], ids=[r[0] for r in REFUSALS])
def test_evaluations_that_differ_are_refused(
    build_run: BuildRun, change: Callable[[RunDir], object], message: str
) -> None:
    run = build_run("gsm8k", n=20)
    compare_run(run)
    change(run)
    with pytest.raises(InputError, match=message):
        compare_run(run)


def test_a_different_number_of_items_is_refused(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=20)
    change_samples(run, "tuned", lambda rows: rows.pop())
    count = sum(row["correct"] for row in rows_of(run, "tuned"))
    change_summary(run, "tuned", lambda each: each["accuracy"].update(correct=count, n=19))
    with pytest.raises(InputError, match="20 items against 19"):
        compare_run(run)


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
        assert f"gsm8k: no comparison, {missing} has not been evaluated" in comparison["warnings"]
        assert "not compared" in printed(comparison)


def test_an_unfinished_evaluation_counts_as_none(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=20)
    run.evaluation("gsm8k", "tuned").unlink()
    assert compare_run(run)["benchmarks"]["gsm8k"]["tuned"] is None
    run.evaluation("gsm8k", "base").unlink()
    with pytest.raises(InputError, match="no finished evaluation"):
        compare_run(run)


def test_a_clean_comparison_warns_of_nothing(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=100, base_rate=1.0, tuned_rate=1.0)
    for variant in ("base", "tuned"):
        change_samples(run, variant, lambda rows: [row.update(truncated=False) for row in rows])
    assert compare_run(run)["warnings"] == []


def test_contamination_is_said_first(build_run: BuildRun) -> None:
    comparison = compare_run(build_run("gsm8k", n=20, clean=False))
    assert comparison["warnings"][0].startswith(
        "CONTAMINATED: gsm8k: 12 test items stand in the training data"
    )
    assert comparison["benchmarks"]["gsm8k"]["contamination"]["clean"] is False
    assert "CONTAMINATED" in printed(comparison)


def test_an_adapter_that_changes_nothing_is_noticed(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=20)
    assert not any("adapter" in text for text in compare_run(run)["warnings"])
    base = rows_of(run, "base")
    change_samples(
        run,
        "tuned",
        lambda rows: [
            row.update(response=same["response"], correct=same["correct"])
            for row, same in zip(rows, base, strict=True)
        ],
    )
    count = sum(row["correct"] for row in base)
    change_summary(run, "tuned", lambda each: each["accuracy"].update(correct=count))
    assert any("adapter seems not to have been applied" in text for text in compare_run(run)["warnings"])


def test_small_samples_truncation_fallbacks_and_other_differences_are_said(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=40)
    change_samples(run, "tuned", lambda rows: [row.update(truncated=True) for row in rows[:10]])
    change_summary(run, "tuned", lambda each: each.update(fallbacks=["attention: sdpa is used"]))
    change_summary(run, "tuned", lambda each: each["model"].update(dtype="float32"))
    change_summary(run, "tuned", lambda each: each["settings"].update(engine="vllm"))
    cut = sum(row["truncated"] for row in rows_of(run, "tuned"))
    warnings = compare_run(run)["warnings"]
    assert "gsm8k: only 40 items, see how wide the intervals are" in warnings
    expected = f"gsm8k: {cut} of 40 tuned responses were cut off at 256 tokens; raise max_new_tokens"
    assert expected in warnings
    assert "gsm8k: tuned fell back: attention: sdpa is used" in warnings
    assert any(
        text.startswith("gsm8k: the model's dtype differs, bfloat16 against float32") for text in warnings
    )
    assert any(text.startswith("gsm8k: engine differs, transformers against vllm") for text in warnings)


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
    assert "a %" in printed(comparison)


def test_two_runs_on_different_items_are_refused(build_run: BuildRun) -> None:
    a, b = build_run("gsm8k", n=20, name="a"), build_run("gsm8k", n=20, name="b", seed=1)
    with pytest.raises(InputError, match="prompts of item"):
        compare_runs(a, b)
    with pytest.raises(InputError, match="no benchmark on which both"):
        compare_runs(a, build_run("svamp", n=20, name="c"))


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
    assert "better" in text
    assert "cut off" in text


def test_the_table_fits_a_terminal_of_80_columns(build_run: BuildRun) -> None:
    console = Console(width=80, record=True, file=StringIO())
    console.print(comparison_table(compare_run(build_run("generator", n=300))))
    text = console.export_text()
    assert "…" not in text
    assert "difference" in text


def test_names_are_not_read_as_markup(build_run: BuildRun) -> None:
    assert "[bold]x" in printed(compare_run(build_run("[bold]x", n=20)))
