"""An exported model answers as its adapter did, says what it is, and is whole or not there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import command, run_program, run_script, small_job

from mathreason.config import PromptConfig
from mathreason.data.generator import generate
from mathreason.data.prompts import Prompter

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
    assert manifest["check"]["largest_relative_difference"] < 1e-4


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
    assert 0 < manifest["check"]["largest_relative_difference"] < manifest["check"]["tolerance"]
    assert "merged into bfloat16 weights" in (tmp_path / "half" / "README.md").read_text(encoding="utf-8")


def test_a_run_without_adapter_says_how_to_train(changed_run: Path, tmp_path: Path) -> None:
    (changed_run / "train.json").unlink()
    done = run_program("export", changed_run, "--output", tmp_path / "out")
    assert done.returncode == 2
    assert f"mathreason train {changed_run}" in done.stderr


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
    while not (tmp_path / ".out.writing").exists() and process.poll() is None:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not output.exists()
    assert run_program("export", run, "--output", output).returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
