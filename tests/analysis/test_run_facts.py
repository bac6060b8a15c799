from __future__ import annotations

import json
from collections.abc import Callable

from mathreason.analysis.run_facts import data_facts, evaluation_facts, provenance_facts, training_facts
from mathreason.analysis.samples import load_evaluation
from mathreason.results import RunDir

BuildRun = Callable[..., RunDir]


def test_a_stage_that_has_not_run_has_no_facts(build_run: BuildRun) -> None:
    run = build_run(training=False)
    assert training_facts(run) is None
    assert data_facts(run) is None


def test_a_step_logged_again_after_a_resume_is_drawn_once(build_run: BuildRun) -> None:
    run = build_run()
    run.log.write_text("".join(f'{{"step": {step}, "loss": {step / 10}}}\n' for step in (1, 2, 3)))
    with run.log.open("a") as file:
        file.write('{"step": 2, "loss": 0.9}\n{"step": 3, "validation_loss": 0.8}\n{"step": 4, "lo')
    run.train.unlink()
    facts = training_facts(run)
    assert facts is not None
    assert facts["training_points"] == [(1.0, 0.1), (2.0, 0.9), (3.0, 0.3)]
    assert facts["validation_points"] == [(3.0, 0.8)]
    assert facts["finished"] is False


def test_what_a_file_does_not_say_is_left_out(build_run: BuildRun) -> None:
    run = build_run()
    run.train.write_text(json.dumps({"steps": 10, "peak_memory_bytes": None, "wall_seconds": 12000}))
    run.data.write_text(json.dumps({"sources": [{"source": "gsm8k", "asked": None, "taken": 7}]}))
    training, data = training_facts(run), data_facts(run)
    assert training is not None
    assert training["rows"] == [("optimizer steps", "10"), ("time", "3 h 20 min")]
    assert data is not None
    assert data["sources"][0]["cells"] == ["all", "–", "7"]
    assert data["audit"] is None


def test_settings_stand_side_by_side(build_run: BuildRun) -> None:
    run = build_run("gsm8k", n=5)
    sides = {side: load_evaluation(run, "gsm8k", side) for side in ("base", "tuned")}
    facts = evaluation_facts(sides)
    rows = dict(facts["rows"])
    assert facts["sides"] == ["base", "tuned"]
    assert rows["settings: max new tokens"] == ["256", "256"]
    assert rows["adapter: sha256"] == ["–", "ab" * 32]
    assert facts["prompt"].startswith("Solve the problem.")
    assert not any("example" in label for label in rows)


def test_provenance_is_read_from_the_run(build_run: BuildRun) -> None:
    run = build_run()
    document = {
        "status": "stopped",
        "stages": {"train": {"seconds": 65.0}, "evaluate": {}},
        "provenance": {"git": {"commit": "abc", "dirty": True}, "versions": {"torch": "2.9"}, "host": "\x00"},
    }
    run.run.write_text(json.dumps(document))
    rows = dict(provenance_facts(run))
    assert rows == {
        "run": "tinyllama-gsm8k",
        "status": "stopped",
        "stage train": "1 min 5 s",
        "code": "abc",
        "code differs from its commit": "yes",
        "host": "⟨U+0000⟩",
        "torch": "2.9",
    }
