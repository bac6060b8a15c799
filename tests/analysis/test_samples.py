from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from evaluations import answer_again, change_samples, change_summary, put_in_groups, recount, rows_of

from mathreason.analysis.clustered import clustered_accuracy
from mathreason.analysis.samples import Evaluation, load_evaluation
from mathreason.analysis.statistics import wilson
from mathreason.errors import InputError
from mathreason.results import RunDir

BuildRun = Callable[..., RunDir]


def loaded(run: RunDir, variant: str = "base") -> Evaluation:
    evaluation = load_evaluation(run, "gsm8k", variant)
    assert evaluation is not None
    return evaluation


def test_samples_come_back_in_the_order_of_the_benchmark(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=30)
    rows = rows_of(run, "base")
    change_samples(run, "base", lambda each: each.reverse())
    evaluation = loaded(run)
    assert [sample.index for sample in evaluation.samples] == list(range(30))
    assert evaluation.correct == [row["correct"] for row in rows]
    assert evaluation.right == [int(row["correct"]) for row in rows]
    assert evaluation.accuracy == wilson(sum(row["correct"] for row in rows), 30)
    assert evaluation.setting("max_new_tokens") == 256
    assert evaluation.setting("temperature", 0.0) == 0.0


def test_several_responses_are_kept_item_by_item(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=25)
    answer_again(run, 4)
    rows = rows_of(run, "tuned")
    change_samples(run, "tuned", lambda each: each.reverse())
    evaluation = loaded(run, "tuned")
    assert evaluation.samples_per_item == 4
    assert [[sample.sample for sample in item] for item in evaluation.items] == [[0, 1, 2, 3]] * 25
    assert [sample.id for sample in evaluation.first] == [f"gsm8k/test/{index}" for index in range(25)]
    assert evaluation.right == [sum(row["correct"] for row in rows if row["index"] == i) for i in range(25)]
    assert evaluation.accuracy == clustered_accuracy(evaluation.right, 4, evaluation.clusters)
    assert (evaluation.accuracy.correct, evaluation.accuracy.n) == (sum(evaluation.right), 100)


def test_items_of_one_group_form_a_cluster(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=30)
    assert loaded(run).clusters.count == 30
    put_in_groups(run, 4)
    evaluation = loaded(run)
    assert evaluation.clusters.sizes.tolist() == [4] * 7 + [2]
    assert evaluation.accuracy.method == "wilson, clustered"


def test_an_evaluation_without_a_summary_is_not_there(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=3)
    run.evaluation("gsm8k", "base").unlink()
    assert load_evaluation(run, "gsm8k", "base") is None


def test_a_summary_without_its_samples_is_refused(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=3)
    run.samples("gsm8k", "base").unlink()
    with pytest.raises(InputError, match=r"base\.samples\.jsonl does not exist"):
        load_evaluation(run, "gsm8k", "base")


def test_an_evaluation_of_no_items_is_refused(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=3)
    change_samples(run, "base", lambda rows: rows.clear())
    recount(run, "base")
    with pytest.raises(InputError, match="holds no items"):
        load_evaluation(run, "gsm8k", "base")


INCOMPLETE: list[tuple[str, Callable[[list[dict[str, Any]]], object], str]] = [
    # As a shard leaves it that was not run: every fourth item is missing.
    (
        "a shard",
        lambda rows: rows.__delitem__(slice(1, None, 4)),
        "10 of 40 responses are missing, first sample 0 of item 1",
    ),
    ("the end", lambda rows: rows.pop(), "1 of 40 responses are missing, first sample 0 of item 39"),
]


@pytest.mark.parametrize(
    ("cut", "message"), [each[1:] for each in INCOMPLETE], ids=[r[0] for r in INCOMPLETE]
)
def test_an_evaluation_that_lacks_items_is_refused(
    build_run: BuildRun, cut: Callable[[list[dict[str, Any]]], object], message: str
) -> None:
    run = build_run("gsm8k", n=40)
    change_summary(run, "base", lambda each: each.update(items_in_benchmark=1319))
    loaded(run)
    change_samples(run, "base", cut)
    recount(run, "base")
    with pytest.raises(InputError, match=message):
        load_evaluation(run, "gsm8k", "base")


def test_an_evaluation_that_lacks_responses_to_an_item_is_refused(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=10)
    answer_again(run, 3)
    change_samples(run, "base", lambda rows: rows.pop(3 * 7 + 1))
    recount(run, "base")
    with pytest.raises(InputError, match="1 of 30 responses are missing, first sample 1 of item 7"):
        load_evaluation(run, "gsm8k", "base")


def test_more_responses_than_were_asked_for_are_refused(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=10)
    answer_again(run, 3)
    change_summary(run, "base", lambda each: each["settings"].update(samples=2))
    with pytest.raises(InputError, match="holds 30 responses, 20 were asked for"):
        load_evaluation(run, "gsm8k", "base")


def test_a_limit_beyond_the_benchmark_asks_for_all_of_it(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=10)
    for limit in (None, 500):
        change_summary(
            run,
            "base",
            lambda each, limit=limit: each.update(
                items_in_benchmark=10, settings=each["settings"] | {"limit": limit}
            ),
        )
        assert len(loaded(run).items) == 10


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("index", "3"),
        ("sample", None),
        ("correct", 1),
        ("steps", True),
        ("extracted", 18),
        ("response", None),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused_with_its_line(
    build_run: BuildRun, field: str, value: object
) -> None:
    run = build_run("gsm8k", n=3)
    change_samples(run, "base", lambda rows: rows[1].update({field: value}))
    with pytest.raises(InputError, match=rf"base\.samples\.jsonl:2: '{field}' should be"):
        load_evaluation(run, "gsm8k", "base")


def test_a_sample_that_is_there_twice_is_refused_with_its_line(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=3)
    change_samples(run, "base", lambda rows: rows.append(rows[1]))
    with pytest.raises(InputError, match=r"base\.samples\.jsonl:4: item 1, sample 0 is there twice"):
        load_evaluation(run, "gsm8k", "base")


def test_samples_of_earlier_settings_are_not_counted(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=20)
    before = loaded(run).samples
    change_samples(run, "base", lambda rows: rows.insert(0, rows[0] | {"key": "other", "correct": True}))
    assert loaded(run).samples == before


def test_a_summary_that_counts_otherwise_is_refused(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=20)
    path = run.evaluation("gsm8k", "base")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"accuracy": {"correct": 19, "n": 20}}))
    with pytest.raises(InputError, match="says 19 of 20 correct, its samples say"):
        load_evaluation(run, "gsm8k", "base")
