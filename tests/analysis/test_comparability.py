from __future__ import annotations

from collections.abc import Callable

import pytest
from evaluations import answer_again, change_samples, change_summary, put_in_groups, recount, rows_of

from mathreason.analysis.compare import compare_run, compare_runs
from mathreason.errors import InputError
from mathreason.results import RunDir

BuildRun = Callable[..., RunDir]

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
        "groups",
        lambda run: change_samples(run, "tuned", lambda rows: rows[3].update(group="text 1")),
        "item gsm8k/test/3 is in another group",
    ),
    (
        "token limits",
        lambda run: change_summary(run, "tuned", lambda each: each["settings"].update(max_new_tokens=512)),
        "max_new_tokens is 256 against 512",
    ),
    (
        "stops",
        lambda run: change_summary(run, "tuned", lambda each: each["settings"].update(stop=[])),
        r"stop is \['\\nQuestion:'\] against \[\]",
    ),
    (
        "temperature",
        lambda run: change_summary(run, "tuned", lambda each: each["settings"].update(temperature=0.7)),
        r"temperature is 0\.0 against 0\.7",
    ),
    (
        "top_p",
        lambda run: change_summary(run, "base", lambda each: each["settings"].update(top_p=0.9)),
        r"top_p is 0\.9 against 1\.0",
    ),
    (
        "a part of the items",
        lambda run: (change_samples(run, "tuned", lambda rows: rows.pop(3)), recount(run, "tuned")),
        "tuned.json is not complete: 1 of 20",
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
    change_summary(run, "tuned", lambda each: each["settings"].update(limit=19))
    recount(run, "tuned")
    with pytest.raises(InputError, match="20 items against 19"):
        compare_run(run)


def test_a_different_number_of_responses_is_refused(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=20)
    once = rows_of(run, "base")
    answer_again(run, 2)
    change_samples(run, "base", lambda rows: rows.__setitem__(slice(None), once))
    change_summary(run, "base", lambda each: each["settings"].update(samples=1))
    recount(run, "base")
    with pytest.raises(InputError, match="samples is 1 against 2"):
        compare_run(run)


def test_two_runs_on_different_items_are_refused(build_run: BuildRun) -> None:
    a, b = build_run("gsm8k", n=20, name="a"), build_run("gsm8k", n=20, name="b", seed=1)
    with pytest.raises(InputError, match="prompts of item"):
        compare_runs(a, b)
    with pytest.raises(InputError, match="no benchmark on which both"):
        compare_runs(a, build_run("svamp", n=20, name="c"))


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
    recount(run, "tuned")
    assert any("adapter seems not to have been applied" in text for text in compare_run(run)["warnings"])


def test_small_samples_truncation_fallbacks_and_other_differences_are_said(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=40)
    change_samples(run, "tuned", lambda rows: [row.update(truncated=True) for row in rows[:10]])
    change_summary(run, "tuned", lambda each: each.update(fallbacks=["attention: sdpa is used"]))
    change_summary(run, "tuned", lambda each: each["model"].update(dtype="float32"))
    change_summary(run, "tuned", lambda each: each["settings"].update(engine="vllm"))
    change_summary(run, "base", lambda each: each.update(grader="1"))
    change_summary(run, "tuned", lambda each: each.update(grader="2"))
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
    assert any(text.startswith("gsm8k: the grader differs, 1 against 2") for text in warnings)


def test_two_runs_may_have_other_models(build_run: BuildRun) -> None:
    a, b = build_run("gsm8k", n=120, name="a"), build_run("gsm8k", n=120, name="b", tuned_rate=0.7)
    change_summary(b, "tuned", lambda each: each["model"].update(name="another/model"))
    change_summary(b, "tuned", lambda each: each["settings"].update(engine="vllm"))
    warnings = compare_runs(a, b)["warnings"]
    assert not any("model's name" in text for text in warnings)
    assert any("engine differs" in text for text in warnings)


def test_few_groups_are_said_to_be_few(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=120)
    put_in_groups(run, 6)
    assert not any("groups" in text for text in compare_run(run)["warnings"])
    put_in_groups(run, 10)
    assert any("the 120 items form only 12 groups" in text for text in compare_run(run)["warnings"])
