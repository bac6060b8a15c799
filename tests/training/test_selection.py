"""The best checkpoint by accuracy: counted as evaluation counts, the same after a kill."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from processes import adapter_bytes, cleared, ended, run_in, start, start_ranks, wait_until
from support import Job, run_program, small_job

from mathreason.config import JobConfig
from mathreason.data.generator import generate
from mathreason.errors import InputError, MathreasonError
from mathreason.jobfile import load_job, run_id
from mathreason.pipeline import train_stage
from mathreason.progress import Reporter
from mathreason.results import RunDir, Shard, read_appended, read_json
from mathreason.session import open_session, resolve
from mathreason.training import checkpoints
from mathreason.training.selection import choose, undisturbed_chance, validations
from mathreason.training.stopping import Stopped
from mathreason.training.train import choose_checkpoint


def entry(step: int, loss: float, correct: int | None = None) -> dict[str, Any]:
    solved = {} if correct is None else {"validation_correct": correct, "validation_items": 10}
    return {"step": step, "validation_loss": loss, **solved}


# -- choosing --------------------------------------------------------------------------------------


def test_lowest_loss_wins_and_the_earliest_of_equals() -> None:
    best = choose([entry(2, 0.5), {"step": 2, "loss": 0.1}, entry(4, 0.3), entry(6, 0.3)])
    assert best is not None
    assert best.to_dict() == {"step": 4, "loss": 0.3, "why": "lowest validation loss"}


def test_nothing_validated_is_no_choice() -> None:
    assert choose([{"step": 1, "loss": 0.1}]) is None


def test_most_solved_wins_over_a_lower_loss() -> None:
    best = choose([entry(2, 0.2, 3), entry(4, 0.9, 7), entry(6, 0.1, 6)])
    assert best is not None
    assert best.to_dict() == {
        "step": 4,
        "loss": 0.9,
        "accuracy": {"value": 0.7, "correct": 7, "n": 10},
        "why": "highest accuracy on held-out problems (7 of 10)",
    }


def test_of_equal_accuracies_the_lower_loss_then_the_earlier_step() -> None:
    best = choose([entry(2, 0.4, 7), entry(4, 0.3, 7), entry(6, 0.3, 7), entry(8, 0.1, 6)])
    assert best is not None
    assert best.step == 4
    assert "as many as step 2, 6, at the lower validation loss or earlier" in best.why


def test_validations_have_the_accuracy_where_it_was_counted() -> None:
    assert validations([entry(2, 0.5), {"step": 3, "loss": 1.0}, entry(4, 0.4, 1)]) == [
        {"step": 2, "loss": 0.5},
        {"step": 4, "loss": 0.4, "accuracy": {"value": 0.1, "correct": 1, "n": 10}},
    ]


def test_chance_drawn_inside_changes_nothing_outside() -> None:
    import numpy as np

    def draw() -> list[float]:
        return [random.random(), float(np.random.rand()), torch.rand(1).item()]

    def seed() -> None:
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)

    seed()
    expected = [draw(), draw()]
    seed()
    found = [draw()]
    with undisturbed_chance():
        draw()
    assert [*found, draw()] == expected


# -- checkpoints that are gone ---------------------------------------------------------------------


def choice_among(tmp_path: Path, history: list[dict[str, Any]]) -> tuple[int, dict[str, Any], list[str]]:
    """What is chosen after steps 10, 20 and 30, of which 10 is damaged."""
    run, fallbacks = RunDir(tmp_path), list[str]()
    for step in (10, 20, 30):
        written = run.checkpoints / "writing" / f"checkpoint-{step}"
        written.mkdir(parents=True)
        (written / "weights").write_bytes(b"abc")
        checkpoints.commit(written, run.checkpoints)
    (run.checkpoints / "checkpoint-10" / "weights").write_bytes(b"abd")
    trainer: Any = SimpleNamespace(best=lambda steps=None: choose(history, steps))
    step, best = choose_checkpoint(run, trainer, Reporter(quiet=True), fallbacks)
    assert step == best["step"]
    return step, best, fallbacks


def test_a_damaged_best_checkpoint_is_passed_over_and_said(tmp_path: Path) -> None:
    step, best, said = choice_among(tmp_path, [entry(10, 0.4), entry(20, 0.5), entry(30, 0.6)])
    assert (step, best["loss"]) == (20, 0.5)
    assert said == ["the best checkpoint, of step 10, is damaged or gone; taking that of step 20"]
    assert best["why"] == f"lowest validation loss of what is there; {said[0]}"


def test_a_damaged_checkpoint_that_was_the_only_validated_one_gives_way_to_the_last(tmp_path: Path) -> None:
    step, best, said = choice_among(tmp_path, [entry(10, 0.4)])
    assert (step, best["loss"]) == (30, None)
    assert said == ["the best checkpoint, of step 10, is damaged or gone; taking that of step 30"]


def test_damage_to_another_than_the_best_checkpoint_changes_nothing(tmp_path: Path) -> None:
    step, best, said = choice_among(tmp_path, [entry(10, 0.6), entry(20, 0.4), entry(30, 0.5)])
    assert (step, best["why"], said) == (20, "lowest validation loss", [])


def test_no_whole_checkpoint_is_a_failure(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.checkpoints.mkdir()
    trainer: Any = SimpleNamespace(best=lambda steps=None: choose([entry(10, 0.4)], steps))
    with pytest.raises(MathreasonError, match="no complete checkpoint"):
        choose_checkpoint(run, trainer, Reporter(quiet=True), [])


# -- the job ---------------------------------------------------------------------------------------


def test_accuracy_without_held_out_problems_is_refused(job: Job, write_job: Any) -> None:
    job["data"]["validation_fraction"] = 0.0
    job["training"]["select_by"] = "accuracy"
    done = run_program("validate", write_job(job))
    assert done.returncode == 2
    assert "training: select_by accuracy needs held-out problems" in done.stderr
    assert "data.validation_fraction is 0" in done.stderr


def test_ids_of_older_runs_stay_and_token_limit_counts_only_with_accuracy(job: Job) -> None:
    def id_of(limit: int, **training: Any) -> str:
        values = {**job, "training": {**job["training"], **training}}
        values["evaluation"] = {**job["evaluation"], "max_new_tokens": limit}
        return run_id(JobConfig.model_validate(values))

    by_loss = JobConfig.model_validate(job).identity()
    assert not {"approach", "select_by", "select_items"} & set(by_loss["training"])
    assert "selected_with" not in by_loss
    assert id_of(16) == id_of(32) == id_of(16, select_by="loss")
    assert len({id_of(16), id_of(16, select_by="accuracy"), id_of(32, select_by="accuracy")}) == 3


# -- a training ------------------------------------------------------------------------------------


def easy_job(tmp_path: Path, select_by: str, **training: Any) -> Path:
    """Problems that all have the answer 7 but every fourth, which a few steps teach to the tiny model."""
    rows = [
        {"question": problem.question, "solution": f"It is 7.\n#### {5 if number % 4 == 0 else 7}"}
        for number, problem in enumerate(generate("train", count=80, seed=9))
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    job = small_job()
    columns = {"question": "question", "solution": "solution"}
    source = {"source": "jsonl", "path": str(data), "columns": columns}
    job["data"].update(mixture=[source], validation_fraction=0.25)
    job["training"].update(max_steps=24, checkpoint_steps=3, learning_rate=5e-3, keep_last=9, select_items=12)
    job["training"].update(select_by=select_by, **training)
    path = tmp_path / f"{select_by}.yaml"
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return path


def trained(job_file: Path, results: Path, processes: int = 1) -> RunDir:
    arguments = ("train", job_file, "--results", results)
    output = results.with_suffix(".txt")
    alone = processes == 1
    group = [start(*arguments, output=output)] if alone else start_ranks(processes, *arguments, output=output)
    with cleared(group):
        assert [ended(process) for process in group] == [0] * processes, output.read_text()
    run = run_in(results)
    assert run is not None
    return run


@pytest.fixture(scope="module")
def by_accuracy(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    folder = tmp_path_factory.mktemp("accuracy")
    return trained(easy_job(folder, "accuracy"), folder / "results")


def solved(run: RunDir) -> list[tuple[int, int, int, float]]:
    names = ("step", "validation_correct", "validation_items", "validation_accuracy")
    return [tuple(line[n] for n in names) for line in read_appended(run.log) if names[1] in line]  # type: ignore[misc]


def test_adapter_is_the_checkpoint_that_solves_most(by_accuracy: RunDir) -> None:
    counted = solved(by_accuracy)
    assert [step for step, *_ in counted] == list(range(3, 25, 3))
    assert {items for _, _, items, _ in counted} == {12}
    most = max(correct for _, correct, _, _ in counted)
    assert 0 == min(correct for _, correct, _, _ in counted) < most
    best = read_json(by_accuracy.train)["best"]
    assert best["accuracy"] == {"value": most / 12, "correct": most, "n": 12}
    assert best["step"] in [step for step, correct, _, _ in counted if correct == most]
    checkpoint = by_accuracy.checkpoints / f"checkpoint-{best['step']}" / "adapter_model.safetensors"
    assert (by_accuracy.adapter / "adapter_model.safetensors").read_bytes() == checkpoint.read_bytes()


def test_count_is_what_evaluation_grades_with_the_adapter(by_accuracy: RunDir) -> None:
    from mathreason.data.prepare import load_problems
    from mathreason.data.prompts import Prompter
    from mathreason.evaluation.benchmarks import choose_items
    from mathreason.evaluation.grading import grade
    from mathreason.evaluation.plan import sampling_of
    from mathreason.models import apply_adapter, load_model
    from mathreason.progress import Reporter

    job, best = load_job(by_accuracy.job), read_json(by_accuracy.train)["best"]
    loaded = apply_adapter(load_model(job.model, Reporter(quiet=True)), by_accuracy.adapter)
    prompter = Prompter(job.prompt, loaded.tokenizer)
    model: Any = loaded.model
    right = 0
    for problem in choose_items(list(load_problems(by_accuracy, "validation")), 12, job.data.seed):
        ids = torch.tensor([prompter.prompt_ids(prompter.prompt(problem.question))])
        with torch.no_grad():
            output = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=sampling_of(job.evaluation).max_new_tokens,
            )
        text = loaded.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
        right += grade(text, problem.answer).correct
    assert right == best["accuracy"]["correct"]


def test_answering_changes_no_bit_of_training(by_accuracy: RunDir, tmp_path: Path) -> None:
    by_loss = trained(easy_job(tmp_path, "loss"), tmp_path / "results")
    assert solved(by_loss) == []
    for step in range(3, 25, 3):
        name = f"checkpoint-{step}/adapter_model.safetensors"
        assert (by_loss.checkpoints / name).read_bytes() == (by_accuracy.checkpoints / name).read_bytes()


def test_killed_run_counts_the_same(by_accuracy: RunDir, tmp_path: Path) -> None:
    job_file, results = easy_job(tmp_path, "accuracy"), tmp_path / "results"
    for step in (6, 15):
        process = start("train", job_file, "--results", results, output=tmp_path / "killed.txt")
        with cleared([process]):
            wait_until(lambda step=step: has_checkpoint(results, step), process)  # type: ignore[misc]
            process.kill()
            ended(process)
    run = trained(job_file, results)
    assert solved(run) == solved(by_accuracy)
    assert read_json(run.train)["best"] == read_json(by_accuracy.train)["best"]
    assert adapter_bytes(results) == adapter_bytes(by_accuracy.path.parent)


def test_stop_while_problems_are_answered_loses_nothing(
    by_accuracy: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mathreason.evaluation.held_out import HeldOut

    whole, calls, seen = HeldOut.correct, [], []

    def stopped_in_the_second(exam: HeldOut, share: Shard, stopped: Callable[[], bool]) -> int | None:
        calls.append(share)
        if len(calls) in (2, 3):  # at step 6, and again while that is made up for
            answered = []

            def asked() -> bool:
                answered.append(1)
                if len(answered) == 3:
                    (target.run.path / "STOP").touch()
                return stopped()

            seen.append(whole(exam, share, asked))
            assert len(answered) == 3
            return seen[-1]
        return whole(exam, share, stopped)

    monkeypatch.setattr(HeldOut, "correct", stopped_in_the_second)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    target = resolve(str(easy_job(tmp_path, "accuracy")), [], tmp_path / "results", None)
    try:
        for _ in range(2):
            with pytest.raises(Stopped, match="a STOP file"), open_session(target) as session:
                train_stage(session)
            assert [step for step, *_ in solved(target.run)] == [3]
            assert checkpoints_of(target.run) == [3, 6]
        with open_session(target) as session:
            train_stage(session)
    finally:
        torch.set_num_threads(threads)
    assert seen == [None, None]
    assert solved(target.run) == solved(by_accuracy)
    assert read_json(target.run.train)["best"] == read_json(by_accuracy.train)["best"]
    assert adapter_bytes(tmp_path / "results") == adapter_bytes(by_accuracy.path.parent)


def checkpoints_of(run: RunDir) -> list[int]:
    complete, torn = checkpoints.complete_checkpoints(run.checkpoints)
    assert torn == []
    return [checkpoints.step_of(path) for path in complete]


def has_checkpoint(results: Path, step: int) -> bool:
    run = run_in(results)
    return run is not None and (run.checkpoints / f"checkpoint-{step}").is_dir()


def test_ranks_share_the_problems_and_count_all(tmp_path: Path) -> None:
    job_file = easy_job(tmp_path, "accuracy", gradient_accumulation=2, max_steps=9)
    run = trained(job_file, tmp_path / "results", processes=2)
    alone = trained(job_file, tmp_path / "alone")
    assert [step for step, *_ in solved(run)] == [3, 6, 9]
    assert {items for _, _, items, _ in solved(run)} == {12}
    assert solved(run) == solved(alone)
    assert solved(run)[-1][1] > 0


def test_evaluation_keys_of_a_finished_run_stay_free(by_accuracy: RunDir) -> None:
    results = by_accuracy.path.parent
    longer = resolve(str(by_accuracy.path), ["evaluation.max_new_tokens=24"], results, None)
    assert longer.job.evaluation.max_new_tokens == 24
    with pytest.raises(InputError, match="would be another run"):
        resolve(str(by_accuracy.path), ["training.select_by=loss"], results, None)
