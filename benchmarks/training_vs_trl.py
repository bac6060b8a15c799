"""Training speed and memory beside TRL: the same model, examples, adapter, step and dtype, on this CPU.

    python benchmarks/training_vs_trl.py --data-dir data --layers 2 --dtype float32
    python benchmarks/training_vs_trl.py --data-dir data --layers 22 --dtype bfloat16 --examples 8

The model has TinyLlama-1.1B's shape (or fewer of its layers) and random weights, which is all that speed
and memory depend on. One optimizer step sees all the examples, so that both losses can be compared step by
step. Each setting runs in a process of its own; the first step is not measured. TRL runs as it is by
default, and without gradient checkpointing as padded batches, padding-free rows and packed blocks.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import click
import torch
import yaml
from small_model import problems, train_tokenizer

from mathreason.config import LORA_TARGETS
from mathreason.training.accounting import matmul_flops

TRL = "1.16.0"
MODES = (
    "padded",
    "padded without checkpointing",
    "padding_free without checkpointing",
    "packing without checkpointing",
)
SIDE = Path(__file__).with_name("trl_side.py")
LORA = {"r": 32, "lora_alpha": 64, "lora_dropout": 0.1, "target_modules": list(LORA_TARGETS)}
LEARNING_RATE = 1e-4
FOUND = "found: "
"""What the line with the figures begins with, among all that libraries print."""
TINYLLAMA = {  # config.json of TinyLlama/TinyLlama-1.1B-Chat-v1.0
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
}


def write_model(folder: Path, layers: int, dtype: str, data_dir: Path) -> None:
    """A random model of TinyLlama's shape; its tokenizer is trained on GSM8K and uses some of the ids."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = train_tokenizer([prompt + answer for prompt, answer in problems(data_dir)])
    config = LlamaConfig(num_hidden_layers=layers, tie_word_embeddings=False, **TINYLLAMA)
    config.eos_token_id = config.pad_token_id = tokenizer.eos_token_id
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM(config)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_job(folder: Path, model: Path, data_dir: Path, settings: dict[str, Any]) -> Path:
    """A job that trains on the first examples of GSM8K's training split, all of them in every step."""
    count = settings["examples"]
    lines = (data_dir / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    rows = [json.loads(line) for line in lines]
    parts = [row["answer"].rpartition("\n#### ") for row in rows]
    data = folder / "examples.jsonl"
    data.write_text(
        "".join(
            json.dumps({"question": row["question"], "solution": steps, "answer": answer}) + "\n"
            for row, (steps, _, answer) in zip(rows, parts, strict=True)
        ),
        encoding="utf-8",
    )
    job = {
        "name": "training-vs-trl",
        "model": {"name": str(model), "quantization": "none", "dtype": settings["dtype"]},
        "data": {
            "mixture": [
                {
                    "source": "jsonl",
                    "path": str(data),
                    "columns": {"question": "question", "solution": "solution", "answer": "answer"},
                }
            ],
            "max_length": settings["max_length"],
            "validation_fraction": 0,
            "on_contamination": "allow",
        },
        "lora": {"r": 32, "alpha": 64, "dropout": 0.1},
        "training": {
            "max_steps": settings["steps"],
            "gradient_accumulation": count,  # more than there are blocks: a step is an epoch
            "learning_rate": LEARNING_RATE,
            "scheduler": "constant_with_warmup",
            "warmup_ratio": 0,
            "weight_decay": 0,
            "optimizer": "adamw_torch",
            "gradient_checkpointing": False,
            "logging_steps": 1,
            "checkpoint_steps": settings["steps"],
        },
        "evaluation": {"benchmarks": [{"name": "generator", "count": 1}]},
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return path


def train_here(job: Path, folder: Path) -> dict[str, Any]:
    """What `mathreason train` took, from its own train.json and log.jsonl."""
    subprocess.run(
        [sys.executable, "-m", "mathreason", "train", str(job), "--results", str(folder)],
        check=True,
        stdout=sys.stderr,
    )
    return result_of(folder)


def result_of(folder: Path) -> dict[str, Any]:
    """What the one run in a results folder took."""
    [run] = folder.glob("training-vs-trl-*")
    train = json.loads((run / "train.json").read_text(encoding="utf-8"))
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "seconds_per_step": sum(train["step"]["seconds"].values()),
        "losses": [line["loss"] for line in log if "loss" in line],
        "peak_gib": train["memory"]["process"] / 2**30,
        "memory": train["memory"],
        "step": train["step"],
        "run": str(run),
    }


def write_examples(run: Path, model: Path, path: Path) -> int:
    """The run's token ids and prompt lengths for the other side; how many tokens are supervised."""
    from transformers import AutoTokenizer

    from mathreason.config import PromptConfig
    from mathreason.data.prepare import load_problems
    from mathreason.data.prompts import Prompter
    from mathreason.results import RunDir

    prompter = Prompter(PromptConfig(), AutoTokenizer.from_pretrained(model))
    encoded = [prompter.encode(problem) for problem in load_problems(RunDir(run), "train")]
    path.write_text(json.dumps([(e.ids, e.prompt_tokens) for e in encoded]), encoding="utf-8")
    return sum(len(e.ids) - e.prompt_tokens for e in encoded)


def trl_python(cache: Path) -> Path:
    """The Python of an environment with TRL, and what it builds on in the versions used here."""
    from importlib.metadata import version

    python = cache / "venv" / "bin" / "python"
    asked = [
        str(python),
        "-c",
        "import bitsandbytes; from importlib.metadata import version as v; print(v('trl'))",
    ]
    if (
        python.exists()
        and subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == TRL
    ):
        return python
    venv.create(cache / "venv", with_pip=True)
    same = ("transformers", "peft", "accelerate", "datasets", "bitsandbytes")
    torch_version = version("torch").partition("+")[0]
    for packages in ([f"torch=={torch_version}"], [f"trl=={TRL}", *(f"{p}=={version(p)}" for p in same)]):
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def train_there(python: Path, mode: str, asked: dict[str, Any]) -> dict[str, Any]:
    """What TRL took in one mode."""
    line = json.dumps({**asked, "mode": mode})
    done = subprocess.run(
        [str(python), str(SIDE), line], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.splitlines()[-1]
    found: dict[str, Any] = json.loads(done.removeprefix(FOUND))
    return found


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--layers", default=2, show_default=True, help="Of TinyLlama's 22.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--examples", default=16, show_default=True, help="GSM8K examples, all in each step.")
@click.option("--steps", default=3, show_default=True, help="The first is not measured.")
@click.option("--max-length", default=1024, show_default=True, help="Tokens of a block, TRL's default.")
@click.option("--modes", default=",".join(MODES), help="TRL's settings to run, with commas.")
@click.option("--cache", type=click.Path(path_type=Path), default=Path(tempfile.gettempdir()) / f"trl-{TRL}")
@click.option("--output", type=click.Path(path_type=Path), help="JSON file for the figures.")
def main(data_dir: Path, cache: Path, output: Path | None, modes: str, **settings: Any) -> None:
    """Print supervised tokens per second and peak memory of both, and the ratios."""
    python = trl_python(cache)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = folder / "model"
        write_model(model, settings["layers"], settings["dtype"], data_dir)
        ours = train_here(write_job(folder, model, data_dir, settings), folder / "results")
        supervised = write_examples(Path(ours.pop("run")), model, folder / "ids.json")
        asked = {
            **settings,
            "model": str(model),
            "examples": str(folder / "ids.json"),
            "output": str(folder / "trl"),
            "lora": LORA,
            "learning_rate": LEARNING_RATE,
        }
        theirs = {}
        for mode in modes.split(","):
            theirs[mode] = train_there(python, mode, asked)
            click.echo(f"TRL {mode}: {theirs[mode]['seconds_per_step']:.2f} s a step", err=True)
    peak = matmul_flops(torch.device("cpu"), getattr(torch, settings["dtype"])) / 1e9
    facts = {**settings, "threads": torch.get_num_threads(), "matmul_gflops": peak, "supervised": supervised}
    click.echo(f"{json.dumps(facts)}\nstep: {json.dumps(ours['step'])}")
    for name, side in {"mathreason": ours, **theirs}.items():
        side["tokens_per_second"] = supervised / side["seconds_per_step"]
        ratio = side["seconds_per_step"] / ours["seconds_per_step"]
        losses = ", ".join(f"{loss:.4f}" for loss in side["losses"])
        click.echo(
            f"{name:36} {side['tokens_per_second']:8.1f} supervised tokens/s, ratio {ratio:.2f}, "
            f"peak {side['peak_gib']:.2f} GiB, losses {losses}"
        )
    if output:
        document = {**facts, "mathreason": ours, "trl": theirs}
        output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
