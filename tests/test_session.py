"""A session keeps run.json true: who works on it, how it ended, and that only one does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mathreason.errors import InputError
from mathreason.results import process_space, read_json, write_json
from mathreason.session import _born, find_run, open_session, resolve, status_of

WriteJob = Callable[[dict[str, Any]], Path]


def test_same_job_gives_the_same_run_and_another_job_another(
    tmp_path: Path, job: Any, write_job: WriteJob
) -> None:
    path = write_job(job)
    first = resolve(str(path), [], tmp_path / "r", None)
    assert resolve(str(path), ["evaluation.limit=3"], tmp_path / "r", None).run == first.run
    assert resolve(str(path), ["lora.r=2"], tmp_path / "r", None).run != first.run


def test_run_json_says_how_it_ended(tmp_path: Path, job: Any, write_job: WriteJob) -> None:
    target = resolve(str(write_job(job)), [], tmp_path / "r", None)
    with open_session(target) as session, session.stage("data"):
        state = read_json(target.run.run)
        assert (state["status"], state["stage"]) == ("running", "data")
    state = read_json(target.run.run)
    assert (state["status"], state["process"], state["starts"]) == ("done", None, 1)
    assert "data" in state["stages"]
    with pytest.raises(InputError), open_session(target):
        raise InputError("no such thing")
    state = read_json(target.run.run)
    assert (state["status"], state["error"], state["starts"]) == ("failed", "no such thing", 2)
    with pytest.raises(KeyboardInterrupt), open_session(target):
        raise KeyboardInterrupt
    assert read_json(target.run.run)["status"] == "stopped"


def test_second_process_on_the_same_run_is_refused_until_the_first_is_gone(
    tmp_path: Path, job: Any, write_job: WriteJob
) -> None:
    target = resolve(str(write_job(job)), [], tmp_path / "r", None)
    program = (
        "import sys, time; from pathlib import Path; from mathreason.session import open_session, resolve\n"
        "with open_session(resolve(sys.argv[1], [], Path(sys.argv[2]), None)):\n"
        "    print('open', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "job.yaml"), str(tmp_path / "r")],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(InputError, match=f"process {other.pid} is working on"), open_session(target):
            pass
        assert status_of(read_json(target.run.run)) == "running"
    finally:
        other.kill()
        # Not yet waited for, as it stays in a container whose first process waits for nobody.
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        ended_alone = status_of(read_json(target.run.run))
        other.wait()
    assert ended_alone == "stopped"
    assert status_of(read_json(target.run.run)) == "stopped"  # run.json itself still says running
    with open_session(target):
        pass


def test_recycled_process_number_is_not_mistaken_for_the_worker(
    tmp_path: Path, job: Any, write_job: WriteJob
) -> None:
    target = resolve(str(write_job(job)), [], tmp_path / "r", None)
    target.run.path.mkdir(parents=True)
    parent = os.getppid()
    assert _born(parent) is not None
    process = {"host": process_space(), "pid": parent, "born": "1"}
    write_json(target.run.run, {"status": "running", "process": process})
    with open_session(target):
        pass


def test_setting_what_a_run_was_trained_with_is_refused(
    tmp_path: Path, job: Any, write_job: WriteJob
) -> None:
    target = resolve(str(write_job(job)), [], tmp_path / "r", None)
    with open_session(target):
        pass
    folder = str(target.run.path)
    assert resolve(folder, ["evaluation.limit=3"], None, None).job.evaluation.limit == 3
    with pytest.raises(InputError, match="it would be another run"):
        resolve(folder, ["training.seed=7"], None, None)
    assert find_run(target.run.id, tmp_path / "r").path == target.run.path
    with pytest.raises(InputError, match="there is no run 'nothing'"):
        find_run("nothing", tmp_path / "r")
    with pytest.raises(InputError, match="is not a run directory"):
        resolve(str(tmp_path), [], None, None)


def test_results_folder_that_cannot_be_written_is_bad_input(
    tmp_path: Path, job: Any, write_job: WriteJob
) -> None:
    (tmp_path / "file").write_text("")
    target = resolve(str(write_job(job)), [], tmp_path / "file", None)
    with pytest.raises(InputError, match="cannot create the folder"), open_session(target):
        pass


def test_every_json_of_a_run_says_where_it_came_from(finished_run: Path) -> None:
    documents = [path for path in finished_run.rglob("*.json") if path.parent.name not in ("adapter",)]
    documents = [path for path in documents if "checkpoints" not in path.parts]
    names = {path.name for path in documents}
    names.remove("scores.json")  # a few numbers of comparison.json
    documents = [path for path in documents if path.name != "scores.json"]
    assert names == {"run.json", "data.json", "train.json", "base.json", "tuned.json", "comparison.json"}
    for path in documents:
        document = read_json(path)
        assert document["schema_version"] == 1
        origin = document["provenance"]
        assert origin["job_hash"].startswith(finished_run.name.rpartition("-")[2])
        assert set(origin["seeds"]) == {"data", "training", "evaluation"}
        assert origin["device"]["cores"] >= 1
