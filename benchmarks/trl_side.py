"""TRL's side of training_vs_trl.py, run in an environment that holds TRL and not this package.

python trl_side.py '{"model": DIR, "examples": FILE, "mode": "packing", "steps": 3, ...}'
python trl_side.py -                       # the same from each line of the input, in one process

On the CPU unless "device" is "cuda". "quantization": "nf4" loads 4-bit weights, "micro_batch" packed blocks
are trained together (1 where it is not given), "attention" is the model's implementation, "liger" exchanges
layers for Liger's kernels.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
import traceback
from collections.abc import Callable
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


def row_of(ids: list[int], prompt: int) -> dict[str, Any]:
    """An example as TRL takes it when it is tokenized already."""
    return {"input_ids": ids, "completion_mask": [0] * prompt + [1] * (len(ids) - prompt)}


def train(
    asked: dict[str, Any],
    row: Callable[[list[int], int], dict[str, Any]],
    adapted: Callable[[dict[str, Any]], Any] | None,
) -> dict[str, Any]:
    """Train; on a model that `adapted` gives its adapter, else on one that TRL does."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    examples = json.loads(Path(asked["examples"]).read_text(encoding="utf-8"))
    rows = [row(ids, prompt) for ids, prompt in examples]
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
        use_liger_kernel=bool(asked.get("liger")),
        **batching(asked["mode"], rows, asked["max_length"], asked.get("micro_batch", 1)),
    )
    clock = Clock()
    trainer = SFTTrainer(
        model=load(asked) if adapted is None else adapted(asked),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(asked["model"]),
        peft_config=LoraConfig(task_type="CAUSAL_LM", **asked["lora"]) if adapted is None else None,
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
    return found


def main(
    row: Callable[[list[int], int], dict[str, Any]] = row_of,
    adapted: Callable[[dict[str, Any]], Any] | None = None,
) -> None:
    """Answer the argument, or each line of the input."""
    for line in sys.stdin if sys.argv[1] == "-" else [sys.argv[1]]:
        try:
            found = train(json.loads(line), row, adapted)
        except Exception as error:
            if sys.argv[1] != "-":
                raise
            traceback.print_exc()
            found = {"failed": f"{type(error).__name__}: {error}"[:500]}
        gc.collect()
        torch.cuda.empty_cache()  # the other sides share the GPU
        sys.stdout.write(f"found: {json.dumps(found)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
