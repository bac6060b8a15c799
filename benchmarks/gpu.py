"""Training on a GPU beside TRL and unsloth: TinyLlama-1.1B and Mistral-7B, LoRA and nf4, packed blocks.

    python benchmarks/gpu.py --data-dir data --output benchmarks/results/gpu.json
    python benchmarks/gpu.py --data-dir data --layers 1 --settings tinyllama:lora:256 --examples 4

The models have the real shapes and random weights, which is all that speed and memory depend on. All sides
train the recipe's LoRA (dropout too) on the same examples of GSM8K with gradient checkpointing, all of them
in every step, and the first step is not measured. A side is one process that loads its libraries once. TRL
runs as it is and with Liger's kernels, unsloth in the environment of --unsloth-python. Without a GPU the same
commands run on the CPU, which tries the script and measures nothing of interest; the second is for that.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
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
SETTINGS = "tinyllama:lora:2048,mistral:lora:4096,mistral:nf4:4096,tinyllama:nf4:2048"
SCRIPTS = {
    "mathreason": "mathreason_side.py",
    "trl": "trl_side.py",
    "trl with liger": "trl_side.py",
    "unsloth": "unsloth_side.py",
}
GIB = 2**30


class Side:
    """A process that trains what it is asked to, one line each way."""

    def __init__(self, name: str, python: str) -> None:
        script = Path(__file__).with_name(SCRIPTS[name])
        self.name = name
        self._process = subprocess.Popen(
            [python, str(script), "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def train(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What it found; a side that fails says how, and is not asked again."""
        if self._process.poll() is not None or self._process.stdin is None or self._process.stdout is None:
            return {"failed": f"ended with {self._process.returncode}"}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(pair.FOUND):
                found: dict[str, Any] = json.loads(line.removeprefix(pair.FOUND))
                return found
        return {"failed": f"ended with {self._process.wait()}"}

    def end(self) -> None:
        """No more questions."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


def write_model(shape: str, folder: Path, settings: dict[str, Any]) -> None:
    """The random model of a shape, whole or with its first layers."""
    layers = settings["layers"] or LAYERS[shape]
    if shape == "mistral":
        mistral_shape.write_model(folder, layers, settings["data_dir"])
    else:
        pair.write_model(folder, layers, settings["dtype"], settings["data_dir"])


def measure(
    row: dict[str, Any], sides: list[Side], model: Path, settings: dict[str, Any], until: float
) -> Iterator[dict[str, Any]]:
    """The row with one side more each time; sides that begin after `until` are left out."""
    attention = "flash_attention_2" if has_flash_attention() else "sdpa"
    asked = {
        "examples": settings["examples"],
        "steps": settings["steps"],
        "dtype": settings["dtype"],
        "max_length": row["max_length"],
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        job = pair.write_job(folder, model, settings["data_dir"], asked)
        overrides = (
            f"model.quantization={QUANTIZATION[row['method']]}",
            f"model.attention={attention}",
            f"training.micro_batch={row['micro_batch']}",
            "training.gradient_checkpointing=true",
        )
        ours = sides[0].train({"job": str(job), "results": str(folder / "results"), "overrides": overrides})
        if "failed" in ours:
            raise click.ClickException(f"mathreason: {ours['failed']}")
        pair.write_examples(Path(ours["run"]), model, folder / "ids.json")
        examples = json.loads((folder / "ids.json").read_text(encoding="utf-8"))
        tokens = sum(len(ids) for ids, _ in examples)
        flops = ours["step"]["flops_per_second"] * ours["seconds_per_step"]
        row |= {"attention": attention, "tokens_in_a_step": tokens, "forward": ours["step"]["forward"]}
        row["mathreason"] = with_rates(ours, tokens, flops)
        yield row
        there = {
            **asked,
            "model": str(model),
            "examples": str(folder / "ids.json"),
            "output": str(folder / "other"),
            "lora": pair.LORA,
            "learning_rate": pair.LEARNING_RATE,
            "quantization": QUANTIZATION[row["method"]],
            "attention": attention,
            "micro_batch": row["micro_batch"],
            "mode": "packing",
            "device": "cuda" if torch.cuda.is_available() else "cpu",
        }
        for side in sides[1:]:
            if time.monotonic() < until:
                found = side.train({**there, "liger": side.name.endswith("liger")})
                row[side.name] = found if "failed" in found else with_rates(found, tokens, flops)
                yield row


def with_rates(side: dict[str, Any], tokens: int, flops: float) -> dict[str, Any]:
    """Tokens and operations a second; operations are those of our step, on all sides."""
    seconds = side["seconds_per_step"]
    memory = side.get("memory") or {k: v for k, v in side.items() if k.startswith("gpu_")}
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
        "matmul_flops_per_second": statistics.median(rates),
    }


def said(row: dict[str, Any], name: str, peak: float) -> str:
    """One line for a side."""
    side = row[name]
    title = f"{row['shape']:10} {row['method']:4} {row['micro_batch']} x {row['max_length']:4} {name:14}"
    if "failed" in side:
        return f"{title} {side['failed']}"
    ratio = side["seconds_per_step"] / row["mathreason"]["seconds_per_step"]
    flops = side["flops_per_second"]
    return (
        f"{title} {side['tokens_per_second']:8.0f} tokens/s, {flops / 1e12:6.1f} TFLOP/s, "
        f"{flops / peak:.0%} of the matrix product, ratio {ratio:.2f}, GiB {side['gib']}"
    )


def pythons(sides: list[str], given: dict[str, Path | None], cache: Path) -> dict[str, str]:
    """The interpreter of each side."""
    found = {"mathreason": sys.executable}
    for name in sides:
        if name == "unsloth":
            if given["unsloth"] is None:
                raise click.UsageError("unsloth needs --unsloth-python, an interpreter that has it")
            found[name] = str(given["unsloth"])
        else:
            found[name] = str(given["trl"] or pair.trl_python(cache))
    return found


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path, exists=True), required=True, help="Has gsm8k/.")
@click.option("--settings", "asked", default=SETTINGS, show_default=True, help="shape:method:length, ...")
@click.option("--layers", type=int, help="Fewer layers than the shape has, to try the script.")
@click.option("--dtype", type=click.Choice(["bfloat16", "float32"]), default="bfloat16", show_default=True)
@click.option("--tokens", default=16384, show_default=True, help="Of a micro-batch, in whole blocks.")
@click.option("--examples", default=192, show_default=True, help="GSM8K examples, all in each step.")
@click.option("--steps", default=4, show_default=True, help="The first is not measured.")
@click.option("--sides", default="trl,trl with liger", show_default=True, help=f"Of {', '.join(SCRIPTS)}.")
@click.option("--python", type=click.Path(path_type=Path), help="Has TRL; else an environment is made.")
@click.option("--unsloth-python", type=click.Path(path_type=Path), help="Has unsloth.")
@click.option("--cache", type=click.Path(path_type=Path), default=Path(tempfile.gettempdir()) / "trl")
@click.option("--seconds", default=float("inf"), help="Begin nothing after so long.")
@click.option("--output", type=click.Path(path_type=Path), help="JSON file for the figures.")
def main(
    asked: str,
    sides: str,
    python: Path | None,
    unsloth_python: Path | None,
    cache: Path,
    seconds: float,
    output: Path | None,
    **settings: Any,
) -> None:
    """Print tokens and operations per second and memory of all sides in every setting."""
    until = time.monotonic() + seconds
    names = [name for name in sides.split(",") if name]
    own = pythons(names, {"trl": python, "unsloth": unsloth_python}, cache)
    running = [Side(name, own[name]) for name in ("mathreason", *names)]
    document: dict[str, Any] = {
        "machine": {},
        "settings": {key: value for key, value in settings.items() if not isinstance(value, Path)},
        "rows": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        for setting in asked.split(","):
            shape, method, length = setting.split(":")
            if time.monotonic() > until:
                click.echo(f"{setting}: not measured, the time is up", err=True)
                continue
            model = Path(folder) / shape
            if not model.exists():
                write_model(shape, model, settings)
            if not document["machine"]:
                document["machine"] = machine(settings["dtype"])
                click.echo(json.dumps(document["machine"]))
            row = {"shape": shape, "method": method, "max_length": int(length)}
            row["micro_batch"] = max(1, settings["tokens"] // int(length))
            document["rows"].append(row)
            for _ in measure(row, running, model, settings, until):
                measured = [name for name in SCRIPTS if name in row][-1]
                click.echo(said(row, measured, document["machine"]["matmul_flops_per_second"]))
                if output:  # what was measured is not lost with a later setting
                    output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    for side in running:
        side.end()


if __name__ == "__main__":
    main()
