"""Run as a process: training at a micro-batch that its address space has no room for, and at half of it."""

from __future__ import annotations

import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from mathreason.config import JobConfig, LoraConfig, ModelConfig, PromptConfig
from mathreason.data.generator import generate
from mathreason.data.packing import pack
from mathreason.data.prompts import Prompter
from mathreason.models import load_model
from mathreason.progress import Reporter
from mathreason.results import RunDir, read_appended
from mathreason.training.batches import Blocks, Collator
from mathreason.training.forward import Forward
from mathreason.training.recovery import Recovery
from mathreason.training.train import _arguments, add_lora
from mathreason.training.trainer import MathTrainer

WANTED, LENGTH = 32, 256


def trainer_for(folder: Path, micro_batch: int, reporter: Reporter) -> Any:
    loaded = load_model(ModelConfig(name="embedded", quantization="none", dtype="float32"), reporter)
    prompter = Prompter(PromptConfig(), loaded.tokenizer)
    examples = [prompter.encode(problem) for problem in generate("train", count=200, seed=3)]
    blocks = pack([len(example.ids) for example in examples], LENGTH)[:WANTED]
    job = JobConfig.model_validate(
        {
            "name": "memory",
            "model": {"name": "embedded", "quantization": "none"},
            "data": {"mixture": [{"source": "generator", "count": 200}], "max_length": LENGTH},
            "training": {
                "max_steps": 2,
                "micro_batch": micro_batch,
                "gradient_accumulation": WANTED // micro_batch,
                "logging_steps": 1,
                "gradient_checkpointing": False,
            },
        }
    )
    torch.manual_seed(0)
    run = RunDir(folder)
    run.checkpoints.mkdir(parents=True)
    return MathTrainer(
        run=run,
        keep_last=1,
        recovery=Recovery(job, reporter, [], sharded=False),
        forward=Forward(),
        model=add_lora(loaded.model, LoraConfig(r=4, alpha=8, dropout=0.0)),
        args=_arguments(job, run, loaded, "adamw_torch", len(blocks), validated=False),
        train_dataset=Blocks(examples, blocks),
        data_collator=Collator(loaded.tokenizer.pad_token_id),
    )


def peak() -> int:
    """Highest address space of this process so far, in bytes (VmPeak of proc(5))."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmPeak:"))


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        small = trainer_for(Path(folder) / "small", WANTED // 2, Reporter(quiet=True))
        small.train()
        # What half of it has needed is there; the other half would take hundreds of megabytes more.
        resource.setrlimit(resource.RLIMIT_AS, (peak() + (96 << 20), resource.RLIM_INFINITY))
        reporter = Reporter(quiet=True)
        large = trainer_for(Path(folder) / "large", WANTED, reporter)
        large.train()
        curves = [[line["loss"] for line in read_appended(each.run.log)] for each in (small, large)]
    sys.stdout.write("\n".join([*reporter.warnings, ""]))
    close = len(curves[0]) == len(curves[1]) == 2 and all(
        abs(a - b) < 1e-5 * a for a, b in zip(*curves, strict=True)
    )
    sys.stdout.write("equal\n" if close else f"different: {curves}\n")


if __name__ == "__main__":
    main()
