"""The batch scripts, carried out by bash with programs that write down how they were called."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT, small_job

from mathreason.cluster.chains import Request, chain_of
from mathreason.cluster.scripts import Resources
from mathreason.cluster.submit import helper_file
from mathreason.errors import InputError

NASTY = 'it\'s "x" $(touch pwned) `touch pwned` ; touch pwned #\n touch pwned & *'
PROGRAMS = ("mathreason", "torchrun", "docker", "apptainer", "srun", "scontrol", "hostname", "id")
RECORDER = """#!/bin/bash
[[ $(basename "$0") != hostname ]] || { echo node1; exit; }
[[ $(basename "$0") != id ]] || { [[ $1 == -G ]] && echo 1500 1600 || echo 1500; exit; }
[[ "$*" != "show hostnames"* ]] || { printf 'node1\\nnode2\\n'; exit; }
for name in "${!APPTAINERENV_@}"; do printf '%s\\0' "$name=${!name}" >>"$RECORD"; done
printf '%s\\0' "$(basename "$0")" "$@" >>"$RECORD"
printf '\\n\\0' >>"$RECORD"
"""


@pytest.fixture
def fakes(tmp_path: Path) -> Path:
    """A folder with programs that write their arguments to a file, and do nothing."""
    folder = tmp_path / "fakes"
    folder.mkdir()
    for name in PROGRAMS:
        (folder / name).write_text(RECORDER)
        (folder / name).chmod(0o755)
    return folder


def carried_out(script: Path, cwd: Path, fakes: Path, **variables: str) -> list[list[str]]:
    """Programs that a batch script called, with their arguments, in the environment that Slurm gives it."""
    record = fakes / "record"
    record.unlink(missing_ok=True)
    done = executed(script, cwd, fakes, **variables)
    assert done.returncode == 0, done.stderr
    calls: list[list[str]] = [[]]
    for part in record.read_text(encoding="utf-8").split("\0")[:-1]:
        if part == "\n":
            calls.append([])
        else:
            calls[-1].append(part)
    return [call for call in calls if call]


def write_small_job(place: Path) -> Path:
    job = place / "job.yaml"
    job.write_text(yaml.safe_dump(small_job()), encoding="utf-8")
    return job


def program(fakes: Path, name: str, text: str) -> None:
    """Another program in the place of a fake one."""
    (fakes / name).write_text(f"#!/bin/bash\n{text}\n")
    (fakes / name).chmod(0o755)


def executed(script: Path, cwd: Path, fakes: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A batch script in the environment that Slurm gives it, with `fakes` found first."""
    environment = {
        "PATH": f"{fakes}:/usr/bin:/bin",
        "HOME": "/home/user",
        "RECORD": str(fakes / "record"),
        "TMPDIR": str(fakes),
        "SLURM_JOB_ID": "4711",
        "SLURM_CLUSTER_NAME": "hpc",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_GPUS_ON_NODE": "1",
        "SLURM_SUBMIT_DIR": str(ROOT),
        **variables,
    }
    return subprocess.run(
        ["/bin/bash", str(script)], cwd=cwd, env=environment, text=True, capture_output=True, check=False
    )


def written(job: Path, **options: Any) -> Path:
    """The first script of a chain, on disk with its helper, without the installation's own folder."""
    chain = chain_of(Request(str(job), **options))
    chain.folder.mkdir(parents=True, exist_ok=True)
    (chain.folder / "common.sh").write_text(helper_file().read_text(encoding="utf-8"), encoding="utf-8")
    script = chain.folder / "script.sh"
    lines = chain.jobs[0].text.splitlines(keepends=True)
    script.write_text("".join(line for line in lines if not line.startswith("export MATHREASON_BIN=")))
    return script


RUNTIMES: dict[str, dict[str, Any]] = {
    "native": {},
    "docker": {"runtime": "docker", "image": "mathreason:0.1.0"},
    "apptainer": {"runtime": "apptainer", "image": "mathreason.sif"},
    "pyxis": {"runtime": "pyxis", "image": "mathreason+latest.sqsh"},
}


@pytest.mark.parametrize("runtime", ["native", "docker"])
@pytest.mark.parametrize("name", ["job", "sweep"])
def test_names_and_overrides_arrive_as_text(name: str, runtime: str, tmp_path: Path, fakes: Path) -> None:
    folder = tmp_path / NASTY.replace("/", "")
    folder.mkdir()
    values: dict[str, Any] = small_job()
    if name == "sweep":
        values["sweep"] = {"grid": {"lora.r": [2, 4]}}
    job = folder / "job.yaml"
    job.write_text(yaml.safe_dump(values), encoding="utf-8")
    results, override = folder / "results", f"evaluation.stop=[{json.dumps(NASTY)}]"
    options = {"overrides": (override,), "data_dir": folder, **RUNTIMES[runtime]}
    script = written(job, results=results, **options)
    (run,) = results.iterdir()
    calls = carried_out(script, tmp_path, fakes, SLURM_ARRAY_TASK_ID="2", SLURM_ARRAY_JOB_ID="4711")
    wanted = ["mathreason", "train", str(run)]  # overrides are in job.yaml
    if name == "sweep":
        wanted = ["mathreason", "sweep", str(run / "slurm" / "job.yaml"), "--only", "2/2"]
    if runtime == "docker":
        _, call, _ = calls
        assert {f"{path}:{path}" for path in (folder, results)} <= set(call)
        at = call.index("--entrypoint") + 1
        assert [call[at], *call[at + 2 :]] == wanted
    else:
        assert calls == [wanted]
    assert list(tmp_path.rglob("pwned")) == []
    assert not (ROOT / "pwned").exists()


@pytest.mark.parametrize(
    ("runtime", "name"), [("docker", "a:b"), ("apptainer", "a,b"), ("apptainer", 'a"b'), ("pyxis", "a b")]
)
def test_folder_that_a_runtime_cannot_mount_is_refused(
    runtime: str, name: str, tmp_path: Path, fakes: Path
) -> None:
    job, folder = write_small_job(tmp_path), tmp_path / name
    with pytest.raises(InputError, match=f"--runtime {runtime} cannot mount the folder"):
        written(job, results=folder, **RUNTIMES[runtime])
    script = tmp_path / "by_hand.sh"
    script.write_text(f"source '{ROOT}/slurm/common.sh'\ntrain job.yaml\n", encoding="utf-8")
    variables = {"RUNTIME": runtime, "MATHREASON_RESULTS": str(folder)}
    done = executed(script, tmp_path, fakes, **variables)
    assert done.returncode == 2
    assert f"Error: RUNTIME={runtime} cannot mount " in done.stderr
    assert not (fakes / "record").exists()


def test_stop_files_are_for_all_who_may_write_results(tmp_path: Path, fakes: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    results.chmod(0o2775)
    script = written(write_small_job(tmp_path), results=results)
    done = executed(script, tmp_path, fakes)
    assert done.returncode == 0, done.stderr
    assert (results / ".jobs").stat().st_mode == results.stat().st_mode


def test_job_that_could_not_be_asked_to_stop_is_refused(tmp_path: Path, fakes: Path) -> None:
    results = tmp_path / "results"
    script = written(write_small_job(tmp_path), results=results)
    (results / ".jobs").write_text("in the way")
    done = executed(script, tmp_path, fakes)
    assert done.returncode == 2
    assert f"Error: the folder {results}/.jobs cannot be made" in done.stderr


def test_steps_are_given_what_the_batch_script_exports(tmp_path: Path, fakes: Path) -> None:
    """After `sbatch --export=NONE` srun would hand on nothing but Slurm's own variables."""
    program(fakes, "srun", 'echo "${SLURM_EXPORT_ENV-ALL}"')
    script = written(write_small_job(tmp_path), results=tmp_path / "r")
    assert executed(script, tmp_path, fakes, SLURM_EXPORT_ENV="NONE", **LAYOUTS["nodes"]).stdout == "ALL\n"


LAYOUTS = {
    "one": {},
    "gpus": {"SLURM_GPUS_ON_NODE": "4"},
    "nodes": {"SLURM_GPUS_ON_NODE": "8", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "node[1-2]"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_command_lines_are_these(
    runtime: str,
    layout: str,
    tmp_path: Path,
    fakes: Path,
    golden: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = tmp_path / "project"  # with a data folder, as after `mathreason data prefetch`
    (project / "data").mkdir(parents=True)
    monkeypatch.chdir(project)
    job = project / "job.yaml"
    job.write_text(yaml.safe_dump(small_job()), encoding="utf-8")
    script = written(job, results=project / "results", **RUNTIMES[runtime])
    if (runtime, layout) == ("docker", "nodes"):
        done = executed(script, project, fakes, **LAYOUTS[layout])
        assert done.returncode == 2
        assert "Error: RUNTIME=docker trains on one node" in done.stderr
        return
    calls = carried_out(script, project, fakes, **LAYOUTS[layout])
    golden(f"calls_{runtime}_{layout}.txt", plain(calls, tmp_path))


READER = """#!/bin/bash
cat "$MATHREASON_DATA_DIR/gsm8k/train.jsonl" "$MATHREASON_DATA_DIR/other/train.jsonl"
cat "$HF_HUB_CACHE/models--a--b/file" "$HF_HUB_CACHE/models--a--large/file"
for path in "$MATHREASON_DATA_DIR"/* "$HF_HUB_CACHE"/*; do
  echo "$(dirname "$(dirname "$path")") $(basename "$path") $([[ -L $path ]] && echo linked || echo copied)"
done
"""
STARTER = """#!/bin/bash
while [[ $1 != bash ]]; do shift; done
exec "$@"
"""
FOLDERS = ("far/gsm8k", "far/other", "models/models--a--b", "models/models--a--large")


def staging(tmp_path: Path, fakes: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A script that trains on gsm8k with a/b, where there is more of both; the program says what it finds."""
    for folder in FOLDERS:
        (tmp_path / folder).mkdir(parents=True)
        file = tmp_path / folder / ("file" if folder.startswith("models") else "train.jsonl")
        file.write_text(f"{folder}\n", encoding="utf-8")
    (tmp_path / "data").symlink_to(tmp_path / "far")
    for program, text in (("mathreason", READER), ("torchrun", READER), ("srun", STARTER)):
        (fakes / program).write_text(text)
    (tmp_path / "my run").mkdir()
    (tmp_path / "my run" / "job.yaml").write_text("data: {mixture: [{source: gsm8k}]}\n")
    script = tmp_path / "script.sh"
    script.write_text(f"source {ROOT}/slurm/common.sh\ntrain 'my run' --set model.name=a/b\n")
    return executed(script, tmp_path, fakes, HF_HUB_CACHE="models", MATHREASON_BIN=str(fakes), **variables)


@pytest.mark.parametrize("layout", ["one", "nodes"])
@pytest.mark.parametrize("disk", ["STAGE", "SLURM_TMPDIR", "MATHREASON_LOCAL_DISK"])
def test_what_a_job_reads_is_staged_on_the_disk_of_the_node_that_reads_it(
    disk: str, layout: str, tmp_path: Path, fakes: Path
) -> None:
    variables = {disk: "1" if disk == "STAGE" else str(fakes)}
    # A path of the head's alone would not be found on the others: there is no such folder here afterwards.
    done = staging(tmp_path, fakes, **variables, **LAYOUTS[layout])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:4] == list(FOLDERS)
    places = {line.split()[0] for line in lines[4:]}
    assert [line.split()[1:] for line in lines[4:]] == [
        ["gsm8k", "copied"],
        ["other", "linked"],
        ["models--a--b", "copied"],
        ["models--a--large", "linked"],
    ]
    assert all(place.startswith(f"{fakes}/mathreason-4711.") for place in places)
    assert done.stderr.count(": copied ") == 2  # by the node that runs the program, not by its starter too
    assert not any(Path(place).exists() for place in places)


@pytest.mark.parametrize(
    "variables", [{}, {"SLURM_TMPDIR": "/tmp", "STAGE": "0"}], ids=["no disk", "refused"]
)
def test_nothing_is_staged_without_a_disk_or_when_it_is_not_wanted(
    variables: dict[str, str], tmp_path: Path, fakes: Path
) -> None:
    done = staging(tmp_path, fakes, **variables)
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()[4:]} == {str(tmp_path)}
    assert "copied" not in done.stderr


def test_folders_in_a_container_are_the_copies_and_what_they_link_to(tmp_path: Path, fakes: Path) -> None:
    done = staging(tmp_path, fakes, STAGE="1", RUNTIME="docker")
    assert done.returncode == 0, done.stderr
    call = (fakes / "record").read_text(encoding="utf-8").split("\0")
    mounted = {call[i + 1].partition(":")[0] for i, part in enumerate(call) if part == "--volume"}
    assert {str(tmp_path / "data"), str(tmp_path / "models")} < mounted
    assert any(folder.startswith(f"{fakes}/mathreason-4711.") for folder in mounted)
    assert {"MATHREASON_DATA_DIR", "HF_HUB_CACHE"} < set(call)


def test_staging_that_fails_leaves_the_folders_as_they_are(tmp_path: Path, fakes: Path) -> None:
    program(fakes, "cp", "echo 'No space left on device' >&2; exit 1")
    done = staging(tmp_path, fakes, STAGE="1")
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()[4:]} == {str(tmp_path)}
    assert done.stderr.count("it is read where it is") == 2


def test_folder_that_cannot_be_read_whole_or_has_no_room_is_not_staged(tmp_path: Path, fakes: Path) -> None:
    for text, said in (
        ("echo 'Permission denied' >&2; echo 5 .; exit 1", "cannot be read whole"),
        ("printf '9000000000000\\ttotal'", "needs 8789062500 MiB, "),
    ):
        program(fakes, "du", text)
        place = tmp_path / said.split()[0]
        place.mkdir()
        done = staging(place, fakes, STAGE="1")
        assert done.returncode == 0, done.stderr
        assert {line.split()[0] for line in done.stdout.splitlines()[4:]} == {str(place)}
        assert done.stderr.count(said) == 2


def test_staged_folder_without_the_right_to_write_is_removed_and_fails_no_job(
    tmp_path: Path, fakes: Path
) -> None:
    folder = tmp_path / "data" / "gsm8k"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").touch()
    folder.chmod(0o555)
    program(fakes, "mathreason", 'stat --format=%a "$MATHREASON_DATA_DIR/gsm8k"')
    script = tmp_path / "script.sh"
    script.write_text(f"source {ROOT}/slurm/common.sh\ncarry_out mathreason train gsm8k.yaml\n")
    done = executed(script, tmp_path, fakes, STAGE="1", MATHREASON_BIN=str(fakes))
    assert (done.returncode, done.stdout) == (0, "755\n"), done.stderr
    program(
        fakes, "rm", '[[ $1 != -rf ]] || exit 1\nexec /bin/rm "$@"'
    )  # as where a file is still open on NFS
    done = executed(script, tmp_path, fakes, MATHREASON_BIN=str(fakes))
    assert done.returncode == 0
    assert "could not be removed" in done.stderr


@pytest.mark.parametrize("silent", [3, 10_000])
def test_job_that_cannot_ask_slurm_is_never_taken_for_done(silent: int, tmp_path: Path, fakes: Path) -> None:
    """The controller changes over while the program stops: asked again, and else the job has failed."""
    stop = '"$MATHREASON_STOP_FILE"'
    program(
        fakes, "mathreason", f"kill -USR1 $PPID; while [[ ! -e {stop} ]]; do :; done; echo why >{stop}.obeyed"
    )
    program(
        fakes,
        "scontrol",
        f'echo >>"$RECORD.asked"; (($(wc -l <"$RECORD.asked") > {silent})) || exit 1\n'
        '[[ $1 == requeue ]] && { echo "$@" >"$RECORD.requeued"; kill -TERM $PPID; }\n'
        "echo JobState=RUNNING",
    )
    program(fakes, "sleep", "exit 0")
    script = written(write_small_job(tmp_path), results=tmp_path / "r")
    done = executed(script, tmp_path, fakes)
    assert done.returncode == 1  # on a cluster the requeue has ended it before
    assert (fakes / "record.requeued").exists() == (silent < 1000)
    assert ("Slurm does not answer, so that job 4711 is not requeued" in done.stderr) == (silent > 1000)


def test_model_cache_is_where_the_hub_has_it_by_default(tmp_path: Path, fakes: Path) -> None:
    program(fakes, "mathreason", 'echo "$HF_HOME"')
    script = written(write_small_job(tmp_path), results=tmp_path / "r")
    for variables, wanted in (
        ({}, "/home/user/.cache/huggingface"),
        ({"XDG_CACHE_HOME": "/scratch/cache"}, "/scratch/cache/huggingface"),
        ({"XDG_CACHE_HOME": "/scratch/cache", "HF_HOME": "/models"}, "/models"),
    ):
        assert executed(script, tmp_path, fakes, **variables).stdout == f"{wanted}\n"


def test_one_gpu_is_one_rank_whatever_the_accelerate_configuration_says(tmp_path: Path, fakes: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump(small_job()), encoding="utf-8")
    [call] = carried_out(written(job, results=tmp_path / "results", accelerate_config="ddp"), tmp_path, fakes)
    assert call[-4:] == ["--accelerate-config", "ddp", "--processes", "1"]


def plain(calls: list[list[str]], tmp_path: Path) -> str:
    """One argument a line, without what differs from run to run."""
    import re

    lines = [f"{'' if i == 0 else '    '}{part}" for call in calls for i, part in enumerate(call)]
    text = "\n".join(lines) + "\n"
    text = re.sub(rf"{tmp_path}/fakes/mathreason-[\w.]+", "SCRATCH", text)
    for folder, said in ((tmp_path / "project", "/home/user/project"), (tmp_path / "fakes", "/tmp")):
        text = text.replace(str(folder), said)
    text = text.replace(str(ROOT), "/home/user/checkout")
    return re.sub(r"small-[0-9a-f]{8}", "small-HASH", text)


def test_resources_of_every_field_are_in_the_script(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump(small_job()), encoding="utf-8")
    asked = Resources(1, 2, 5, "7G", "11:00", "p", "a", "q", ("constraint=c",))
    two = ("training.gradient_accumulation=2",)
    text = chain_of(Request(str(job), two, resources=asked)).jobs[0].text
    for option in (
        *("--nodes=1", "--gpus-per-node=2", "--cpus-per-task=5", "--mem=7G", "--time=11:00"),
        *("--partition=p", "--account=a", "--qos=q", "--constraint=c"),
    ):
        assert f"\n#SBATCH {option}\n" in text
