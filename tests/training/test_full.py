"""Full fine-tuning: every weight learns, the result is a whole model that plain transformers loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from processes import cleared, ended, run_in, start, wait_until
from safetensors.torch import load_file
from support import run_program, small_job

from mathreason.config import JobConfig
from mathreason.data.prompts import Prompter
from mathreason.errors import InputError, MathreasonError
from mathreason.export import export
from mathreason.jobfile import load_job, run_id
from mathreason.models import LoadedModel, load_tokenizer
from mathreason.progress import Reporter
from mathreason.results import RunDir, read_appended, read_json
from mathreason.training.full import INDEX, export_model, trainable
from mathreason.tuned import apply_tuned, model_sha256, tuned_sha256

QUIET = Reporter(quiet=True)


def full_job(**model: Any) -> dict[str, Any]:
    job = small_job()
    job["model"].update(model)
    job["training"].update(approach="full", learning_rate=1e-3, max_steps=6, keep_last=9)
    del job["lora"]
    return job


def written(folder: Path, job: dict[str, Any]) -> Path:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return path


def the_run(results: Path) -> RunDir:
    run = run_in(results)
    assert run is not None
    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    folder = tmp_path_factory.mktemp("full")
    done = run_program("run", written(folder, full_job()), "--results", folder / "results")
    assert done.returncode == 0, done.stderr
    return the_run(folder / "results")


def base_weights() -> dict[str, torch.Tensor]:
    from mathreason.embedded import model_path

    return load_file(str(model_path() / "model.safetensors"))


# -- the result ------------------------------------------------------------------------------------


def test_run_has_a_whole_model_and_no_adapter(finished: RunDir) -> None:
    train = read_json(finished.train)
    assert not finished.adapter.exists()
    assert (train["approach"], train["frozen_parameters"]) == ("full", 0)
    assert train["model_sha256"] == model_sha256(finished.model) == tuned_sha256(finished)
    assert "adapter_sha256" not in train
    losses = [point["loss"] for point in train["validation"]]
    assert losses[-1] < losses[0]
    tuned = read_json(finished.evaluation("generator", "tuned"))
    assert tuned["adapter"] == {"sha256": train["model_sha256"], "path": "model"}


def test_every_weight_has_changed(finished: RunDir) -> None:
    base, tuned = base_weights(), load_file(str(finished.model / "model.safetensors"))
    assert set(tuned) == set(base)
    assert [name for name, tensor in tuned.items() if torch.equal(tensor, base[name].to(tensor.dtype))] == []


def test_model_is_the_best_checkpoint(finished: RunDir) -> None:
    step = read_json(finished.train)["best"]["step"]
    checkpoint = load_file(str(finished.checkpoints / f"checkpoint-{step}" / "model.safetensors"))
    model = load_file(str(finished.model / "model.safetensors"))
    assert all(torch.equal(model[name], tensor) for name, tensor in checkpoint.items())


SCRIPT = """
import json, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, prompts, new_tokens = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder).eval()
assert model.dtype == torch.float32
responses = []
for prompt in json.load(open(prompts)):
    ids = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        output = model.generate(**ids, do_sample=False, max_new_tokens=int(new_tokens))
    responses.append(tokenizer.decode(output[0, ids["input_ids"].shape[1]:], skip_special_tokens=True))
assert "mathreason" not in sys.modules
print(json.dumps(responses))
"""


def test_plain_transformers_gives_the_evaluated_responses(finished: RunDir, tmp_path: Path) -> None:
    job = load_job(finished.job)
    rows = read_appended(finished.samples("generator", "tuned"))
    assert rows != read_appended(finished.samples("generator", "base"))
    prompter = Prompter(job.prompt, load_tokenizer(job.model))
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps([prompter.prompt(row["question"]) for row in rows]))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(finished.model), str(prompts), str(job.evaluation.max_new_tokens)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [row["response"] for row in rows]


def test_second_call_does_nothing_and_a_changed_model_is_noticed(finished: RunDir, tmp_path: Path) -> None:
    import shutil

    copy = RunDir(tmp_path / finished.id)
    shutil.copytree(finished.path, copy.path)
    assert run_program("train", copy.path).returncode == 0
    with (copy.model / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    done = run_program("train", copy.path)
    assert done.returncode == 1
    assert "model is not what" in done.stderr


def test_export_says_that_there_is_nothing_to_merge(finished: RunDir, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a whole model"):
        export(finished, tmp_path / "merged", "auto", QUIET)


def test_solve_answers_with_the_tuned_model(finished: RunDir) -> None:
    from mathreason.solve import solve

    [first, *_] = read_appended(finished.samples("generator", "tuned"))
    assert solve(finished, first["question"]).response == first["response"].strip()


# -- never lost ------------------------------------------------------------------------------------


def test_killed_run_ends_with_the_same_model(tmp_path: Path) -> None:
    job = full_job()
    job["training"].update(max_steps=12)
    job_file = written(tmp_path, job)

    def train(results: Path) -> Any:
        return start("train", job_file, "--results", results, output=tmp_path / "screen.txt")

    with cleared([process := train(tmp_path / "undisturbed")]):
        assert ended(process) == 0
    results = tmp_path / "killed"
    with cleared([process := train(results)]):
        wait_until(lambda: any(results.glob("*/checkpoints/checkpoint-4")), process)
        process.kill()
        ended(process)
    with cleared([process := train(results)]):
        assert ended(process) == 0
    assert read_json(the_run(results).train)["resumed_from"] >= 4
    assert tuned_sha256(the_run(results)) == tuned_sha256(the_run(tmp_path / "undisturbed"))


# -- refusals --------------------------------------------------------------------------------------


def test_four_bit_weights_are_refused_with_the_reason(tmp_path: Path) -> None:
    done = run_program("validate", written(tmp_path, full_job(quantization="nf4")))
    assert done.returncode == 2
    assert "training: approach full trains the weights themselves, but nf4" in done.stderr


def test_vllm_is_refused(finished: RunDir) -> None:
    from mathreason.evaluation.engines import open_engines

    job = load_job(finished.job, ["evaluation.engine=vllm"])
    with pytest.raises(InputError, match="fine-tuned in full"):
        open_engines(job, finished, QUIET)


def test_runs_from_before_keep_their_ids() -> None:
    values = small_job()
    explicit = {**values, "training": {**values["training"], "approach": "lora"}}
    ids = [run_id(JobConfig.model_validate(job)) for job in (values, explicit)]
    assert ids[0] == ids[1]
    assert run_id(JobConfig.model_validate(full_job())) != ids[0]


# -- weights in the base's place -------------------------------------------------------------------


def test_bfloat16_model_is_trained_in_float32_and_written_in_bfloat16(loaded: Any, tmp_path: Path) -> None:
    model = trainable(loaded.model.to(torch.bfloat16))
    assert {(p.dtype, p.requires_grad) for p in model.parameters()} == {(torch.float32, True)}
    model.save_pretrained(tmp_path / "checkpoint", max_shard_size="1MB")
    assert (tmp_path / "checkpoint" / INDEX).is_file()
    facts = {**loaded.facts, "dtype": "bfloat16"}
    export_model(tmp_path / "checkpoint", tmp_path / "model", LoadedModel(model, loaded.tokenizer, facts))
    files = sorted((tmp_path / "model").glob("*.safetensors"))
    tensors = {name: tensor for file in files for name, tensor in load_file(str(file)).items()}
    assert len(files) > 1
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    index = json.loads((tmp_path / "model" / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(2 * tensor.numel() for tensor in tensors.values())
    assert set(index["weight_map"]) == set(tensors)
    from transformers import AutoModelForCausalLM

    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert again.dtype == torch.bfloat16
    own = model.state_dict()
    assert all(torch.equal(p, own[name].to(torch.bfloat16)) for name, p in again.state_dict().items())
    modes = {path.stat().st_mode for path in (tmp_path / "model").iterdir()}
    assert len(modes) == 1


def test_weights_that_do_not_fit_or_change_nothing_are_refused(loaded: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    run = RunDir(tmp_path)
    run.model.mkdir()
    with pytest.raises(InputError, match="holds no model"):
        apply_tuned(loaded, run)
    weights, file = base_weights(), str(run.model / "model.safetensors")
    save_file(weights, file)
    with pytest.raises(MathreasonError, match="nothing was trained"):
        apply_tuned(loaded, run)
    name = "model.layers.0.self_attn.q_proj.weight"
    save_file({key: tensor for key, tensor in weights.items() if key != name}, file)
    with pytest.raises(MathreasonError, match=f"lacks 1 tensors, such as {name}"):
        apply_tuned(loaded, run)
    save_file({**weights, name: weights[name][:-1].contiguous()}, file)
    with pytest.raises(MathreasonError, match=f"does not fit the base model: tensor {name}"):
        apply_tuned(loaded, run)
