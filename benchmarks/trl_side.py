"""TRL's side of training_vs_trl.py, run in an environment that holds TRL and not this package.

python trl_side.py '{"model": DIR, "examples": FILE, "mode": "packing", "steps": 3, ...}'

On the CPU unless "device" is "cuda". "quantization": "nf4" loads 4-bit weights, "micro_batch" packed blocks
are trained together (1 where it is not given), "attention" is the model's implementation.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
from trl import SFTConfig, SFTTrainer

PADDED_BATCH = 8  # SFTConfig's default


class Clock(TrainerCallback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():  # kernels run behind
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def blocks_of(rows: list[dict[str, Any]], max_length: int) -> int:
    """How many blocks TRL packs the rows into, which become the micro-batches of one step."""
    from trl import pack_dataset

    return len(pack_dataset(Dataset.from_list(rows), max_length, "bfd"))


def batching(mode: str, rows: list[dict[str, Any]], max_length: int, micro_batch: int) -> dict[str, Any]:
    """Options by which one optimizer step sees all rows."""
    if mode.startswith("packing"):
        blocks = blocks_of(rows, max_length)
        return {
            "packing": True,
            "max_length": max_length,
            "per_device_train_batch_size": micro_batch,
            "gradient_accumulation_steps": -(-blocks // micro_batch),
        }
    batch = min(PADDED_BATCH, len(rows))
    options: dict[str, Any] = {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": -(-len(rows) // batch),
    }
    if mode.startswith("padding_free"):
        options |= {"padding_free": True, "max_length": None}
    return options


def load(asked: dict[str, Any]) -> Any:
    """The base model; nf4 as QLoRA has it, with doubly quantized constants."""
    dtype = getattr(torch, asked["dtype"])
    options: dict[str, Any] = {}
    if asked.get("quantization") == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    if "attention" in asked:
        options["attn_implementation"] = asked["attention"]
    return AutoModelForCausalLM.from_pretrained(asked["model"], dtype=dtype, **options)


def main() -> None:
    asked = json.loads(sys.argv[1])
    examples = json.loads(Path(asked["examples"]).read_text(encoding="utf-8"))
    rows = [
        {
            "input_ids": ids,
            "completion_mask": [0] * prompt + [1] * (len(ids) - prompt),
        }
        for ids, prompt in examples
    ]
    arguments = SFTConfig(
        output_dir=asked["output"],
        max_steps=asked["steps"],
        learning_rate=asked["learning_rate"],
        lr_scheduler_type="constant",
        completion_only_loss=True,  # by default only where the columns are called prompt and completion
        bf16=asked["dtype"] == "bfloat16",
        gradient_checkpointing=not asked["mode"].endswith("without checkpointing"),
        use_cpu=asked.get("device", "cpu") == "cpu",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **batching(asked["mode"], rows, asked["max_length"], asked.get("micro_batch", 1)),
    )
    clock = Clock()
    trainer = SFTTrainer(
        model=load(asked),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(asked["model"]),
        peft_config=LoraConfig(task_type="CAUSAL_LM", **asked["lora"]),
        callbacks=[clock],
    )
    trainer.train()
    found = {
        "seconds_per_step": (clock.ends[-1] - clock.ends[0]) / (len(clock.ends) - 1),
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    if torch.cuda.is_available():
        found["gpu_allocated"] = torch.cuda.max_memory_allocated()
        found["gpu_reserved"] = torch.cuda.max_memory_reserved()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
