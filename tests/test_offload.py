"""Weights that stay on disk: the same responses and gradients, checked for space, nothing left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Job

from mathreason import offload
from mathreason.config import LoraConfig, ModelConfig
from mathreason.errors import InputError, MathreasonError
from mathreason.evaluation.engine import Request, Sampling
from mathreason.evaluation.transformers_engine import TransformersEngine
from mathreason.jobfile import load_job, run_id
from mathreason.models import LoadedModel, apply_adapter, load_model
from mathreason.progress import Reporter
from mathreason.results import RunDir
from mathreason.session import resolve
from mathreason.training.train import add_lora
from mathreason.tuned import apply_tuned

QUIET = Reporter(quiet=True)
QUESTIONS = [f"Tom has {n} apples and buys {n + 3} more. How many has he?" for n in range(3, 9)]

HOLD = """
import sys, time
from mathreason.offload import scratch
with scratch(sys.argv[1]) as folder:
    (folder / "half").write_bytes(b"x")
    print(folder, flush=True)
    time.sleep(600)
"""


def load(dtype: str = "bfloat16", **settings: Any) -> LoadedModel:
    """The embedded model, whose file holds bfloat16."""
    return load_model(ModelConfig(name="embedded", quantization="none", dtype=dtype, **settings), QUIET)


def responses(loaded: LoadedModel) -> list[Any]:
    tokenizer: Any = loaded.tokenizer
    requests = [Request(n, q, tokenizer(q)["input_ids"], n, []) for n, q in enumerate(QUESTIONS)]
    engine = TransformersEngine(loaded, Sampling(24), 4, QUIET)
    return [answer for _, answer in sorted(engine.generate(requests))]


def file_behind(tensor: torch.Tensor) -> str | None:
    """Path of the file that a tensor's memory is mapped from (proc(5), maps)."""
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        addresses, *_, path = line.split(maxsplit=5)
        start, end = (int(address, 16) for address in addresses.split("-"))
        if start <= tensor.data_ptr() < end and path.startswith("/"):
            return path.removesuffix(" (deleted)")
    return None


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    model = add_lora(load().model, LoraConfig(r=4, alpha=8))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize("memory", ["1KiB", "3MB"])
def test_responses_are_those_of_the_model_in_memory(memory: str, adapter: Path) -> None:
    whole, parted = load(), load(max_memory={"cpu": memory})
    assert parted.facts["placed"]["disk"] > 0
    assert responses(parted) == responses(whole)
    assert responses(apply_adapter(parted, adapter)) == responses(apply_adapter(whole, adapter))


def test_what_fits_is_kept_in_memory_and_the_rest_read_from_the_models_own_file() -> None:
    from mathreason.embedded import model_path

    sizes = {memory: load(max_memory={"cpu": memory}).facts["placed"] for memory in ("1KiB", "3MB", "1GiB")}
    total = sum(sizes["1GiB"].values())
    assert sizes["1KiB"] == {"memory": 0, "disk": total}
    assert 0 < sizes["3MB"]["memory"] <= 3_000_000
    assert sizes["1GiB"]["disk"] == 0
    parameters = list(load(max_memory={"cpu": "3MB"}).model.parameters())
    places = {str(model_path() / "model.safetensors"): 0, None: 0}
    for parameter in parameters:
        places[file_behind(parameter)] += parameter.nbytes
    assert list(places.values()) == [sizes["3MB"]["disk"], sizes["3MB"]["memory"]]


def test_adapter_trains_on_weights_on_disk_with_the_same_gradients() -> None:
    gradients = []
    for settings in ({}, {"max_memory": {"cpu": "1KiB"}}):
        torch.manual_seed(1)
        model = add_lora(load(**settings).model, LoraConfig(r=4, alpha=8, dropout=0.0))
        ids = torch.arange(40)[None] + 5
        model(input_ids=ids, labels=ids).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    assert len(gradients[0]) > 10
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_another_dtype_than_the_files_is_copied_to_the_offload_folder_and_the_copy_removed(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "offload"
    parted = load(dtype="float32", max_memory={"cpu": "1KiB"}, offload_folder=str(folder))
    assert parted.facts["placed"]["disk"] > 0
    assert [path.name for path in folder.iterdir()] == [offload.LOCK]
    behind = {file_behind(parameter) for parameter in parted.model.parameters()}
    assert {Path(str(path)).parent.parent for path in behind} == {folder}
    assert responses(parted) == responses(load(dtype="float32"))


def test_another_dtype_without_an_offload_folder_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"hold bfloat16 .* set model\.offload_folder .* or model\.dtype: bfloat16"
    ):
        load(dtype="float32", max_memory={"cpu": "1KiB"})


def test_adapter_with_weights_on_disk_that_accelerate_moves_is_refused(adapter: Path) -> None:
    from transformers import AutoModelForCausalLM

    from mathreason.embedded import model_path

    limit = {"cpu": "1KiB"}
    moved = AutoModelForCausalLM.from_pretrained(
        model_path(), device_map="auto", max_memory=offload.limits(limit), dtype=torch.bfloat16
    )
    loaded = LoadedModel(moved, load().tokenizer, {"max_memory": limit})
    with pytest.raises(InputError, match="no adapter can be used with a GPU; raise cpu in it"):
        apply_adapter(loaded, adapter)


def test_model_trained_in_full_is_not_put_over_weights_on_disk(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.model.mkdir()
    with pytest.raises(InputError, match=r"replaces all weights.*leave model\.max_memory out"):
        apply_tuned(load(max_memory={"cpu": "1KiB"}), run)


# -- what does not fit -------------------------------------------------------------------------------


@pytest.fixture
def enormous(tmp_path: Path) -> Path:
    """A model folder whose weight file says that it holds 4 TiB."""
    from mathreason.embedded import model_path

    folder = tmp_path / "enormous"
    folder.mkdir()
    for path in model_path().iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    entry = {"dtype": "F32", "shape": [1 << 20, 1 << 20], "data_offsets": [0, 1 << 42]}
    header = json.dumps({"model.layers.0.mlp.up_proj.weight": entry}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


def test_weights_that_do_not_fit_are_refused_before_loading_with_what_would_fit(enormous: Path) -> None:
    with pytest.raises(
        MathreasonError, match=r"take 4096\.0 GiB in float32.*quantization: nf4 \(5\d\d\.\d GiB\).*max_memory"
    ):
        load_model(ModelConfig(name=str(enormous), quantization="none", dtype="float32"), QUIET)
    with pytest.raises(MathreasonError, match=r"take 5\d\d\.\d GiB in nf4"):
        load_model(ModelConfig(name=str(enormous)), QUIET)


def test_more_memory_than_there_is_is_refused(enormous: Path) -> None:
    config = ModelConfig(name=str(enormous), quantization="none", dtype="float32", max_memory={"cpu": "3TiB"})
    with pytest.raises(MathreasonError, match=r"model\.max_memory: cpu is 3072\.0 GiB"):
        load_model(config, QUIET)


def test_space_on_disk_is_checked_before_anything_is_written(enormous: Path, tmp_path: Path) -> None:
    folder = tmp_path / "not there yet"
    config = ModelConfig(
        name=str(enormous),
        quantization="none",
        dtype="bfloat16",
        max_memory={"cpu": "1MiB"},
        offload_folder=str(folder),
    )
    with pytest.raises(
        MathreasonError, match=r"model\.offload_folder: 2048\.0 GiB of weights are to be written"
    ):
        load_model(config, QUIET)
    assert not folder.exists()


def test_offload_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"model\.offload_folder: .*file cannot be used"):
        load(max_memory={"cpu": "1KiB"}, offload_folder=str(tmp_path / "file"))


def test_copies_of_a_killed_process_are_removed_and_those_of_a_living_one_kept(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        try:
            with offload.scratch(str(tmp_path)) as ours:
                assert ours != theirs
                assert (theirs / "half").exists()
        finally:
            other.send_signal(signal.SIGKILL)
            other.wait()
    assert (theirs / "half").exists()
    with offload.scratch(str(tmp_path)) as ours:
        assert ours is not None
        assert not theirs.exists()
        assert list(ours.iterdir()) == [ours / offload.LOCK]
    assert [path.name for path in tmp_path.iterdir()] == [offload.LOCK]


# -- the job file ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "said"),
    [
        (
            {"cpu": "6"},
            r"job\.yaml:\d+: model\.max_memory\.cpu: '6' is no size of memory; write a number and a unit",
        ),
        ({"cpu": 6}, r"job\.yaml:\d+: model\.max_memory\.cpu: must be a valid string, is 6"),
        ({"cpu": "0GiB"}, r"job\.yaml:\d+: model\.max_memory\.cpu: '0GiB' is no size"),
        (
            {"gpu": "6GiB"},
            r"job\.yaml:\d+: model\.max_memory: 'gpu' is no memory; name 'cpu', or a GPU by its",
        ),
        ({}, r"job\.yaml:\d+: model\.max_memory: "),
    ],
)
def test_wrong_memory_is_named_with_file_line_and_key(
    memory: dict[str, Any], said: str, job: Job, write_job: Callable[[Job], Path]
) -> None:
    job["model"]["max_memory"] = memory
    with pytest.raises(InputError, match=said):
        load_job(write_job(job))


def test_memory_with_nf4_is_refused(job: Job, write_job: Callable[[Job], Path]) -> None:
    job["model"] |= {"max_memory": {"cpu": "6GiB"}, "quantization": "nf4"}
    with pytest.raises(InputError, match=r"model: .*max_memory .* set quantization: none"):
        load_job(write_job(job))


def test_where_weights_are_kept_is_no_part_of_a_run(
    finished_run: Path, job: Job, write_job: Callable[[Job], Path]
) -> None:
    before = run_id(load_job(write_job(job)))
    job["model"] |= {"max_memory": {"cpu": "6GiB", 0: "20GiB"}, "offload_folder": "/somewhere"}
    placed = load_job(write_job(job))
    assert run_id(placed) == before
    assert offload.limits(placed.model.max_memory or {}) == {"cpu": 6 << 30, 0: 20 << 30}
    target = resolve(str(finished_run), ["model.max_memory={cpu: 1MiB}"], None, None)
    assert target.job.model.max_memory == {"cpu": "1MiB"}
