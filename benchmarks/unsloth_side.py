"""Unsloth's side of gpu.py: its model and adapter under TRL's trainer, as its own examples have it.

Run like trl_side.py, in an environment that holds unsloth. It learns all tokens, prompts too: its trainer
takes labels, and packs them.
"""

from __future__ import annotations

from typing import Any

import unsloth  # first of all: it exchanges parts of the libraries that the next line imports

import trl_side  # isort: skip


def row_of(ids: list[int], prompt: int) -> dict[str, Any]:
    """An example with its labels."""
    del prompt
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": ids}


def adapted(asked: dict[str, Any]) -> Any:
    """The model with unsloth's kernels and LoRA."""
    import torch

    model, _ = unsloth.FastLanguageModel.from_pretrained(
        model_name=asked["model"],
        max_seq_length=asked["max_length"],
        dtype=getattr(torch, asked["dtype"]),
        load_in_4bit=asked["quantization"] == "nf4",
    )
    return unsloth.FastLanguageModel.get_peft_model(
        model,
        r=asked["lora"]["r"],
        lora_alpha=asked["lora"]["lora_alpha"],
        lora_dropout=asked["lora"]["lora_dropout"],
        target_modules=asked["lora"]["target_modules"],
        use_gradient_checkpointing=True,
        max_seq_length=asked["max_length"],
    )


if __name__ == "__main__":
    trl_side.main(row_of, adapted)
