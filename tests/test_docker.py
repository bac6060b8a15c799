"""The image, built from the project's own Dockerfile and run as users run it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from docker_engine import CLIENT, IMAGE, Docker, engine
from processes import run_in, state, steps_logged
from slurm_cluster import Cluster, one_node, until
from support import ROOT, small_job

pytestmark = pytest.mark.slow
SEALED = ("--rm", "--init", "--user", "12345:12345", "--read-only", "--tmpfs", "/tmp", "--network", "none")


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    with engine() as docker:
        docker.build()
        yield docker


@pytest.fixture
def mounts(tmp_path: Path) -> tuple[str, ...]:
    """Options that mount a results folder of user 12345's, and a folder of jobs."""
    results, jobs = tmp_path / "results", tmp_path / "jobs"
    jobs.mkdir()
    results.mkdir()
    os.chown(results, 12345, 12345)
    tmp_path.chmod(0o755)
    return ("-v", f"{results}:/results", "-v", f"{jobs}:/workspace/jobs:ro")


def inside(docker: Docker, command: str, *options: str) -> str:
    """What a shell in the image prints."""
    return docker.said("run", "--rm", *options, "--entrypoint", "/bin/bash", IMAGE, "-c", command)


def test_without_arguments_it_helps_and_its_size_is_known(
    docker: Docker, record_property: Callable[[str, object], None]
) -> None:
    assert "Fine-tune a language model" in docker.said("run", "--rm", IMAGE)
    size = int(docker.said("image", "inspect", "--format", "{{.Size}}", IMAGE))
    record_property("size of the image", f"{size / 2**30:.2f} GiB")


def test_any_user_runs_a_job_sealed_off_and_owns_what_it_wrote(
    docker: Docker, mounts: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "jobs" / "small.yaml").write_text(yaml.safe_dump(small_job()), encoding="utf-8")
    docker.said("run", *SEALED, *mounts, IMAGE, "run", "jobs/small.yaml")
    results = tmp_path / "results"
    assert state(results)["status"] == "done"
    run = run_in(results)
    assert run is not None
    written = [results, *results.rglob("*")]
    assert len(written) > 20
    assert {(path.stat().st_uid, path.stat().st_gid) for path in written} == {(12345, 12345)}
    provenance = json.loads(run.train.read_text(encoding="utf-8"))["provenance"]
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, text=True, capture_output=True, check=True
    ).stdout.strip()
    assert provenance["git"]["commit"] == commit
    labels = json.loads(docker.said("image", "inspect", "--format", "{{json .Config.Labels}}", IMAGE))
    assert labels["org.opencontainers.image.revision"].removesuffix("-dirty") == commit
    assert labels["org.opencontainers.image.version"] == provenance["versions"]["mathreason"]


def test_shipped_quickstart_runs_without_any_mount(docker: Docker) -> None:
    said = docker.said("run", "--rm", "--network", "none", IMAGE, "validate", "jobs/quickstart.yaml")
    assert said.startswith("ok  jobs/quickstart.yaml")
    short = ("--set", "training.max_steps=2", "--set", "evaluation.limit=4")
    said = docker.said("run", "--rm", "--network", "none", IMAGE, "run", "jobs/quickstart.yaml", *short)
    assert "report: /results/quickstart-" in said


def test_image_holds_what_runs_and_nothing_that_built_it(docker: Docker) -> None:
    for program in ("nvcc", "g++", "c++", "git"):
        assert inside(docker, f"command -v {program} || echo none") == "none\n"
    folders = "/usr/local/cuda* /build /wheel/* /var/lib/apt/lists/* /var/cache/* /root/.cache/*"
    assert inside(docker, f"ls -d {folders} 2>/dev/null || true", "--user", "0") == ""
    names = " -o ".join(f"-name '{name}'" for name in (".git", ".env", ".netrc", "id_rsa*", "*.tar.gz"))
    assert inside(docker, f"find / -xdev \\( {names} \\) -print", "--user", "0") == ""
    config = json.loads(docker.said("image", "inspect", "--format", "{{json .Config}}", IMAGE))
    names = {entry.partition("=")[0] for entry in config["Env"]}
    assert not {
        name for name in names if any(word in name for word in ("TOKEN", "KEY", "SECRET", "PASSWORD"))
    }
    assert config["User"] == "1000:1000"
    assert config["Entrypoint"] == ["mathreason"]


def test_what_would_be_compiled_at_run_time_works_sealed_off(docker: Docker) -> None:
    operators = (  # as on a machine with another accelerator than the one that built the image
        "from deepspeed import git_version_info; git_version_info.accelerator_name = 'another'; "
        "from mathreason.training.operators import accept_built; accept_built(); "
        "from deepspeed.ops.op_builder import AsyncIOBuilder, CPUAdamBuilder; "
        "print(CPUAdamBuilder().load().__name__, AsyncIOBuilder().load().__name__)"
    )
    sealed = [option for option in SEALED if option != "--rm"]
    said = inside(docker, f'python3 -c "{operators}"', *sealed)
    assert "deepspeed.ops.adam.cpu_adam_op deepspeed.ops.aio.async_io_op" in said
    # What Triton does for each kernel: a C file against Python's headers, made into a library.
    launcher = (
        "cd /tmp && echo '#include <Python.h>' > launcher.c && "
        "gcc launcher.c -O3 -shared -fPIC -I$(echo /usr/include/python3.*) -o launcher.so && ls launcher.so"
    )
    assert inside(docker, launcher, *sealed) == "launcher.so\n"


def test_stopped_container_has_saved_and_the_same_command_goes_on(
    docker: Docker, mounts: tuple[str, ...], tmp_path: Path
) -> None:
    job = small_job()
    job["training"].update(max_steps=40, checkpoint_steps=40)
    (tmp_path / "jobs" / "small.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    command = ("run", *SEALED, "--name", "stopped", *mounts, IMAGE, "train", "jobs/small.yaml")
    results = tmp_path / "results"
    process = subprocess.Popen(
        [CLIENT, *command],
        env={**os.environ, "DOCKER_HOST": docker.host},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: steps_logged(results) >= 3, process)
        docker.said("stop", "--time", "60", "stopped")
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    finally:
        process.kill()
    assert (state(results)["status"], state(results)["reason"]) == ("stopped", "SIGTERM")
    assert 3 <= steps_logged(results) < 40
    docker.said(*command)
    assert (state(results)["status"], state(results)["starts"]) == ("done", 2)
    assert steps_logged(results) == 40


def wait_until(moment: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not moment():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.05)


# -- in a batch job --------------------------------------------------------------------------------

BATCH_USER = 65534


@pytest.fixture(scope="module")
def cluster(docker: Docker) -> Iterator[Cluster]:
    """A node whose users may use Docker."""
    (docker.folder / "docker.sock").chmod(0o666)
    with one_node() as cluster:
        yield cluster


@pytest.fixture
def home(cluster: Cluster, tmp_path: Path) -> Path:
    """A folder of the user's, with the batch scripts; pytest's own folders are root's alone."""
    folder = cluster.folder / tmp_path.name
    shutil.copytree(ROOT / "slurm", folder / "slurm")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, BATCH_USER, BATCH_USER)
    return folder


def submit(cluster: Cluster, docker: Docker, home: Path, *arguments: str) -> str:
    """`sbatch ARGUMENTS` as BATCH_USER, who is not root, in containers."""
    return cluster.output(
        *("setpriv", f"--reuid={BATCH_USER}", f"--regid={BATCH_USER}", "--clear-groups"),
        *("sbatch", "--parsable", *arguments),
        cwd=home,
        RUNTIME="docker",
        IMAGE=IMAGE,
        DOCKER_HOST=docker.host,
        HOME=str(home),
    ).strip()


def submit_training(cluster: Cluster, docker: Docker, home: Path, steps: int) -> str:
    job = small_job()
    job["training"].update(max_steps=steps, checkpoint_steps=50)
    (home / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    return submit(cluster, docker, home, "slurm/train_mistral.sh", "job.yaml")


def containers(docker: Docker) -> str:
    """Names of the containers that there are, running or not."""
    return docker.said("ps", "--all", "--format={{.Names}}")


def test_preempted_training_in_a_container_goes_on_and_belongs_to_the_user(
    cluster: Cluster, docker: Docker, home: Path
) -> None:
    job = submit_training(cluster, docker, home, steps=40)
    results = home / "results"
    until(lambda: steps_logged(results) >= 3, "step 3")
    assert containers(docker) == f"mathreason-{job}\n"
    cluster.preempt(job)
    until(lambda: cluster.restarts(job) == 1, "the restart")
    facts = cluster.ended(job)
    assert (facts["JobState"], facts["ExitCode"], facts["Restarts"]) == ("COMPLETED", "0:0", "1")
    assert facts["UserId"] == f"nobody({BATCH_USER})"
    assert (state(results)["status"], state(results)["starts"]) == ("done", 2)
    assert {path.stat().st_uid for path in results.rglob("*")} == {BATCH_USER}
    assert containers(docker) == ""


def test_container_of_an_earlier_start_is_not_in_the_way(
    cluster: Cluster, docker: Docker, home: Path
) -> None:
    """Slurm lost the node, Docker went on, and the job is back on it."""
    (home / "job.yaml").write_text(yaml.safe_dump(small_job()), encoding="utf-8")
    job = submit(cluster, docker, home, "--hold", "slurm/train_mistral.sh", "job.yaml")
    docker.said("run", "--detach", "--name", f"mathreason-{job}", "--entrypoint", "sleep", IMAGE, "1000")
    cluster.output("scontrol", "release", job)
    assert cluster.ended(job)["JobState"] == "COMPLETED"
    assert containers(docker) == ""


def test_cancelled_job_leaves_no_container(cluster: Cluster, docker: Docker, home: Path) -> None:
    job = submit_training(cluster, docker, home, steps=100_000)
    results = home / "results"
    until(lambda: steps_logged(results) >= 3, "step 3")
    cluster.output("scancel", job)
    assert cluster.ended(job)["JobState"] == "CANCELLED"
    assert containers(docker) == ""
    assert state(results)["status"] == "stopped"


def test_cancelled_job_leaves_no_container_whose_program_will_not_stop(
    cluster: Cluster, docker: Docker, home: Path
) -> None:
    stubborn = """trap "" TERM; touch started; while :; do sleep 1; done"""
    script = f"#!/usr/bin/env bash\nsource slurm/common.sh\ncarry_out bash -c '{stubborn}'\n"
    (home / "stubborn.sh").write_text(script, encoding="utf-8")
    job = submit(cluster, docker, home, "stubborn.sh")
    until((home / "started").exists, "the program")
    cluster.output("scancel", job)
    assert cluster.ended(job)["JobState"] == "CANCELLED"
    assert containers(docker) == ""
