"""The command line: quick, torch-free until needed, and a sentence with exit code 2 for bad input."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support import ROOT

from mathreason.cli.main import COMMANDS, main

WriteJob = Callable[[dict[str, Any]], Path]

PROBE = """
import sys
from mathreason.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code == 0, end.code
heavy = {"torch", "transformers", "datasets", "peft", "scipy", "numpy"} & set(sys.modules)
assert not heavy, heavy
"""


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(*arguments: str | Path) -> str:
    """The message of a call that must end with exit code 2 and no traceback."""
    result = invoke(*arguments)
    assert result.exit_code == 2, (result.output, result.exception)
    assert "Traceback" not in result.output
    return result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["validate", *sorted(str(path) for path in (ROOT / "jobs").glob("*.yaml"))],
        ["results", "--help"],
    ],
    ids=["help", "run help", "validate", "results help"],
)
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_command_has_help_with_an_example() -> None:
    for name in COMMANDS:
        result = invoke(name, "--help")
        assert result.exit_code == 0
        if name != "data":
            assert f"mathreason {name}" in result.output
    for name in ("inspect", "audit", "prefetch"):
        assert f"mathreason data {name}" in invoke("data", name, "--help").output


def test_shell_completion_script_is_offered() -> None:
    program = Path(sys.executable).parent / "mathreason"  # the name is what the shell completes
    environment = {**os.environ, "_MATHREASON_COMPLETE": "bash_source"}
    done = subprocess.run([program], capture_output=True, text=True, check=True, env=environment)
    assert "_mathreason_completion()" in done.stdout


def test_validate_reports_every_file(tmp_path: Path) -> None:
    good, bad = ROOT / "jobs" / "quickstart.yaml", tmp_path / "bad.yaml"
    bad.write_text(good.read_text().replace("learning_rate:", "learning_rte:"))
    output = refused("validate", good, bad)
    line = next(n for n, text in enumerate(bad.read_text().splitlines(), 1) if "learning_rte" in text)
    assert f"ok  {good}" in output
    assert f"{bad}:{line}: unknown key 'training.learning_rte'; did you mean 'learning_rate'?" in output


def test_validate_names_files_that_are_not_there(
    tmp_path: Path, job: dict[str, Any], write_job: WriteJob
) -> None:
    job["model"]["name"] = str(tmp_path / "no-model")
    job["data"]["mixture"].append({"source": "jsonl", "path": "no-rows.jsonl"})
    job["evaluation"]["benchmarks"].append({"name": "own", "path": "no-items.jsonl"})
    output = refused("validate", write_job(job))
    for name in ("no-model", "no-rows.jsonl", "no-items.jsonl"):
        assert name in output


# -- bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"evaluation": {"limit": 0}}, "evaluation.limit: must be at least 1, is 0"),
        ({"model": {"name": "./no-such-model"}}, "the model folder ./no-such-model does not exist"),
        ({"data": {"max_length": 8}}, "every sample is longer"),
        ({"data": {"max_length": 4096}}, "the model has only 2048 positions"),
        ({"data": {"mixture": [{"source": "gsm8k"}]}}, "source 'gsm8k' (split train) cannot be had"),
        (
            {"data": {"mixture": [{"source": "jsonl", "path": "nowhere.jsonl"}]}},
            "nowhere.jsonl does not exist",
        ),
        ({"evaluation": {"benchmarks": ["svamp"]}}, "benchmark 'svamp' (split test) cannot be had"),
        ({"lora": {"target_modules": ["w1"]}}, "no layer named w1"),
        ({"prompt": {"style": "chat"}}, "has no chat template"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_job_gets_a_sentence(
    tmp_path: Path, job: dict[str, Any], write_job: WriteJob, change: dict[str, Any], said: str
) -> None:
    for section, values in change.items():
        job[section] = {**job.get(section, {}), **values}
    assert said in refused("run", write_job(job), "--results", tmp_path / "results", "--data-dir", tmp_path)
    leftovers = [
        path for path in (tmp_path / "results").rglob("*") if path.name.endswith((".tmp", ".writing"))
    ]
    assert leftovers == []
    assert not list((tmp_path / "results").rglob("data.json")) or "lora" in change or "positions" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ('{"question": "a", "solution": "b\\n#### 1"}\n{"question"\n', ":2: not valid JSON"),
        ('{"question": "a"}\n', ":1: no column 'solution'; the row has 'question'"),
    ],
)
def test_bad_training_file_names_file_and_line(
    tmp_path: Path, job: dict[str, Any], write_job: WriteJob, text: str, said: str
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(text, encoding="utf-8")
    columns = {"question": "question", "solution": "solution"}
    job["data"]["mixture"] = [{"source": "jsonl", "path": str(rows), "columns": columns}]
    message = refused("train", write_job(job), "--results", tmp_path / "results")
    assert str(rows) in message
    assert said in message


def test_results_folder_that_cannot_be_written(
    tmp_path: Path, job: dict[str, Any], write_job: WriteJob
) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot create the folder" in refused("run", write_job(job), "--results", tmp_path / "file")


def test_missing_things_are_named(tmp_path: Path) -> None:
    assert "nowhere.yaml does not exist" in refused("run", "nowhere.yaml")
    assert "there is no run 'nothing'" in refused("report", "nothing", "--results", tmp_path)
    assert "there is no results folder" in refused("results", "--results", tmp_path / "none")
    assert "no such folder" in refused(
        "run", ROOT / "jobs" / "quickstart.yaml", "--data-dir", tmp_path / "none"
    )
    assert "the question is empty" in refused("solve", "--run", "x", " ")
    assert "name at least one job file" in refused("validate")


def test_network_off_and_source_missing_leaves_nothing_half_written(
    tmp_path: Path, job: dict[str, Any], write_job: WriteJob
) -> None:
    if shutil.which("unshare") is None:
        pytest.fail("unshare (util-linux) is needed to take the network away")
    job["data"]["mixture"] = [{"source": "gsm8k", "count": 5}]
    arguments = [
        "run",
        str(write_job(job)),
        "--results",
        str(tmp_path / "results"),
        "--data-dir",
        str(tmp_path),
    ]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-m", "mathreason", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},  # the Hub is not declared offline here
        check=False,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    for part in ("source 'gsm8k'", "train.jsonl does not exist", "openai/gsm8k", "mathreason data prefetch"):
        assert part in done.stderr
    [run] = (tmp_path / "results").iterdir()
    assert {path.name for path in run.iterdir()} == {"job.yaml", "run.json", "log.txt"}
    assert json.loads((run / "run.json").read_text())["status"] == "failed"


# -- on a finished run ------------------------------------------------------------------------------


def test_results_lists_and_shows_runs(finished_run: Path) -> None:
    listed = invoke("results", "--results", finished_run.parent)
    assert listed.exit_code == 0
    assert "done" in listed.output
    assert finished_run.name in listed.output  # whole, to be copied into the next command
    shown = invoke("results", "--results", finished_run.parent, "show", finished_run.name)
    for part in ("audit:", "training: 4 steps", "generator", "report:"):
        assert part in shown.output
    lines = invoke("results", "--results", finished_run.parent, "--json").output.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [finished_run.name]


def test_solve_answers_with_text_and_extracted_answer(finished_run: Path) -> None:
    question = "Tom has 3 apples and buys 4 apples. How many apples does Tom have?"
    for flags in ([], ["--base"]):
        result = invoke("solve", "--run", finished_run, *flags, question)
        assert result.exit_code == 0, result.output
        assert "answer: " in result.output


def test_report_and_compare_work_on_a_run_alone(finished_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished_run, copy)
    (copy / "report.html").unlink()
    assert invoke("report", copy).exit_code == 0
    assert (copy / "report.html").read_text().startswith("<!")
    assert "generator" in invoke("compare", copy).output
    both = invoke("compare", copy, finished_run)
    assert both.exit_code == 0
    assert "no evidence" in both.output


def test_grade_prints_a_summary_and_writes_the_lines(tmp_path: Path) -> None:
    rows = [{"response": "so 3\n#### 3", "answer": "3"}, {"response": "nothing", "answer": 4, "id": "x"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = invoke("grade", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl")
    assert "1 of 2 correct (50.0%)" in result.output
    graded = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["correct"], row["extracted"]) for row in graded] == [(True, "3"), (False, None)]
    assert graded[1]["id"] == "x"


def test_data_inspect_and_audit_on_real_rows(real_data: Path) -> None:
    job = ROOT / "jobs" / "tiny_gsm8k.yaml"
    looked = invoke("data", "inspect", job, "--data-dir", real_data, "--rows", "50")
    assert looked.exit_code == 0, looked.output
    for part in (
        "gsm8k",
        "column question: str (50)",
        "tokens: shortest",
        "solution steps:",
        "sample gsm_hard/train/",
    ):
        assert part in looked.output
    audited = invoke("data", "audit", job, "--data-dir", real_data)
    assert "gsm_hard: 1316 of 1319 rows are in gsm8k" in audited.output
