from __future__ import annotations

import json
import re

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from mathreason.embedded import model_path
from mathreason.embedded.pretrain import BATCH, BLOCK

LARGEST_WEIGHTS = 5_000_000  # bytes


def test_it_loads_offline_and_continues_a_story_sensibly() -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_path(), local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(model_path(), local_files_only=True, dtype=torch.float32)
    assert model.config.vocab_size == len(tokenizer)
    right = 0
    for left, other in ((12, 5), (31, 22), (40, 17), (8, 9), (25, 30)):
        text = f"<s>Tom has {left} apples. Tom buys {other} more apples. Tom has"
        ids = tokenizer(text, return_tensors="pt")
        written = model.generate(**ids, max_new_tokens=14, do_sample=False)
        right += f"{left} + {other} = {left + other} apples" in tokenizer.decode(written[0])
    assert right >= 4


def test_the_weights_are_small_and_in_bfloat16() -> None:
    weights = model_path() / "model.safetensors"
    assert weights.stat().st_size < LARGEST_WEIGHTS
    with safe_open(weights, framework="pt") as file:
        dtypes = {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118 (no mapping)
    assert dtypes == {torch.bfloat16}


def test_it_says_how_it_was_made() -> None:
    record = json.loads((model_path() / "pretraining.json").read_text(encoding="utf-8"))
    assert record["steps"] * BATCH * BLOCK == record["tokens"]
    assert 0 < record["held_out_loss"] < 2
    assert {"torch", "transformers", "tokenizers"} <= record["versions"].keys()


def test_the_shipped_text_names_no_path() -> None:
    for file in model_path().glob("*.json"):
        if file.name != "tokenizer.json":  # its merges hold every character
            assert not re.search(r"(?<![A-Za-z])/[a-z]+/|[A-Z]:\\\\", file.read_text(encoding="utf-8")), file
