from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from mathreason.analysis.samples import load_evaluation
from mathreason.errors import InputError
from mathreason.results import RunDir

BuildRun = Callable[..., RunDir]


def test_samples_come_back_in_the_order_of_the_benchmark(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=30)
    path = run.samples("gsm8k", "base")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(reversed(lines)) + "\n")
    evaluation = load_evaluation(run, "gsm8k", "base")
    assert evaluation is not None
    assert [sample.index for sample in evaluation.samples] == list(range(30))
    rows = [json.loads(line) for line in lines]
    assert evaluation.correct == [row["correct"] for row in rows]
    assert evaluation.accuracy.correct == sum(row["correct"] for row in rows)
    assert evaluation.setting("max_new_tokens") == 256


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
    run.samples("gsm8k", "base").write_text("")
    path = run.evaluation("gsm8k", "base")
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"accuracy": {"correct": 0, "n": 0}}))
    with pytest.raises(InputError, match="holds no items"):
        load_evaluation(run, "gsm8k", "base")


@pytest.mark.parametrize(
    ("field", "value"),
    [("index", "3"), ("correct", 1), ("steps", True), ("extracted", 18), ("response", None)],
)
def test_a_field_of_the_wrong_kind_is_refused_with_its_line(
    build_run: BuildRun, field: str, value: object
) -> None:
    run = build_run("gsm8k", n=3)
    path = run.samples("gsm8k", "base")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1][field] = value
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=rf"base\.samples\.jsonl:2: '{field}' should be"):
        load_evaluation(run, "gsm8k", "base")
