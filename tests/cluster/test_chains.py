"""What is submitted, to the letter, and what is refused before."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT, run_program, small_job

from mathreason.cluster import slurm
from mathreason.cluster.chains import Request, chain_of, prepare
from mathreason.cluster.scripts import Resources
from mathreason.cluster.submit import described, helper_file
from mathreason.errors import InputError, MathreasonError
from mathreason.results import write_json
from mathreason.sweep import load_sweep

FULL = Resources(2, 8, 64, "480G", "08:00:00", "gpu", "maths", "high", ("constraint=a100", "--exclusive"))
SIXTEEN = ("training.gradient_accumulation=16",)
REQUESTS: dict[str, dict[str, Any]] = {
    "train_native": {},
    "train_docker": {"runtime": "docker", "image": "mathreason:0.1.0", "data_dir": Path("data")},
    "train_apptainer": {"runtime": "apptainer", "image": "mathreason.sif", "max_restarts": 3},
    "train_pyxis_nodes": {
        "runtime": "pyxis",
        "image": "mathreason+latest.sqsh",
        "resources": FULL,
        "accelerate_config": "ddp",
        "overrides": SIXTEEN,
    },
    "pipeline_native": {"pipeline": True, "shards": 3},
    "pipeline_docker": {
        "pipeline": True,
        "runtime": "docker",
        "image": "mathreason",
        "resources": replace(FULL, nodes=1),
        "overrides": SIXTEEN,
    },
    "sweep_native": {"overrides": ("training.learning_rate=2e-3",)},
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a job, a sweep and data, which is where the user stands."""
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(small_job()), encoding="utf-8")
    sweep = {**small_job(), "name": "rates", "sweep": {"grid": {"lora.r": [2, 4]}, "seeds": [1, 2]}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep), encoding="utf-8")
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plain(text: str, checkout: Path) -> str:
    """Without what differs from machine to machine: folders, the installation, the hash of the job."""
    text = text.replace(str(checkout), "/home/user/project")
    text = re.sub(r"^export MATHREASON_BIN=.*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"\b(small|rates-sweep)-[0-9a-f]{8}", r"\1-HASH", text)


@pytest.mark.parametrize("name", REQUESTS)
def test_generated_scripts_are_these(name: str, checkout: Path, golden: Callable[[str, str], None]) -> None:
    job = "sweep.yaml" if name.startswith("sweep") else "job.yaml"
    chain = chain_of(Request(job, results=Path("results"), **REQUESTS[name]))
    golden(f"{name}.sh", plain("\n".join(described(chain.jobs)), checkout))
    assert not (checkout / "results").exists()


def test_dry_run_prints_what_would_be_submitted_and_leaves_nothing(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = checkout / "job.yaml"
    done = run_program("submit", job, "--results", checkout / "results", "--pipeline", "--dry-run")
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(ROOT)  # where the program ran
    chain = chain_of(Request(str(job), results=checkout / "results", pipeline=True))
    expected = "".join(f"{line}\n" for line in described(chain.jobs))
    assert done.stdout == expected
    assert not (checkout / "results").exists()


SBATCH = """#!/bin/bash
number=$((90001 + $(ls "$RECORD" | wc -l)))
for argument; do [[ $argument != /* ]] || script=${script:-$argument}; done
{ printf '%s\\0' "$@"; cat "$script"; } >"$RECORD/$number"
[[ $number != "$FAILS" ]] || { echo "sbatch: error: no more" >&2; exit 1; }
[[ $number != "$INTERRUPTED" ]] || { kill -INT $PPID; sleep 10; }
echo "$number;cluster"
"""


@pytest.fixture
def sbatch(tmp_path: Path) -> dict[str, str]:
    """The environment of a login node whose sbatch notes what it is given, and scancel what is cancelled."""
    programs, record = tmp_path / "programs", tmp_path / "record"
    programs.mkdir()
    record.mkdir()
    for name, text in {"sbatch": SBATCH, "scancel": '#!/bin/bash\necho "$@" >"$RECORD.cancelled"\n'}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    none = {"FAILS": "", "INTERRUPTED": ""}
    return {"PATH": f"{programs}:{os.environ['PATH']}", "RECORD": str(record), **none}


def test_sbatch_is_given_what_dry_run_printed(checkout: Path, sbatch: dict[str, str]) -> None:
    asked = ("submit", checkout / "job.yaml", "--results", checkout / "it's $(r)", "--pipeline")
    printed = run_program(*asked, "--dry-run")
    done = run_program(*asked, environment=sbatch)
    assert done.returncode == 0, done.stderr
    stages = ("train", "base", "tuned", "report", "cleanup")
    given = ""
    for call in sorted((checkout / "record").iterdir()):
        _, *arguments, text = call.read_text(encoding="utf-8").split("\0")  # the first: --parsable
        for number, stage in enumerate(stages, start=90001):
            arguments = [argument.replace(str(number), f"<{stage}>") for argument in arguments]
        script = next(argument for argument in arguments if argument.startswith("/"))
        given += f"# {script}\n{text}# sbatch {shlex.join(arguments)}\n\n"
    assert given == printed.stdout
    assert [line.replace(",", "").split()[:3] for line in done.stdout.splitlines()[:-1]] == [
        [stage, "job", str(number)] for number, stage in enumerate(stages, start=90001)
    ]
    [run] = (checkout / "it's $(r)").iterdir()
    assert (run / "slurm" / "common.sh").read_bytes() == helper_file().read_bytes()


@pytest.mark.parametrize(("ending", "code"), [("FAILS", 2), ("INTERRUPTED", 130)])
def test_half_a_chain_is_taken_back(ending: str, code: int, checkout: Path, sbatch: dict[str, str]) -> None:
    asked = ("submit", checkout / "job.yaml", "--results", checkout / "r", "--pipeline")
    done = run_program(*asked, environment={**sbatch, ending: "90003"})
    assert done.returncode == code, done.stderr
    assert (checkout / "record.cancelled").read_text() == "90001 90002\n"


def test_sbatch_that_does_not_answer_may_have_queued_the_job(
    checkout: Path, sbatch: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / "programs" / "sbatch").write_text("#!/bin/bash\nexec sleep 60\n")
    monkeypatch.setenv("PATH", sbatch["PATH"])
    monkeypatch.setattr(slurm, "PATIENCE_SECONDS", 0.2)
    with pytest.raises(MathreasonError, match="look at `squeue --me` before you submit again"):
        slurm.sbatch(["script.sh"])


def test_an_option_that_slurm_would_read_as_another_is_refused(checkout: Path) -> None:
    for text in ("gpu\n#SBATCH --uid=0", "a b", "gpu;reboot", "$(id)", "gpu'"):
        with pytest.raises(InputError, match="cannot stand in a batch script"):
            chain_of(Request(str(checkout / "job.yaml"), resources=Resources(partition=text)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"runtime": "podman"}, "--runtime podman: choose one of native, docker, apptainer, pyxis"),
        ({"runtime": "docker"}, "--runtime docker needs --image"),
        ({"image": "mathreason"}, "--image goes with --runtime docker"),
        ({"data_dir": Path("nowhere")}, "--data-dir nowhere: no such folder"),
        ({"gpu_memory": "many"}, "--gpu-memory"),
        ({"gpu_memory": "100MiB"}, "the training does not fit into 100MiB"),
        ({"accelerate_config": "zero9"}, "--accelerate-config zero9"),
        ({"overrides": ("model.name=some/model",)}, r"without network: model some/model \(config.json"),
        (
            {"overrides": ("data.mixture=[{source: gsm8k}]",), "data_dir": Path("data")},
            r"data gsm8k/train \(data/gsm8k/train.jsonl\).*data prefetch .*job.yaml --set .* --data-dir data",
        ),
        ({"overrides": ("model.quantization=nf4",), "accelerate_config": "zero3_cpu_offload"}, "nf4"),
        ({"gpu_memory": "80GiB", "accelerate_config": "zero3_cpu_offload"}, "leave out --gpu-memory"),
        (
            {"runtime": "docker", "image": "mathreason", "resources": Resources(nodes=2)},
            "--runtime docker is for one node",
        ),
        (  # of a sweep, one run alone too large: its rank
            {"target": "large.yaml", "gpu_memory": "2GiB"},
            "the training does not fit into 2GiB",
        ),
        ({"overrides": ("training.learning_rate=-1",)}, "training.learning_rate"),
        ({"results": Path("a\\b")}, "for the backslash in its name"),
        ({"resources": Resources(nodes=3, gpus=8)}, "gradient_accumulation is 1, which 24 processes cannot"),
    ],
)
def test_what_would_fail_on_the_cluster_is_refused_before(
    change: dict[str, Any], said: str, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(checkout / "no-cache"))
    large = {**small_job(), "sweep": {"grid": {"lora.r": [2, 1_000_000]}}}
    (checkout / "large.yaml").write_text(yaml.safe_dump(large), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        chain_of(Request(**{"target": str(checkout / "job.yaml"), **change}))


SINFO = """#!/bin/bash
[[ $* == *%G* ]] || exit
echo "gpu* gpu:a100:8(S:0-1)"
echo "gpu* (null)"
echo "small gpu:tesla_v100-sxm2-16gb:4(S:0),shard:8"
echo "parts gpu:a100_1g.5gb:7"
echo "mixed gpu:a100:4,gpu:h200:4"
echo "unsaid gpu:8"
echo "unknown gpu:a100:4,gpu:quick:4"
echo "cpu (null)"
"""


@pytest.fixture
def sinfo(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = checkout / "sinfo"
    programs.mkdir()
    (programs / "sinfo").write_text(SINFO)
    (programs / "sinfo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


@pytest.mark.usefixtures("sinfo")
def test_largest_gpu_is_known_from_the_names_that_slurm_has() -> None:
    names = {
        "gpu": 80,
        "small": 16,
        "parts": 5,
        "mixed": 141,
        "small,gpu": 80,
        "unsaid": None,
        "unknown": None,
    }
    assert {name: slurm.largest_gpu(name) for name in names} == names
    assert [slurm.largest_gpu(name) for name in (None, "cpu", "nothing")] == [80, None, None]


@pytest.mark.usefixtures("sinfo")
def test_a_job_that_cannot_be_planned_is_refused(checkout: Path) -> None:
    request = Request(str(checkout / "job.yaml"), ("lora.target_modules=[no_such]",), results=checkout)
    with pytest.raises(InputError, match=r"lora.target_modules: this model has no layer named no_such"):
        chain_of(request)


@pytest.mark.usefixtures("sinfo")
@pytest.mark.parametrize(
    ("change", "passes"),
    [
        ({}, True),
        ({"partition": "parts"}, False),
        ({"partition": "unsaid"}, True),
        ({"partition": "parts", "gpus": 0}, True),
        ({"extra": ("partition=unsaid",)}, True),
    ],
)
def test_training_is_refused_that_fits_no_gpu_of_the_partition(
    change: dict[str, Any], passes: bool, checkout: Path
) -> None:
    job = small_job()
    job["lora"]["r"] = 40_000  # some 8 GiB
    (checkout / "large.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    request = Request(str(checkout / "large.yaml"), resources=Resources(**change), results=checkout)
    if passes:
        chain_of(request)
    else:
        with pytest.raises(InputError, match="does not fit into 5 GiB, the largest GPU there is"):
            chain_of(request)


@pytest.mark.parametrize(
    ("gpus", "passes"), [(1, True), (2, False)], ids=["one-rank", "two-ranks-cannot-divide-one-block"]
)
def test_the_ranks_checked_are_those_that_will_run(gpus: int, passes: bool, checkout: Path) -> None:
    """Not those of the accelerate configuration, whose num_processes is 2."""
    request = Request(
        str(checkout / "job.yaml"), accelerate_config="ddp", resources=Resources(gpus=gpus), results=checkout
    )
    if passes:
        chain_of(request)
    else:
        with pytest.raises(InputError, match="gradient_accumulation is 1, which 2 processes cannot"):
            chain_of(request)


def test_nodes_that_are_online_need_nothing_fetched_beforehand(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(checkout / "no-cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    chain = chain_of(Request(str(checkout / "job.yaml"), ("data.mixture=[{source: gsm8k}]",), checkout / "r"))
    assert "\nexport HF_HUB_OFFLINE=0\n" in chain.jobs[0].text


def test_queued_sweep_does_not_change_with_the_file_it_came_from(checkout: Path) -> None:
    request = Request("sweep.yaml", ("training.learning_rate=2e-3",), checkout / "r")
    chain = chain_of(request)
    before = load_sweep(Path("sweep.yaml"), list(request.overrides))
    prepare(chain)
    Path("sweep.yaml").unlink()
    kept = load_sweep(chain.folder / "job.yaml")
    assert (kept.id, [run.id for run in kept.runs]) == (before.id, [run.id for run in before.runs])


def test_refused_second_submission_leaves_the_settings_of_the_first(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = chain_of(Request("job.yaml", results=checkout / "r"))
    prepare(first)
    write_json(first.folder / "submission.json", {"jobs": [{"stage": "train", "id": "7"}]})
    monkeypatch.setattr(slurm, "queue", lambda _: [slurm.Entry("7", "7", "PENDING", "Priority")])
    other = chain_of(Request("job.yaml", ("evaluation.max_new_tokens=7",), checkout / "r"))
    assert other.folder == first.folder
    before = (first.folder.parent / "job.yaml").read_bytes()
    with pytest.raises(InputError, match="is submitted already: jobs 7 wait or run"):
        prepare(other)
    assert (first.folder.parent / "job.yaml").read_bytes() == before


@pytest.mark.parametrize(("here", "refused"), [("here", True), (None, True), ("there", False)])
def test_jobs_of_another_cluster_are_said_and_not_looked_for_here(
    here: str | None, refused: bool, checkout: Path, sbatch: dict[str, str]
) -> None:
    """Where Slurm does not say its name, the jobs are taken for its own."""
    programs = {
        "squeue": "echo '7|7|PENDING|Priority'",
        "scontrol": f"echo 'ClusterName = {here}'" if here else "exit 1",
    }
    for name, text in programs.items():
        (checkout / "programs" / name).write_text(f"#!/bin/bash\n{text}\n")
        (checkout / "programs" / name).chmod(0o755)
    first = chain_of(Request("job.yaml", results=checkout / "r"))
    prepare(first)
    earlier = {"cluster": "here", "jobs": [{"stage": "train", "id": "7"}]}
    write_json(first.folder / "submission.json", earlier)
    done = run_program("submit", checkout / "job.yaml", "--results", checkout / "r", environment=sbatch)
    assert (done.returncode == 2) == refused, done.stderr
    assert ("is submitted already: jobs 7 wait or run" in done.stderr) == refused
    assert ("it was submitted on cluster here before" in done.stderr) != refused


@pytest.mark.usefixtures("checkout")
def test_pipeline_of_a_sweep_is_refused() -> None:
    with pytest.raises(InputError, match="leave out --pipeline"):
        chain_of(Request("sweep.yaml", pipeline=True))


def test_without_slurm_one_sentence_says_so(checkout: Path) -> None:
    done = run_program(
        "submit", checkout / "job.yaml", "--results", checkout / "r", environment={"PATH": "/nonexistent"}
    )
    assert done.returncode == 2
    assert done.stderr == (
        "Error: there is no sbatch here; call this where Slurm's programs are, or add --dry-run\n"
    )
    assert not (checkout / "r").exists()


def test_worked_example_of_two_nodes_passes_and_is_this(
    checkout: Path, golden: Callable[[str, str], None]
) -> None:
    """What slurm/README.md shows, with the model's files in the cache and the data in a folder."""
    snapshot = checkout / "hub" / "models--mistralai--Mistral-7B-v0.1" / "snapshots" / ("0" * 40)
    for path in (
        *(snapshot / name for name in ("config.json", "tokenizer.json", "model.safetensors")),
        *(checkout / "data" / name for name in ("gsm8k/train.jsonl", "gsm8k/test.jsonl")),
        checkout / "data" / "numinamath_qwq_cot" / "train.jsonl",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    refs = snapshot.parent.parent / "refs" / "main"
    refs.parent.mkdir()
    refs.write_text(snapshot.name, encoding="utf-8")
    job = ROOT / "jobs" / "mistral_7b_two_nodes.yaml"
    config = ("--accelerate-config", "zero3_cpu_offload")
    assert run_program("validate", job, *config).returncode == 0
    done = run_program(
        *("submit", job, "--nodes", "2", "--gpus", "8", *config, "--dry-run"),
        *("--results", checkout / "results", "--data-dir", checkout / "data"),
        environment={"HF_HOME": str(checkout), "HF_HUB_CACHE": str(checkout / "hub")},
    )
    assert done.returncode == 0, done.stderr
    text = plain(done.stdout, checkout).replace(str(ROOT), "/home/user/project")
    golden("two_nodes.sh", re.sub(r"nodes-[0-9a-f]{8}", "nodes-HASH", text))
