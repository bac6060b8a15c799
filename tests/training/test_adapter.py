"""The adapter is PEFT's own: a script without this package loads it and gets the same responses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from mathreason.data.problem import Problem
from mathreason.data.prompts import Prompter
from mathreason.embedded import model_path
from mathreason.jobfile import load_job
from mathreason.models import load_tokenizer
from mathreason.results import RunDir, read_appended

SCRIPT = """
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base, adapter, prompts, new_tokens = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(base)
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
model = PeftModel.from_pretrained(model, adapter).eval()
responses = []
for prompt in json.load(open(prompts)):
    ids = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        output = model.generate(**ids, do_sample=False, max_new_tokens=int(new_tokens))
    responses.append(tokenizer.decode(output[0, ids["input_ids"].shape[1]:], skip_special_tokens=True))
assert "mathreason" not in sys.modules
print(json.dumps(responses))
"""


def test_plain_peft_gives_the_same_greedy_responses(finished_run: Path, tmp_path: Path) -> None:
    run = RunDir(finished_run)
    job = load_job(run.job)
    rows = sorted(read_appended(run.samples("generator", "tuned")), key=lambda row: row["index"])
    prompter = Prompter(job.prompt, load_tokenizer(job.model))
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps([prompter.prompt(row["question"]) for row in rows]))
    limit = str(job.evaluation.max_new_tokens)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(model_path()), str(run.adapter), str(prompts), limit],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [row["response"] for row in rows]


def test_adapter_config_is_the_same_from_process_to_process(finished_run: Path) -> None:
    config = json.loads((finished_run / "adapter" / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(config["target_modules"])
    assert (config["r"], config["lora_alpha"], config["task_type"]) == (4, 8, "CAUSAL_LM")


def test_problem_and_sample_ids_name_their_source(finished_run: Path) -> None:
    run = RunDir(finished_run)
    first = json.loads(run.problems("train").read_text().splitlines()[0])
    assert Problem(**first).id.startswith("generator/train-0/")
    assert read_appended(run.samples("generator", "base"))[0]["id"].startswith("generator/test-5/")
