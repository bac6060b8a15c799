"""Training on a GPU beside TRL: TinyLlama-1.1B and Mistral-7B, LoRA and nf4, packed to 2048 and 4096 tokens.

    python benchmarks/gpu.py --data-dir data --output benchmarks/results/gpu.json
    python benchmarks/gpu.py --data-dir data --layers 1 --shapes tinyllama --lengths 256 --examples 4

The models have the real shapes and random weights, which is all that speed and memory depend on. Both sides
train the recipe's LoRA on the same examples of GSM8K with gradient checkpointing, all of them in every step,
and each measurement is a process of its own; the first step is not measured. Without a GPU the same commands
run on the CPU, which tries the script and measures nothing of interest; the second is meant for that.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import mistral_shape
import torch
import training_vs_trl as pair

from mathreason.training.accounting import matmul_flops

LAYERS = {"tinyllama": 22, "mistral": mistral_shape.LAYERS}
QUANTIZATION = {"lora": "none", "nf4": "nf4"}
GIB = 2**30


def write_model(shape: str, folder: Path, settings: dict[str, Any]) -> None:
    """The random model of a shape, whole or with its first layers."""
    layers = settings["layers"] or LAYERS[shape]
    if shape == "mistral":
        mistral_shape.write_model(folder, layers, settings["data_dir"])
    else:
        pair.write_model(folder, layers, settings["dtype"], settings["data_dir"])


def measure(method: str, length: int, model: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Both sides in one setting; what failed says how, and the rest goes on."""
    attention = "flash_attention_2" if has_flash_attention() else "sdpa"
    asked = {
        "examples": settings["examples"],
        "steps": settings["steps"],
        "dtype": settings["dtype"],
        "max_length": length,
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        job = pair.write_job(folder, model, settings["data_dir"], asked)
        overrides = (
            f"model.quantization={QUANTIZATION[method]}",
            f"model.attention={attention}",
            f"training.micro_batch={settings['micro_batch']}",
            "training.gradient_checkpointing=true",
        )
        ours = pair.train_here(job, folder / "results", overrides)
        pair.write_examples(Path(ours.pop("run")), model, folder / "ids.json")
        examples = json.loads((folder / "ids.json").read_text(encoding="utf-8"))
        tokens = sum(len(ids) for ids, _ in examples)
        flops = ours["step"]["flops_per_second"] * ours["seconds_per_step"]
        row = {"method": method, "max_length": length, "attention": attention, "tokens_in_a_step": tokens}
        row["mathreason"] = with_rates(ours, tokens, flops, ours.pop("memory"))
        if settings["trl"]:
            row["trl"] = train_there(method, attention, model, folder, asked, settings)
            if "failed" not in row["trl"]:
                memory = {k: v for k, v in row["trl"].items() if k.startswith("gpu_")}
                row["trl"] = with_rates(row["trl"], tokens, flops, memory)
    return row


def train_there(
    method: str, attention: str, model: Path, folder: Path, asked: dict[str, Any], settings: dict[str, Any]
) -> dict[str, Any]:
    """What TRL took, packed and with gradient checkpointing."""
    there = {
        **asked,
        "model": str(model),
        "examples": str(folder / "ids.json"),
        "output": str(folder / "trl"),
        "lora": pair.LORA,
        "learning_rate": pair.LEARNING_RATE,
        "quantization": QUANTIZATION[method],
        "attention": attention,
        "micro_batch": settings["micro_batch"],
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }
    try:
        return pair.train_there(settings["python"], "packing", there)
    except subprocess.CalledProcessError as error:
        return {"failed": f"ended with {error.returncode}"}


def with_rates(side: dict[str, Any], tokens: int, flops: float, memory: dict[str, int]) -> dict[str, Any]:
    """Tokens and operations a second; operations are those of our step, the same work on both sides."""
    seconds = side["seconds_per_step"]
    return {
        "seconds_per_step": seconds,
        "losses": side["losses"],
        "tokens_per_second": tokens / seconds,
        "flops_per_second": flops / seconds,
        "gib": {name: round(size / GIB, 2) for name, size in memory.items()},
        **({"phases": side["step"]["seconds"]} if "step" in side else {}),
    }


def has_flash_attention() -> bool:
    """Whether transformers can use FlashAttention 2 here."""
    from transformers.utils import is_flash_attn_2_available

    return bool(is_flash_attn_2_available())


def machine(dtype: str) -> dict[str, Any]:
    """What the figures were measured on, with the rate of a large matrix product."""
    here = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rates = [matmul_flops(here, getattr(torch, dtype)) for _ in range(3)]
    return {
        "device": torch.cuda.get_device_name() if here.type == "cuda" else f"CPU, {platform.processor()}",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "trl": pair.TRL,
        "matmul_flops_per_second": statistics.median(rates),
    }


def said(row: dict[str, Any], peak: float) -> Iterator[str]:
    """One line for each side."""
    for name in ("mathreason", "trl"):
        side = row.get(name)
        if side is None:
            continue
        title = f"{row['shape']:10} {row['method']:4} {row['max_length']:4} {name:10}"
        if "failed" in side:
            yield f"{title} {side['failed']}"
            continue
        ratio = side["seconds_per_step"] / row["mathreason"]["seconds_per_step"]
        flops = side["flops_per_second"]
        yield (
            f"{title} {side['tokens_per_second']:8.0f} tokens/s, {flops / 1e12:6.1f} TFLOP/s, "
            f"{flops / peak:.0%} of the matrix product, ratio {ratio:.2f}, GiB {side['gib']}"
        )


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path, exists=True), required=True, help="Has gsm8k/.")
@click.option("--shapes", default=",".join(LAYERS), show_default=True)
@click.option("--methods", default=",".join(QUANTIZATION), show_default=True)
@click.option("--lengths", default="2048,4096", show_default=True, help="Tokens of a block.")
@click.option("--layers", type=int, help="Fewer layers than the shape has, to try the script.")
@click.option("--dtype", type=click.Choice(["bfloat16", "float32"]), default="bfloat16", show_default=True)
@click.option("--micro-batch", default=4, show_default=True, help="Blocks at once.")
@click.option("--examples", default=192, show_default=True, help="GSM8K examples, all in each step.")
@click.option("--steps", default=4, show_default=True, help="The first is not measured.")
@click.option("--trl/--no-trl", default=True, show_default=True, help="Measure TRL as well.")
@click.option("--cache", type=click.Path(path_type=Path), default=Path(tempfile.gettempdir()) / "trl")
@click.option("--output", type=click.Path(path_type=Path), help="JSON file for the figures.")
def main(shapes: str, methods: str, lengths: str, cache: Path, output: Path | None, **settings: Any) -> None:
    """Print tokens and operations per second and memory of both sides in every setting."""
    if settings["trl"]:
        settings["python"] = pair.trl_python(cache)
    document: dict[str, Any] = {
        "machine": machine(settings["dtype"]),
        "settings": {key: value for key, value in settings.items() if not isinstance(value, Path)},
        "rows": [],
    }
    click.echo(json.dumps(document["machine"]))
    for shape in shapes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model"
            write_model(shape, model, settings)
            for method in methods.split(","):
                for length in lengths.split(","):
                    row = {"shape": shape, **measure(method, int(length), model, settings)}
                    document["rows"].append(row)
                    for line in said(row, document["machine"]["matmul_flops_per_second"]):
                        click.echo(line)
                    if output:  # what was measured is not lost with a later setting
                        output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
