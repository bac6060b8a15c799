"""A model fetched beforehand, from a server that speaks the Hub's language; then work without any network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_server import COMMIT, Hub
from processes import state
from support import command, run_program, small_job

from mathreason.config import ModelConfig
from mathreason.models import model_source
from mathreason.results import read_json

WriteJob = Callable[..., Path]
NAME = "tests/tiny"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    folder = tmp_path / "repository"
    shutil.copytree(model_source(ModelConfig(name="embedded")), folder)
    (folder / "pytorch_model.bin").write_bytes(b"the same in another format")
    with Hub(folder, NAME) as hub:
        yield hub


@pytest.fixture
def job(write_job: WriteJob) -> Path:
    values = small_job()
    values["model"]["name"] = NAME
    return write_job(values)


def environment(tmp_path: Path, hub: Hub | None = None) -> dict[str, str]:
    """Of a shell on the login node with `hub`, of a compute node without."""
    online = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url} if hub else {"HF_HUB_OFFLINE": "1"}
    return {"HF_HOME": str(tmp_path / "cache"), "MATHREASON_RESULTS": str(tmp_path / "results"), **online}


def prefetch(job: Path, tmp_path: Path, hub: Hub, *options: str) -> subprocess.CompletedProcess[str]:
    return run_program("data", "prefetch", job, *options, environment=environment(tmp_path, hub))


def without_network(tmp_path: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`mathreason …` in a network namespace that has no network, not even a loopback."""
    return subprocess.run(
        ["unshare", "--net", *command(*arguments)],
        env={**os.environ, **environment(tmp_path)},
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )


def test_sizes_are_said_first_and_only_with_dry_run(job: Path, tmp_path: Path, hub: Hub) -> None:
    done = prefetch(job, tmp_path, hub, "--dry-run")
    assert done.returncode == 0, done.stderr
    files = [path for path in hub.folder.iterdir() if path.suffix in (".json", ".safetensors", ".jinja")]
    size = sum(path.stat().st_size for path in files) / 1e6
    assert f"model {NAME}: {len(files)} files, {size:.1f} MB, of which {size:.1f} MB to fetch" in done.stdout
    assert hub.fetched == []


@pytest.mark.slow
def test_prefetched_job_trains_evaluates_and_is_exported_without_network(
    job: Path, tmp_path: Path, hub: Hub
) -> None:
    first = prefetch(job, tmp_path, hub)
    assert first.returncode == 0, first.stderr
    assert f"model {NAME}: complete" in first.stdout
    assert "pytorch_model.bin" not in hub.fetched
    asked = len(hub.fetched)
    again = prefetch(job, tmp_path, hub)
    assert "0.0 MB to fetch" in again.stdout
    assert len(hub.fetched) == asked

    for stage in ("train", "evaluate"):
        done = without_network(tmp_path, stage, job)
        assert done.returncode == 0, done.stderr
    results = tmp_path / "results"
    assert state(results)["status"] == "done"
    [run] = [path for path in results.iterdir() if (path / "run.json").is_file()]
    assert read_json(run / "train.json")["model"]["commit"] == COMMIT
    done = without_network(tmp_path, "export", run, "--output", tmp_path / "merged")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "merged" / "model.safetensors").is_file()


@pytest.mark.slow
def test_data_sets_of_the_hub_are_fetched_and_read_without_network(
    write_job: WriteJob, tmp_path: Path, hub: Hub
) -> None:
    hub.sets["tests/sums"] = tmp_path / "sums"
    hub.sets["tests/sums"].mkdir()
    rows = [{"q": f"What is {n} plus {n}?", "a": f"{n} + {n} = {2 * n}", "r": 2 * n} for n in range(90)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (hub.sets["tests/sums"] / "train.jsonl").write_text(text, encoding="utf-8")
    columns = {"question": "q", "solution": "a", "answer": "r"}
    values = small_job()
    values["data"]["mixture"] = [{"source": "hub", "path": "tests/sums", "columns": columns, "count": 30}]
    job, data = write_job(values), ("--data-dir", tmp_path / "data")
    sizes = prefetch(job, tmp_path, hub, "--dry-run", *map(str, data))
    assert "tests/sums/train: 60 rows of Hub data set tests/sums (0.0 MB there) to fetch" in sizes.stdout
    (tmp_path / "data").mkdir()
    done = without_network(tmp_path, "train", job, *data)
    assert done.returncode == 2
    assert "`mathreason data prefetch" in done.stderr
    done = prefetch(job, tmp_path, hub, *map(str, data))
    assert done.returncode == 0, done.stderr
    record = read_json(tmp_path / "data" / "hub" / "tests--sums" / "train.source.json")
    assert (record["hub"], record["rows"], record["revision"]) == ("tests/sums", 60, COMMIT)
    done = without_network(tmp_path, "train", job, *data)
    assert done.returncode == 0, done.stderr


def test_missing_file_is_named_with_what_fetches_it(job: Path, tmp_path: Path, hub: Hub) -> None:
    assert prefetch(job, tmp_path, hub).returncode == 0
    for path in (tmp_path / "cache").rglob("model.safetensors"):
        path.unlink()
    done = without_network(tmp_path, "train", job)
    assert done.returncode == 2
    [sentence] = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    assert f"the weights of model {NAME} cannot be loaded: model.safetensors is not in the local" in sentence
    assert "`mathreason data prefetch" in sentence


def test_missing_data_is_named_with_what_fetches_it(write_job: WriteJob, tmp_path: Path) -> None:
    values = small_job()
    values["data"]["mixture"] = [{"source": "gsm8k"}]
    done = without_network(tmp_path, "train", write_job(values))
    assert done.returncode == 2
    [sentence] = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    for part in ("gsm8k", "train.jsonl", "`mathreason data prefetch"):
        assert part in sentence


def test_damaged_file_is_noticed_removed_and_fetched_again(job: Path, tmp_path: Path, hub: Hub) -> None:
    hub.damaged = {"model.safetensors"}
    done = prefetch(job, tmp_path, hub)
    assert done.returncode == 2
    assert "model.safetensors arrived damaged and was removed; call the same again" in done.stderr
    hub.damaged = set()
    assert prefetch(job, tmp_path, hub).returncode == 0


def test_download_that_was_killed_goes_on_where_it_was(job: Path, tmp_path: Path, hub: Hub) -> None:
    size = 48 << 20  # huggingface_hub writes 10 MB at a time
    (hub.folder / "model.safetensors").write_bytes(bytes(size))
    hub.stalled = {"model.safetensors"}
    first = subprocess.Popen(
        command("data", "prefetch", job), env={**os.environ, **environment(tmp_path, hub)}
    )
    try:
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size for path in (tmp_path / "cache").rglob("*-part")):
            assert time.monotonic() < deadline, "nothing comes"
            time.sleep(0.1)
    finally:
        first.kill()
        first.wait()
    assert not list((tmp_path / "cache").rglob("model.safetensors"))
    hub.stalled = set()
    done = prefetch(job, tmp_path, hub)
    assert done.returncode == 0, done.stderr
    assert f"model {NAME}: complete" in done.stdout
    assert len(hub.ranges) == 1
    assert 0 < hub.ranges[0] < size
    assert [path.stat().st_size for path in (tmp_path / "cache").rglob("model.safetensors")] == [size]
    assert not list((tmp_path / "cache").rglob("*-part"))


def test_hub_that_does_not_answer_is_one_sentence(job: Path, tmp_path: Path) -> None:
    variables = {**environment(tmp_path), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = run_program("data", "prefetch", job, environment=variables)
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: model {NAME} cannot be fetched from the Hub: ")
    assert len(done.stderr.splitlines()) == 1


def test_what_all_runs_of_a_sweep_need_is_fetched(write_job: WriteJob, tmp_path: Path, hub: Hub) -> None:
    values = small_job()
    values["model"]["name"] = NAME
    values["sweep"] = {"grid": {"lora.r": [2, 4]}}
    done = prefetch(write_job(values), tmp_path, hub)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("complete") == 1


def test_model_without_weights_that_can_be_read_is_not_called_complete(
    job: Path, tmp_path: Path, hub: Hub
) -> None:
    (tmp_path / "repository" / "model.safetensors").unlink()
    done = prefetch(job, tmp_path, hub)
    assert done.returncode == 2
    assert f"model {NAME} has no model.safetensors on the Hub" in done.stderr
    assert "complete" not in done.stdout
