"""Mistral-7B on a small machine: training and evaluation inside a hard memory limit, on the CPU.

    python benchmarks/seven_billion.py --data-dir data --model-dir /local/mistral_shape
    python benchmarks/seven_billion.py --data-dir data --model-dir /tmp/two_layers --layers 2

    nf4    10 GiB   weights in 4 bits: 3 optimizer steps of 512 tokens, then 8 GSM8K items, base and tuned
    disk    6 GiB   weights in bfloat16, 14.5 GB, most of them left on disk: the same

The model has Mistral-7B-v0.1's shape and random weights (`mistral_shape.py`), which is all that time and
memory depend on. Each command runs in a control group of its own (`memory_limit.py`), in which the kernel
would kill it at the limit. With weights on disk each pass reads all of them, so the responses are short and
all items are answered together.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import yaml
from memory_limit import MemoryLimit
from mistral_shape import LAYERS, weight_bytes, write_model

GIB = 2**30
EXAMPLES = 24
PARTS: dict[str, dict[str, Any]] = {
    "nf4": {"limit_gib": 10, "model": {"quantization": "nf4"}},
    "disk": {"limit_gib": 6, "model": {"quantization": "none", "max_memory": {"cpu": 2}}},
}


def write_job(folder: Path, name: str, model: dict[str, Any], settings: dict[str, Any]) -> Path:
    """The job of one part: the recipe's LoRA on the first examples of GSM8K's training split."""
    data = folder / "examples.jsonl"
    lines = (
        (settings["data_dir"] / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:EXAMPLES]
    )
    data.write_text("".join(f"{line}\n" for line in map(_example, lines)), encoding="utf-8")
    columns = {"question": "question", "solution": "solution", "answer": "answer"}
    job = {
        "name": f"seven-billion-{name}",
        "model": {"name": str(settings["model_dir"]), "dtype": "bfloat16", **model},
        "data": {
            "mixture": [{"source": "jsonl", "path": str(data), "columns": columns}],
            "max_length": settings["tokens"],
            "validation_fraction": 0,
        },
        "lora": {"r": 32, "alpha": 64, "dropout": 0.1},
        "training": {
            "max_steps": settings["steps"],
            "micro_batch": 1,
            "gradient_accumulation": 1,
            "optimizer": "adamw_torch",
            "gradient_checkpointing": True,
            "logging_steps": 1,
            "checkpoint_steps": settings["steps"],
            "keep_last": 1,
        },
        "evaluation": {
            "benchmarks": ["gsm8k"],
            "limit": settings["items"],
            "batch_size": settings["items"],
            "max_new_tokens": settings["max_new_tokens"],
        },
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(job, sort_keys=False), encoding="utf-8")
    return path


def _example(line: str) -> str:
    row = json.loads(line)
    steps, _, answer = row["answer"].rpartition("\n#### ")
    return json.dumps({"question": row["question"], "solution": steps, "answer": answer})


def forget(folder: Path) -> None:
    """Drop the files of `folder` from the cache: what others have read is free for a process with a limit."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def limited(size: int, command: list[str], model: Path) -> dict[str, Any]:
    """Run `mathreason …` within `size` bytes; time and peaks."""
    click.echo(f"mathreason {' '.join(command)}")
    forget(model)
    with MemoryLimit.of(size) as limit:
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "mathreason", *command], preexec_fn=limit.join, check=False
        )
        seconds = time.monotonic() - started
    if done.returncode:
        killed = f", {limit.kills} killed at the limit" if limit.kills else ""
        raise click.ClickException(f"mathreason {command[0]} ended with {done.returncode}{killed}")
    found = {
        "seconds": round(seconds, 1),
        "peak_gib": round(limit.peak / GIB, 2),
        "anonymous_peak_gib": round(limit.anonymous_peak / GIB, 2),
        "limit_kind": limit.kind,
    }
    click.echo(f"{command[0]}: {json.dumps(found)}")
    return found


def measure(name: str, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Train and evaluate one part."""
    part = PARTS[name]
    size = part["limit_gib"] * GIB
    if "max_memory" in part["model"]:  # of fewer layers as large a part stays on disk
        in_memory = f"{part['model']['max_memory']['cpu'] * settings['layers'] / LAYERS:.2f}GiB"
        part = {**part, "model": {**part["model"], "max_memory": {"cpu": in_memory}}}
    job = write_job(folder, name, part["model"], settings)
    places = ["--results", str(folder / "results"), "--data-dir", str(settings["data_dir"])]
    training = limited(size, ["train", str(job), *places], settings["model_dir"])
    run = next((folder / "results").glob(f"seven-billion-{name}-*"))
    document = json.loads((run / "train.json").read_text(encoding="utf-8"))
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    training |= {
        "steps": document["steps"],
        "seconds_of_a_step": document["step"]["seconds"],
        "tokens": document["total_tokens"],
        "losses": [line["loss"] for line in log if "loss" in line],
        "trainable_parameters": document["trainable_parameters"],
        "model": {**document["model"], "name": settings["model_dir"].name},
        "stages": _stages(run),
    }
    evaluation = limited(size, ["evaluate", str(run), *places[2:]], settings["model_dir"])
    evaluation |= {"stages": _stages(run)}
    for file in sorted((run / "evaluations" / "gsm8k").glob("*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        evaluation[file.stem] = {"items": result["accuracy"]["n"], "timing": result["timing"]}
    return {**part, "training": training, "evaluation": evaluation}


def _stages(run: Path) -> dict[str, Any]:
    state = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return {name: stage["seconds"] for name, stage in state["stages"].items()}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "nice": os.nice(0),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1),
    }


def free_space(folder: Path, needed: int) -> None:
    """Refuse before anything is written where the runs would not fit."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise click.ClickException(
            f"{folder}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free"
        )


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path, exists=True), required=True, help="Has gsm8k/.")
@click.option("--model-dir", type=click.Path(path_type=Path), required=True, help="Written when not there.")
@click.option("--layers", default=LAYERS, show_default=True, help="Of Mistral-7B's 32.")
@click.option("--parts", default=",".join(PARTS), show_default=True, help="What to run, with commas.")
@click.option("--tokens", default=512, show_default=True, help="Tokens of a block, one block a step.")
@click.option("--steps", default=3, show_default=True, help="Optimizer steps.")
@click.option("--items", default=8, show_default=True, help="GSM8K items, all answered together.")
@click.option("--max-new-tokens", default=8, show_default=True, help="Tokens of a response.")
@click.option("--output", type=click.Path(path_type=Path), help="JSON file for the figures.")
def main(output: Path | None, parts: str, **settings: Any) -> None:
    """Train and evaluate within the limits; print and keep limits, peaks and times."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    started = time.monotonic()
    write_model(settings["model_dir"], settings["layers"], settings["data_dir"])
    document: dict[str, Any] = {
        "machine": machine(),
        "weights_gb": round(weight_bytes(settings["layers"]) / 1e9, 2),
        "settings": {key: value for key, value in settings.items() if not isinstance(value, Path)},
        "seconds_to_write_the_model": round(time.monotonic() - started, 1),
        "parts": {},
    }
    with tempfile.TemporaryDirectory() as scratch:
        free_space(Path(scratch), 4 << 30)  # checkpoints: adapter and optimizer states in float32
        for name in parts.split(","):
            document["parts"][name] = measure(name, Path(scratch), settings)
            if output:  # an hour's figures are not lost with a later part
                output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    click.echo(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
