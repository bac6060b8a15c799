"""The doctor tries things: what is broken is found, and said with what to do."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support import command, run_program, small_job

WriteJob = Callable[..., Path]


def checks(*arguments: str | Path, **variables: str) -> tuple[int, dict[str, dict[str, Any]]]:
    done = run_program("doctor", *arguments, "--json", environment=variables)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines, done.stderr
    return done.returncode, {line["part"]: line for line in lines}


def test_job_that_can_run_here_passes(write_job: WriteJob, tmp_path: Path) -> None:
    code, found = checks(write_job(small_job()), "--results", tmp_path / "results")
    assert code == 0, found
    assert found["bitsandbytes"]["state"] == "ok"
    assert found["results folder"]["state"] == "ok"
    assert "written, synced, renamed and read back" in found["results folder"]["found"]
    assert {found[part]["state"] for part in found if part.startswith("job:")} == {"ok"}
    assert not (tmp_path / "results").exists()


def test_what_an_offline_node_lacks_is_broken(write_job: WriteJob, tmp_path: Path) -> None:
    job = small_job()
    job["model"]["name"] = "some/model"
    job["data"]["mixture"] = [{"source": "gsm8k"}]
    code, found = checks(
        *(write_job(job), "--results", tmp_path, "--data-dir", tmp_path), HF_HOME=str(tmp_path / "cache")
    )
    assert code == 1
    said = found["job: model and data"]
    assert said["state"] == "broken"
    for part in (
        "model some/model (config.json, tokenizer.json, model.safetensors)",
        "data gsm8k/train",
        "prefetch",
    ):
        assert part in said["found"]
    for word in ("0", "false"):
        with_network, found = checks(
            *(write_job(job), "--results", tmp_path, "--data-dir", tmp_path),
            HF_HOME=str(tmp_path / "cache"),
            HF_HUB_OFFLINE=word,
        )
        assert (with_network, found["job: model and data"]["state"]) == (0, "warning")


def test_what_any_run_of_a_sweep_lacks_is_broken(write_job: WriteJob, tmp_path: Path) -> None:
    job = small_job()
    job["sweep"] = {"grid": {"model.name": ["embedded", "some/model"], "lora.r": [2, 4]}}
    path = write_job(job)
    code, found = checks(
        path, "--set", "lora.alpha=4", "--results", tmp_path, HF_HOME=str(tmp_path / "cache")
    )
    assert code == 1
    assert found["job: files"]["state"] == "ok"
    said = found["job: model and data"]["found"]
    assert "model some/model" in said
    assert f"`mathreason data prefetch {path} --set lora.alpha=4`" in said


def test_folder_that_cannot_be_written_is_broken() -> None:
    code, found = checks("--results", "/proc/1/results")
    assert code == 1
    assert found["results folder"]["state"] == "broken"
    assert "--results DIR" in found["results folder"]["remedy"]


def test_folder_from_which_no_program_can_be_loaded_is_said(tmp_path: Path) -> None:
    found = {}
    for option in ("noexec", "exec"):
        inside = ["sh", "-c", f'mount -t tmpfs -o {option} none "$0" && exec "$@"', str(tmp_path)]
        done = subprocess.run(
            ["unshare", "--mount", *inside, *command("doctor", "--results", tmp_path / "results", "--json")],
            env={**os.environ, "TRITON_CACHE_DIR": str(tmp_path / "triton")},
            text=True,
            capture_output=True,
            check=False,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        [found[option]] = [line for line in lines if line["part"] == "compiled kernels"]
    assert found["exec"]["state"] == "ok"
    assert found["noexec"]["state"] == "warning"
    assert "--tmpfs /tmp:exec" in found["noexec"]["remedy"]


def test_programs_that_are_not_here_are_absent_and_break_nothing(tmp_path: Path) -> None:
    code, found = checks("--results", tmp_path, PATH=os.devnull)
    assert code == 0
    assert (found["Slurm"]["state"], found["container runtime"]["state"]) == ("absent", "absent")


def test_table_says_what_to_do(tmp_path: Path) -> None:
    done = run_program("doctor", "--results", tmp_path, environment={"COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    assert "what to do" in done.stdout
    assert "results folder" in done.stdout
