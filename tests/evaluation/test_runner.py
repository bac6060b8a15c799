"""An evaluation: keyed samples, the same prompt as in training, nothing from another evaluation."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from mathreason.errors import InputError
from mathreason.evaluation.engine import Sampling
from mathreason.evaluation.plan import Plan, plan_evaluation, sampling_of
from mathreason.evaluation.runner import evaluate, is_complete
from mathreason.evaluation.transformers_engine import TransformersEngine
from mathreason.jobfile import load_job
from mathreason.progress import Reporter
from mathreason.results import RunDir, Shard, read_appended, read_json, write_json, write_jsonl

QUIET = Reporter(quiet=True)


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> RunDir:
    """A copy of the finished run that a test may change."""
    shutil.copytree(finished_run, tmp_path / "run")
    return RunDir(tmp_path / "run")


def plan_for(run: RunDir, tokenizer: Any, variant: str, *overrides: str) -> Plan:
    job = load_job(run.job, list(overrides))
    return plan_evaluation(job, run, job.evaluation.benchmarks[0], variant, tokenizer, None)


def test_finished_evaluation_has_its_files_and_is_complete(run: RunDir, tokenizer: Any) -> None:
    for variant in ("base", "tuned"):
        plan = plan_for(run, tokenizer, variant)
        assert is_complete(run, plan)
        rows = read_appended(run.samples("generator", variant))
        assert sorted(row["index"] for row in rows) == list(range(12))
        result = read_json(run.evaluation("generator", variant))
        assert result["n"] == 12
        assert result["accuracy"]["correct"] == sum(row["correct"] for row in rows)
        assert result["counts"]["truncated"] == sum(row["truncated"] for row in rows)
        assert result["contamination"]["clean"]
        assert result["model"]["batch_size"] == 4
        assert result["model"]["shared_prefix_tokens"] > 8
        assert (result["adapter"] is None) == (variant == "base")


def test_prompt_of_training_is_that_of_evaluation(run: RunDir) -> None:
    hashes = {
        read_json(run.data)["prompt_hash"],
        read_json(run.train)["prompt_hash"],
        read_json(run.evaluation("generator", "base"))["prompt"]["hash"],
        read_json(run.evaluation("generator", "tuned"))["prompt"]["hash"],
    }
    assert len(hashes) == 1
    base, tuned = (read_appended(run.samples("generator", variant)) for variant in ("base", "tuned"))
    assert [row["prompt_sha256"] for row in base] == [row["prompt_sha256"] for row in tuned]


@pytest.mark.parametrize(
    "override", ["prompt.instruction=Answer.", "evaluation.few_shot=2"], ids=["instruction", "few_shot"]
)
def test_adapter_with_another_prompt_is_refused_unless_allowed(
    run: RunDir, tokenizer: Any, override: str
) -> None:
    assert plan_for(run, tokenizer, "base", override).key != plan_for(run, tokenizer, "base").key
    with pytest.raises(InputError, match="was trained with another prompt"):
        plan_for(run, tokenizer, "tuned", override)
    plan = plan_for(run, tokenizer, "tuned", override, "evaluation.allow_prompt_mismatch=true")
    assert plan.header["prompt"]["same_as_training"] is False


def test_key_follows_everything_that_changes_a_response(run: RunDir, tokenizer: Any) -> None:
    overrides = [
        [],
        ["evaluation.max_new_tokens=17"],
        ["evaluation.stop=[x]"],
        ["evaluation.limit=6"],
        ["evaluation.benchmarks.0.seed=6"],
        ["model.dtype=bfloat16"],
    ]
    keys = [plan_for(run, tokenizer, variant, *o).key for o in overrides for variant in ("base", "tuned")]
    assert len(set(keys)) == len(keys)
    assert plan_for(run, tokenizer, "base", "evaluation.batch_size=3").key == keys[0]


def test_training_rows_that_are_benchmark_items_mark_the_tuned_result(run: RunDir, tokenizer: Any) -> None:
    item = plan_for(run, tokenizer, "base").items[0]
    rows = [{**item.to_dict(), "id": "leak/0"}]
    write_jsonl(run.problems("train"), rows)
    note = plan_for(run, tokenizer, "tuned").header["contamination"]
    assert (note["clean"], note["marked"]) == (False, ["leak/0"])
    assert note["note"].startswith("CONTAMINATED: 1 of ")
    assert plan_for(run, tokenizer, "base").header["contamination"]["clean"]


def engine_for(loaded: Any) -> TransformersEngine:
    return TransformersEngine(loaded, Sampling(16, ("Question:", "</s>", "<|im_end|>")), 4, QUIET)


@pytest.mark.parametrize("cut", ["torn line", "inside a batch", "nothing", "no newline"])
def test_interrupted_evaluation_ends_with_the_same_bytes(
    run: RunDir, tokenizer: Any, loaded: Any, cut: str
) -> None:
    samples = run.samples("generator", "base")
    whole = samples.read_bytes()
    lines = whole.splitlines(keepends=True)
    plan = plan_for(run, tokenizer, "base")
    run.evaluation("generator", "base").unlink()
    samples.write_bytes(
        {
            "torn line": b"".join(lines[:4]) + lines[4][:30],
            "inside a batch": b"".join(lines[:6]),
            "nothing": b"",
            "no newline": b"".join(lines[:8])[:-1],
        }[cut]
    )
    assert not is_complete(run, plan)
    evaluate(run, plan, engine_for(loaded), QUIET)
    assert samples.read_bytes() == whole
    assert is_complete(run, plan)


def test_samples_of_other_settings_are_kept_aside_and_never_used(
    run: RunDir, tokenizer: Any, loaded: Any
) -> None:
    before = run.samples("generator", "base").read_bytes()
    old_key = read_json(run.evaluation("generator", "base"))["key"]
    plan = plan_for(run, tokenizer, "base", "evaluation.limit=6")
    reporter = Reporter(quiet=True)
    evaluate(run, plan, engine_for(loaded), reporter)
    assert {row["key"] for row in read_appended(run.samples("generator", "base"))} == {plan.key}
    aside = run.samples("generator", "base").with_name(f"base-{old_key}.samples.jsonl")
    assert aside.read_bytes() == before
    assert any(old_key in warning for warning in reporter.warnings)


def test_tuned_is_never_served_the_answers_of_the_base(run: RunDir, tokenizer: Any, loaded: Any) -> None:
    shutil.copy(run.samples("generator", "base"), run.samples("generator", "tuned"))
    run.evaluation("generator", "tuned").unlink()
    plan = plan_for(run, tokenizer, "tuned")
    evaluate(run, plan, engine_for(loaded), QUIET)
    assert {row["key"] for row in read_appended(run.samples("generator", "tuned"))} == {plan.key}


def test_changed_adapter_gives_another_key(run: RunDir, tokenizer: Any) -> None:
    before = plan_for(run, tokenizer, "tuned").key
    weights = run.adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert plan_for(run, tokenizer, "tuned").key != before


def test_shards_answer_their_own_items_and_the_last_one_merges(
    run: RunDir, tokenizer: Any, loaded: Any
) -> None:
    samples = run.samples("generator", "base")
    whole = samples.read_bytes()
    run.evaluation("generator", "base").unlink()
    samples.unlink()
    plan = plan_for(run, tokenizer, "base")
    for number in (3, 1):
        assert evaluate(run, plan, engine_for(loaded), QUIET, Shard(number, 3)) is None
        rows = read_appended(run.shard(samples, Shard(number, 3)))
        assert {row["index"] for row in rows} == set(range(number - 1, 12, 3))
    assert not samples.exists()
    assert evaluate(run, plan, engine_for(loaded), QUIET, Shard(2, 3)) is not None
    assert samples.read_bytes() == whole
    assert run.shards(samples) == []
    assert is_complete(run, plan)


def test_what_shards_have_answered_is_not_asked_again(run: RunDir, tokenizer: Any, loaded: Any) -> None:
    samples = run.samples("generator", "base")
    whole = samples.read_bytes()
    run.evaluation("generator", "base").unlink()
    samples.unlink()
    plan = plan_for(run, tokenizer, "base")
    evaluate(run, plan, engine_for(loaded), QUIET, Shard(1, 2))
    reporter = Reporter(quiet=True, log=run.path / "said.txt")
    assert evaluate(run, plan, engine_for(loaded), reporter) is not None
    assert "going on after 6 of 12 responses" in (run.path / "said.txt").read_text()
    assert samples.read_bytes() == whole


def test_several_samples_of_an_item_differ_and_come_again(run: RunDir, tokenizer: Any, loaded: Any) -> None:
    hot = ("evaluation.samples=3", "evaluation.temperature=1.0")
    plan = plan_for(run, tokenizer, "base", *hot)
    assert len(plan.requests) == 36
    engine = TransformersEngine(loaded, sampling_of(load_job(run.job, list(hot)).evaluation), 5, QUIET)
    first = evaluate(run, plan, engine, QUIET)
    assert first is not None
    assert (first["items"], first["samples_per_item"], first["n"]) == (12, 3, 36)
    samples = run.samples("generator", "base")
    rows, before = read_appended(samples), samples.read_bytes()
    assert [(row["index"], row["sample"]) for row in rows] == [(i, s) for i in range(12) for s in range(3)]
    assert len({row["response"] for row in rows}) > 20
    run.evaluation("generator", "base").unlink()
    samples.write_bytes(b"".join(before.splitlines(keepends=True)[5:19]))
    assert evaluate(run, plan, engine, QUIET) is not None
    assert samples.read_bytes() == before
    other = plan_for(run, tokenizer, "base", *hot, "evaluation.seed=1")
    assert other.key != plan.key


def test_result_of_an_older_evaluation_is_not_complete_for_this_one(run: RunDir, tokenizer: Any) -> None:
    path = run.evaluation("generator", "base")
    write_json(path, {**read_json(path), "key": "0" * 16})
    assert not is_complete(run, plan_for(run, tokenizer, "base"))
