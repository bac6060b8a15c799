"""An exported model answers as its adapter did, says what it is, and is whole or not there."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file
from support import ROOT, command, run_program, run_script, small_job

from mathreason.config import PromptConfig
from mathreason.data.generator import generate
from mathreason.data.prompts import Prompter
from mathreason.results import process_space

PLAIN = """
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

assert "mathreason" not in sys.modules
base, adapter, merged, prompts = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(merged)
tuned, untuned = (AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32) for _ in range(2))
tuned = PeftModel.from_pretrained(tuned, adapter).eval()
alone = AutoModelForCausalLM.from_pretrained(merged).eval()
texts = []
for prompt in json.load(open(prompts)):
    ids = tokenizer(prompt, return_tensors="pt")
    answers = [
        tokenizer.decode(model.generate(**ids, max_new_tokens=40, do_sample=False, pad_token_id=0)[0])
        for model in (tuned, alone, untuned)
    ]
    texts.append(answers)
print(json.dumps({"texts": texts, "dtype": str(alone.dtype), "class": type(alone).__name__}))
"""


def trained(folder: Path, environment: dict[str, str] | None = None, **changes: dict[str, Any]) -> Path:
    """A run trained in `folder`, `changes` made to sections of its job."""
    job = small_job()
    for section, values in changes.items():
        job[section] |= values
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    done = run_program("train", path, "--results", folder / "results", environment=environment)
    assert done.returncode == 0, done.stderr
    [found] = (folder / "results").iterdir()
    return found


def change_weights(file: Path) -> None:
    """Another base of the same shape."""
    tensors = load_file(file)
    name = next(name for name in tensors if "down_proj" in name)
    file.unlink()  # it may be read-only, as a file of the package
    save_file({**tensors, name: tensors[name] * 1.5}, file, {"format": "pt"})


def manifest_of(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "mathreason.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run with a weak adapter, and the folder its base model is in; do not change them."""
    from mathreason.embedded import model_path

    folder = tmp_path_factory.mktemp("local")
    base = folder / "my-base"
    shutil.copytree(model_path(), base)
    return trained(folder, model={"name": str(base)}, training={"learning_rate": 1e-4}), base


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose adapter really changes what the model writes."""
    folder = tmp_path_factory.mktemp("tuned")
    job = small_job()
    job["data"]["mixture"] = [{"source": "generator", "count": 300}]
    job["training"] |= {"max_steps": 60, "learning_rate": 4e-3, "micro_batch": 2, "checkpoint_steps": 30}
    job["lora"] = {"r": 8, "alpha": 16, "dropout": 0.1}
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    done = run_program("run", path, "--results", folder / "results")
    assert done.returncode == 0, done.stderr
    [found] = (folder / "results").iterdir()
    return found


@pytest.fixture(scope="module")
def merged(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("exported") / "model"
    done = run_program("export", run, "--output", output, "--dtype", "float32")
    assert done.returncode == 0, done.stderr
    assert str(output) in done.stdout
    return output


@pytest.fixture
def changed_run(run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may change."""
    copy = tmp_path / run.name
    shutil.copytree(run, copy)
    return copy


def test_merged_and_adapter_write_the_same_for_fifty_problems(
    run: Path, merged: Path, tmp_path: Path, tokenizer: Any
) -> None:
    from mathreason.embedded import model_path

    prompter = Prompter(PromptConfig(), tokenizer)
    problems = generate("test", 50, 7)
    (tmp_path / "prompts.json").write_text(json.dumps([prompter.prompt(p.question) for p in problems]))
    script = tmp_path / "plain.py"
    script.write_text(PLAIN, encoding="utf-8")
    done = run_script(script, model_path(), run / "adapter", merged, tmp_path / "prompts.json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["dtype"] == "torch.float32"
    assert len(found["texts"]) == 50
    assert [with_adapter for with_adapter, _, _ in found["texts"]] == [
        alone for _, alone, _ in found["texts"]
    ]
    assert sum(tuned != base for tuned, _, base in found["texts"]) > 25  # the adapter is not nothing


def test_the_folder_holds_what_transformers_and_vllm_read(merged: Path) -> None:
    config = json.loads((merged / "config.json").read_text(encoding="utf-8"))
    names = {path.name for path in merged.iterdir()}
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["dtype"] == "float32"
    assert "quantization_config" not in config
    assert {"model.safetensors", "tokenizer.json", "generation_config.json", "README.md"} <= names
    assert not any("adapter" in name for name in names)


def test_manifest_lists_every_file(merged: Path) -> None:
    manifest = json.loads((merged / "mathreason.json").read_text(encoding="utf-8"))
    there = {path.name for path in merged.iterdir()} - {"mathreason.json"}
    assert set(manifest["files"]) == there
    assert manifest["check"]["same_next_token"] == manifest["check"]["tokens"] > 100
    assert manifest["check"]["difference"] < 1e-4
    assert manifest["check"]["distance_from_base"] > 0.1
    assert manifest["check"]["verdict"] == "carried"
    assert manifest["base"]["recorded_in_training"]


def test_the_card_has_the_figures_of_the_run(run: Path, merged: Path) -> None:
    card = (merged / "README.md").read_text(encoding="utf-8")
    _, head, body = card.split("---\n", 2)
    values = yaml.safe_load(head)
    data, train, comparison = (
        json.loads((run / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("data", "train", "comparison")
    )
    found = comparison["benchmarks"]["generator"]
    assert values["library_name"] == "transformers"
    [result] = values["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == round(100 * found["tuned"]["value"], 2)
    for section in ("Use", "Scores", "Contamination", "Data", "Training", "Provenance", "Limits"):
        assert f"## {section}\n" in body
    for variant in ("base", "tuned"):
        shown = [f"{100 * found[variant][key]:.1f}" for key in ("value", "low", "high")]
        assert f"{shown[0]} % [{shown[1]}, {shown[2]}]" in body
    assert found["verdict"] in body
    assert f"| generator | train | {data['sources'][0]['read']} | {data['sources'][0]['taken']} |" in body
    assert f"{data['counts']['train']} problems for training" in body
    assert found["contamination"]["note"] in body
    for warning in comparison["warnings"]:
        assert warning in body
    evaluation = json.loads((run / "evaluations/generator/tuned.json").read_text(encoding="utf-8"))
    assert f"greedy, 1 response to an item, at most {evaluation['settings']['max_new_tokens']} tokens" in body
    assert train["base_weights"] in body
    assert "r = 8, alpha = 16, dropout 0.1" in body
    assert train["adapter_sha256"] in body
    assert "{question}" in body


def test_the_cards_example_runs(merged: Path, tmp_path: Path) -> None:
    card = (merged / "README.md").read_text(encoding="utf-8")
    code = card.split("```python\n", 1)[1].split("```", 1)[0].replace("PATH", str(merged))
    script = tmp_path / "example.py"
    script.write_text(code, encoding="utf-8")
    done = run_script(script)
    assert done.returncode == 0, done.stderr
    assert "Tom has 3 bags" in done.stdout


def test_a_second_call_finds_it_complete(run: Path, merged: Path) -> None:
    before = (merged / "model.safetensors").stat().st_mtime_ns
    done = run_program("export", run, "--output", merged, "--dtype", "float32")
    assert done.returncode == 0
    assert "complete already" in done.stderr
    assert (merged / "model.safetensors").stat().st_mtime_ns == before


def test_a_folder_with_something_else_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years", encoding="utf-8")
    done = run_program("export", run, "--output", tmp_path / "mine")
    assert done.returncode == 2
    assert "is no export" in done.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_another_dtype_does_not_replace_the_export(run: Path, merged: Path) -> None:
    done = run_program("export", run, "--output", merged, "--dtype", "bfloat16")
    assert done.returncode == 2
    assert "another export (float32" in done.stderr


def test_sixteen_bit_weights_are_said_and_checked(run: Path, tmp_path: Path) -> None:
    done = run_program("export", run, "--output", tmp_path / "half")  # the embedded model is stored in 16 bit
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "half" / "mathreason.json").read_text(encoding="utf-8"))
    config = json.loads((tmp_path / "half" / "config.json").read_text(encoding="utf-8"))
    assert (manifest["dtype"], config["dtype"]) == ("bfloat16", "bfloat16")
    assert 0 < manifest["check"]["difference"] < manifest["check"]["tolerance"]
    assert "merged into bfloat16 weights" in (tmp_path / "half" / "README.md").read_text(encoding="utf-8")


def test_a_run_without_adapter_says_how_to_train(changed_run: Path, tmp_path: Path) -> None:
    (changed_run / "train.json").unlink()
    done = run_program("export", changed_run, "--output", tmp_path / "out")
    assert done.returncode == 2
    assert f"mathreason train {changed_run}" in done.stderr


def test_a_run_trained_in_full_is_a_whole_model_already(changed_run: Path, tmp_path: Path) -> None:
    (changed_run / "adapter").rename(changed_run / "model")
    done = run_program("export", changed_run, "--output", tmp_path / "out")
    assert done.returncode == 2
    assert f"{changed_run / 'model'} is a whole model already" in done.stderr


def test_an_adapter_that_is_not_the_trained_one_is_refused(changed_run: Path, tmp_path: Path) -> None:
    weights = changed_run / "adapter" / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    done = run_program("export", changed_run, "--output", tmp_path / "out")
    assert done.returncode == 1
    assert "is not the adapter" in done.stderr
    assert not (tmp_path / "out").exists()


def test_without_evaluation_the_card_says_so(changed_run: Path, tmp_path: Path) -> None:
    (changed_run / "comparison.json").unlink()
    done = run_program("export", changed_run, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "was not evaluated" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_without_network_it_works(run: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "--net", *command("export", run, "--output", tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "mathreason.json").is_file()


def test_a_kill_leaves_nothing_that_looks_whole(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = subprocess.Popen(
        command("export", run, "--output", output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not list(tmp_path.glob(".out.writing-*/*")) and process.poll() is None:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not output.exists()
    assert run_program("export", run, "--output", output).returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_the_weights_follow_the_umask_like_every_file(run: Path, tmp_path: Path) -> None:
    inside = shlex.join(command("export", run, "--output", tmp_path / "out"))
    done = subprocess.run(
        ["sh", "-c", f"umask 027 && {inside}"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "out").iterdir()} == {"0o640"}


def test_two_at_a_time_make_one_whole_folder(run: Path, tmp_path: Path) -> None:
    arguments = command("export", run, "--output", tmp_path / "out")
    both = [subprocess.Popen(arguments, stderr=subprocess.PIPE, cwd=ROOT) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert "complete already" in run_program("export", run, "--output", tmp_path / "out").stderr


# -- kinds of adapters -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"lora": {"use_dora": True}},
        {"lora": {"use_rslora": True}},
        {"lora": {"target_modules": ["q_proj", "lm_head"]}},
    ],
    ids=["dora", "rslora", "tied lm_head"],
)
def test_other_adapters_load_in_plain_transformers(changes: dict[str, Any], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    run = trained(tmp_path, training={"learning_rate": 4e-3}, **changes)
    output = tmp_path / "out"
    done = run_program("export", run, "--output", output, "--dtype", "float16")
    assert done.returncode == 0, done.stderr
    assert manifest_of(output)["check"]["verdict"] == "carried"
    assert "Warning" not in done.stderr
    model, facts = AutoModelForCausalLM.from_pretrained(output, output_loading_info=True)
    assert not facts["missing_keys"]
    assert not facts["unexpected_keys"]
    is_tied = model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert is_tied == ("target_modules" not in changes["lora"])
    assert model.config.tie_word_embeddings == is_tied


def test_an_adapter_of_4_bit_weights_goes_into_the_full_ones(tmp_path: Path) -> None:
    from mathreason.embedded import model_path

    run = trained(tmp_path, model={"quantization": "nf4"}, training={"learning_rate": 4e-3})
    output = tmp_path / "out"
    done = run_program("export", run, "--output", output)
    assert done.returncode == 0, done.stderr
    config = json.loads((output / "config.json").read_text(encoding="utf-8"))
    assert "quantization_config" not in config
    merged, base = load_file(output / "model.safetensors"), load_file(model_path() / "model.safetensors")
    assert {name: (t.dtype, t.shape) for name, t in merged.items()} == {
        name: (t.dtype, t.shape) for name, t in base.items()
    }
    for (
        name,
        tensor,
    ) in base.items():  # the embedding is no adapter's: it is the base's, never rounded to 4 bits
        assert tensor.equal(merged[name]) == ("_proj" not in name)
    check = manifest_of(output)["check"]
    assert check["verdict"] == "carried"
    assert check["as_trained"]["quantization"] == "nf4"
    assert check["difference"] < check["as_trained"]["difference"] < check["effect"]
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "trained on 4-bit (nf4) weights and merged into unquantized ones" in card
    assert f"differ from it by {100 * check['as_trained']['difference']:.1f} % of their size" in card
    assert f"{check['as_trained']['same_next_token']} of {check['tokens']} next tokens are the same" in card


def test_an_adapter_too_weak_for_the_dtype_is_said(local: tuple[Path, Path], tmp_path: Path) -> None:
    run, _ = local
    done = run_program("export", run, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "bfloat16 is coarse for so weak an adapter" in done.stderr
    assert "try --dtype float32" in done.stderr
    assert done.stdout.splitlines()[0].endswith("below rounding")
    assert manifest_of(tmp_path / "out")["check"]["verdict"] == "below rounding"
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "**bfloat16 is coarse for this adapter**" in card


# -- the card --------------------------------------------------------------------------------------


def test_an_evaluation_after_the_export_renews_the_card_alone(changed_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    kept = (changed_run / "comparison.json").rename(tmp_path / "comparison.json")
    assert run_program("export", changed_run, "--output", output).returncode == 0
    before = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    kept.rename(changed_run / "comparison.json")
    done = run_program("export", changed_run, "--output", output)
    assert done.returncode == 0, done.stderr
    assert "its card is written anew" in done.stderr
    after = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"README.md", "mathreason.json"}
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "| generator | 12 |" in card
    assert "not evaluated" not in card
    assert manifest_of(output)["files"]["README.md"]["bytes"] == len(card.encode())
    again = run_program("export", changed_run, "--output", output)
    assert "its card" not in again.stderr
    assert {path.name: path.stat().st_mtime_ns for path in output.iterdir()} == after


def test_a_kill_between_card_and_manifest_heals(merged: Path, run: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(merged, output)
    manifest = manifest_of(output)
    listed = dict(manifest["files"]["README.md"])
    manifest["files"]["README.md"] = {"bytes": 1, "sha256": "0" * 64}
    (output / "mathreason.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert run_program("export", run, "--output", output, "--dtype", "float32").returncode == 0
    assert manifest_of(output)["files"]["README.md"] == listed


def test_a_card_changed_by_hand_stays(merged: Path, run: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(merged, output)
    (output / "README.md").write_text("mine", encoding="utf-8")
    done = run_program("export", run, "--output", output, "--dtype", "float32")
    assert done.returncode == 0
    assert "changed by hand" in done.stderr
    assert (output / "README.md").read_text(encoding="utf-8") == "mine"


def test_a_score_without_the_bases_is_shown_as_no_gain(changed_run: Path, tmp_path: Path) -> None:
    for path in (changed_run / "evaluations" / "generator").glob("base.*"):
        path.unlink()
    done = run_program("compare", changed_run)
    assert done.returncode == 0, done.stderr
    comparison = json.loads((changed_run / "comparison.json").read_text(encoding="utf-8"))
    comparison["benchmarks"]["generator"] = {
        key: None if key == "base" else value
        for key, value in comparison["benchmarks"]["generator"].items()
        if key not in ("difference", "test", "verdict")
    }
    (changed_run / "comparison.json").write_text(json.dumps(comparison), encoding="utf-8")
    done = run_program("export", changed_run, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "these show no gain" in card
    assert "| benchmark | items | tuned |" in card


def test_no_folder_of_this_machine_is_published(local: tuple[Path, Path], tmp_path: Path) -> None:
    run, base = local
    copy = tmp_path / "runs" / run.name
    shutil.copytree(run, copy)
    document = json.loads((copy / "train.json").read_text(encoding="utf-8"))
    document["fallbacks"].append(f"read {base}/x.bin and https://host.org/a/b instead")
    (copy / "train.json").write_text(json.dumps(document), encoding="utf-8")
    output = tmp_path / "out"
    assert run_program("export", copy, "--output", output).returncode == 0
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "\nmy-base, tuned for" in card
    assert "base_model" not in yaml.safe_load(card.split("---\n", 2)[1])
    assert "read x.bin and https://host.org/a/b instead" in card
    for path in output.iterdir():
        assert str(base.parent).encode() not in path.read_bytes()
        assert str(tmp_path).encode() not in path.read_bytes()
    assert "host" not in manifest_of(output)["provenance"]


# -- the base --------------------------------------------------------------------------------------


def test_another_base_than_the_trained_one_is_refused(local: tuple[Path, Path], tmp_path: Path) -> None:
    run, base = local
    weights = base / "model.safetensors"
    kept = weights.read_bytes()
    change_weights(weights)
    try:
        done = run_program("export", run, "--output", tmp_path / "out")
    finally:
        weights.write_bytes(kept)
    assert done.returncode == 2
    assert "are not those that" in done.stderr
    assert "Put those back" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_did_not_record_its_base_says_so(changed_run: Path, tmp_path: Path) -> None:
    document = json.loads((changed_run / "train.json").read_text(encoding="utf-8"))
    del document["base_weights"]
    (changed_run / "train.json").write_text(json.dumps(document), encoding="utf-8")
    done = run_program("export", changed_run, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "does not say which weights of embedded were trained on" in done.stderr
    assert not manifest_of(tmp_path / "out")["base"]["recorded_in_training"]
    assert "the training did not record its own" in (tmp_path / "out" / "README.md").read_text()


def test_a_hub_model_is_merged_at_the_commit_it_was_trained_at(tmp_path: Path) -> None:
    from mathreason.embedded import model_path

    first, second = "1" * 40, "2" * 40
    cache = tmp_path / "hub" / "models--someone--base"
    for commit in (first, second):
        shutil.copytree(model_path(), cache / "snapshots" / commit)
    change_weights(cache / "snapshots" / second / "model.safetensors")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(first)
    environment = {"HF_HOME": str(tmp_path)}
    run = trained(tmp_path, environment, model={"name": "someone/base"}, training={"learning_rate": 4e-3})
    (cache / "refs" / "main").write_text(second)  # the model's owner went on
    output = tmp_path / "out"
    done = run_program("export", run, "--output", output, environment=environment)
    assert done.returncode == 0, done.stderr
    assert manifest_of(output)["base"]["commit"] == first
    card = (output / "README.md").read_text(encoding="utf-8")
    assert f"someone/base (commit {first}), tuned for" in card
    assert yaml.safe_load(card.split("---\n", 2)[1])["base_model"] == "someone/base"
    name = "model.layers.0.mlp.down_proj.weight"
    here, trained_on, later = (
        load_file(folder / "model.safetensors")[name].float()
        for folder in (output, *(cache / "snapshots" / commit for commit in (first, second)))
    )
    assert (here - trained_on).norm() < (here - later).norm() / 2
    shutil.rmtree(cache / "snapshots" / first)
    done = run_program("export", run, "--output", tmp_path / "other", environment=environment)
    assert done.returncode == 2
    assert f"hf download someone/base --revision {first}" in done.stderr


# -- room, and files that others read --------------------------------------------------------------


def test_a_file_system_too_small_is_refused_before_loading(run: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    inside = shlex.join(command("export", run, "--output", small / "out"))
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "sh",
            "-c",
            f"mount -t tmpfs -o size=32m none {small} && {inside}; ls -A {small}",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert "out needs 0.07 GB and" in done.stderr
    assert "larger file system" in done.stderr
    assert done.stdout == ""


def test_too_little_memory_is_refused_before_loading(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mathreason import memory
    from mathreason.errors import MathreasonError
    from mathreason.export import export
    from mathreason.progress import Reporter
    from mathreason.results import RunDir

    group = tmp_path / "group"  # the files of a control group of 40 MB with 30 MB in use
    group.mkdir()
    for name, text in (("memory.max", "40000000"), ("memory.current", "30000000"), ("memory.stat", "anon 1")):
        (group / name).write_text(f"{text}\n")
    monkeypatch.setattr(memory, "CGROUP", group)
    with pytest.raises(MathreasonError, match=r"needs 0\.0\d GB of memory and 0\.01 GB are free") as raised:
        export(RunDir(run), tmp_path / "out", "float32", Reporter(quiet=True))
    assert raised.value.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["group"]


def test_the_bytes_needed_are_known_before_loading(merged: Path) -> None:
    from mathreason.config import ModelConfig
    from mathreason.export import _bytes_needed

    size = (merged / "model.safetensors").stat().st_size
    weights, memory = _bytes_needed(ModelConfig.model_validate({"name": "embedded", "dtype": "float32"}))
    assert 0 <= size - weights < 20_000
    assert memory > 2 * weights


def test_a_model_in_shards_has_the_index_that_vllm_reads(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mathreason import export as room
    from mathreason.progress import Reporter
    from mathreason.results import RunDir

    monkeypatch.setattr(room, "SHARD_BYTES", 2_000_000)
    output = tmp_path / "out"
    manifest = room.export(RunDir(run), output, "bfloat16", Reporter(quiet=True))
    config = json.loads((output / "config.json").read_text(encoding="utf-8"))
    assert (config["dtype"], config["architectures"]) == ("bfloat16", ["LlamaForCausalLM"])
    index = json.loads((output / "model.safetensors.index.json").read_text(encoding="utf-8"))
    shards = sorted(output.glob("*.safetensors"))
    assert len(shards) > 2
    found = {path.name: load_file(path) for path in shards}
    assert index["weight_map"] == {name: shard for shard, tensors in found.items() for name in tensors}
    tensors = [tensor for each in found.values() for tensor in each.values()]
    assert {str(tensor.dtype) for tensor in tensors} == {"torch.bfloat16"}
    assert index["metadata"]["total_size"] == sum(t.numel() * t.element_size() for t in tensors)
    assert set(manifest["files"]) == {path.name for path in output.iterdir()} - {"mathreason.json"}
    for path in shards:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        assert header["__metadata__"]["format"] == "pt"


def test_an_output_below_a_file_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run_program("export", run, "--output", tmp_path / "file" / "out")
    assert done.returncode == 2
    assert "cannot create" in done.stderr


def test_a_folder_of_another_process_at_work_is_left_to_it(run: Path, tmp_path: Path) -> None:
    theirs = tmp_path / f".out.writing-{process_space()}-{os.getpid()}"
    theirs.mkdir()
    assert run_program("export", run, "--output", tmp_path / "out").returncode == 0
    assert theirs.is_dir()
