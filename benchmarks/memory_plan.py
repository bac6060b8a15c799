"""What `mathreason plan` says beside what training really takes, on configurations of every kind.

    python benchmarks/memory_plan.py                      # all, on this CPU; about ten minutes
    python benchmarks/memory_plan.py --only 3             # one of them
    python benchmarks/memory_plan.py --published          # Mistral-7B rows measured by others on an A100
    python benchmarks/memory_plan.py --gpu benchmarks/results/gpu.json --data-dir data    # rows of gpu.py

Each configuration trains two steps in a process of its own, by the command line, on a random model of a
Llama's shape. On a CPU the peak is that of the process's anonymous memory (RssAnon of proc(5), looked at
every two milliseconds; between two looks, what the high-water mark of all its memory rose to, less the
pages of files): pages of files, such as libraries and the mapped weights, can be given back and do not
count, in the plan neither. On a GPU it is the allocator's peak, and the plan is without CUDA's own memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import yaml

SHAPES = {  # hidden size, intermediate size, layers, heads, key-value heads, vocabulary
    "30M": (512, 1408, 8, 8, 4, 8192),
    "85M": (1024, 2816, 6, 16, 4, 8192),
    "125M": (768, 2048, 16, 12, 12, 16000),
    "220M": (2048, 5632, 2, 32, 4, 32000),
}
SETTINGS: list[dict[str, Any]] = [
    {"model": "embedded", "dtype": "float32", "length": 512, "micro_batch": 4, "checkpointing": False},
    {"model": "30M", "dtype": "float32", "length": 512, "micro_batch": 2, "checkpointing": False},
    {"model": "30M", "dtype": "bfloat16", "length": 1024, "micro_batch": 4, "checkpointing": True},
    {"model": "85M", "dtype": "float32", "length": 1024, "micro_batch": 1, "checkpointing": False},
    {"model": "85M", "dtype": "float32", "length": 512, "micro_batch": 4, "checkpointing": True},
    {"model": "85M", "dtype": "bfloat16", "length": 512, "micro_batch": 2, "checkpointing": False},
    {
        "model": "85M",
        "dtype": "bfloat16",
        "length": 256,
        "micro_batch": 4,
        "checkpointing": True,
        "nf4": True,
    },
    {"model": "125M", "dtype": "float32", "length": 256, "micro_batch": 4, "checkpointing": False},
    {"model": "125M", "dtype": "bfloat16", "length": 512, "micro_batch": 1, "checkpointing": True},
    {"model": "220M", "dtype": "float32", "length": 512, "micro_batch": 1, "checkpointing": False},
    {"model": "220M", "dtype": "bfloat16", "length": 256, "micro_batch": 2, "checkpointing": True},
    {
        "model": "220M",
        "dtype": "bfloat16",
        "length": 256,
        "micro_batch": 2,
        "checkpointing": False,
        "nf4": True,
    },
    {
        "model": "30M",
        "dtype": "float32",
        "length": 512,
        "micro_batch": 2,
        "checkpointing": False,
        "dora": True,
    },
]
PUBLISHED = {"LoRA": 24.9, "nf4": 15.2}
"""GiB of torch's peak: Mistral-7B-v0.1, A100-80GB, packed 4096, flash-attention 2, gradient checkpointing,
LoRA r16 on q, k, v and o, 4 blocks at once (fms-acceleration's reference file; nf4 without upcast)."""
MISTRAL = {  # config.json of mistralai/Mistral-7B-v0.1
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "max_position_embeddings": 32768,
    "sliding_window": 4096,
}


def write_model(folder: Path, name: str, dtype: str) -> None:
    """A random model of shape `name` with the embedded model's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from mathreason.config import ModelConfig
    from mathreason.models import load_tokenizer

    hidden, intermediate, layers, heads, kv_heads, vocabulary = SHAPES[name]
    tokenizer = load_tokenizer(ModelConfig(name="embedded"))
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocabulary,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_job(path: Path, model: str, setting: dict[str, Any]) -> Path:
    """Two optimizer steps of two passes on generated problems."""
    job = {
        "name": "memory",
        "model": {
            "name": model,
            "quantization": "nf4" if setting.get("nf4") else "none",
            "dtype": setting["dtype"],
        },
        "data": {
            # Many short examples, so that the blocks are as full as the plan assumes.
            "mixture": [{"source": "generator", "count": 2000}],
            "max_length": setting["length"],
            "validation_fraction": 0.0,
            "on_contamination": "allow",
        },
        "lora": {"use_dora": bool(setting.get("dora"))},
        "training": {
            "max_steps": 2,
            "micro_batch": setting["micro_batch"],
            "gradient_accumulation": 2,
            "exact_memory": True,
            "gradient_checkpointing": setting["checkpointing"],
        },
        "evaluation": {"benchmarks": [{"name": "generator", "count": 1}]},
    }
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return path


def status_of(pid: int) -> dict[str, int]:
    """Bytes of the fields of a process's status; empty when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    pairs = (line.split(":", 1) for line in lines if line.endswith(" kB"))
    return {name: int(size.split()[0]) * 1024 for name, size in pairs}


def measured(job: Path, results: Path) -> int:
    """Peak bytes of training `job` in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mathreason", "train", str(job), "--results", str(results)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
    )
    peak = most = 0
    while process.poll() is None:
        status = status_of(process.pid)
        peak = max(peak, status.get("RssAnon", 0))
        if status.get("VmHWM", 0) > most:  # a peak between two looks
            most = status["VmHWM"]
            peak = max(peak, most - status["RssFile"] - status["RssShmem"])
        time.sleep(0.002)
    if process.returncode:
        raise click.ClickException(process.stderr.read().decode()[-2000:] if process.stderr else "")
    [document] = results.glob("*/train.json")
    memory = json.loads(document.read_text(encoding="utf-8"))["memory"]
    return int(memory.get("gpu_allocated", peak))


def compare(setting: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One configuration: planned and measured bytes."""
    from mathreason.jobfile import load_job
    from mathreason.models import planned_facts
    from mathreason.results import RunDir
    from mathreason.training.memory_plan import Tracer, content_of, setting_of

    model = setting["model"]
    if model != "embedded":
        write_model(folder / "model", model, "bfloat16" if setting.get("nf4") else setting["dtype"])
        model = str(folder / "model")
    path = write_job(folder / "job.yaml", model, setting)
    found = measured(path, folder / "results")
    [run] = (folder / "results").iterdir()
    job = load_job(path)
    kind = planned_facts(job.model)["device"]
    tracer = Tracer(job, kind, content_of(RunDir(run)))
    wanted = setting_of(job)
    said = tracer.total(wanted) - tracer.mapped(wanted) if kind == "cpu" else tracer.peaks(wanted).peak
    return {**setting, "planned": said, "measured": found, "error": said / found - 1}


def published() -> list[dict[str, Any]]:
    """The plan for the published rows."""
    from transformers import MistralConfig

    from mathreason.config import JobConfig
    from mathreason.training.memory_plan import Content, Tracer, setting_of

    rows = []
    with tempfile.TemporaryDirectory() as name:
        MistralConfig(**MISTRAL).save_pretrained(name)
        for row, gib in PUBLISHED.items():
            job = JobConfig.model_validate(
                {
                    "name": "published",
                    "model": {
                        "name": name,
                        "quantization": "none" if row == "LoRA" else "nf4",
                        "dtype": "bfloat16",
                    },
                    "data": {"mixture": [{"source": "gsm8k"}], "max_length": 4096},
                    "lora": {"r": 16, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]},
                    "training": {"micro_batch": 4},
                }
            )
            tracer = Tracer(job, "cuda", Content(supervised_share=1.0, sequence_tokens=512))
            said = tracer.peaks(setting_of(job)).peak / 2**30
            rows.append({"row": row, "planned_gib": said, "published_gib": gib, "error": said / gib - 1})
    return rows


def on_gpu(figures: Path, data_dir: Path) -> list[dict[str, Any]]:
    """The plan beside the allocator's peak for what gpu.py measured; needs no GPU, and no weights."""
    import training_vs_trl as pair
    from gpu import LAYERS, QUANTIZATION
    from mistral_shape import config as mistral
    from transformers import LlamaConfig

    from mathreason.jobfile import load_job
    from mathreason.training.memory_plan import Content, Tracer, setting_of

    document = json.loads(figures.read_text(encoding="utf-8"))
    rows = []
    for row in document["rows"]:
        if "mathreason" not in row:
            continue
        with tempfile.TemporaryDirectory() as name:
            folder, layers = Path(name), document["settings"]["layers"] or LAYERS[row["shape"]]
            tiny = LlamaConfig(
                num_hidden_layers=layers, tie_word_embeddings=False, dtype="bfloat16", **pair.TINYLLAMA
            )
            (mistral(layers) if row["shape"] == "mistral" else tiny).save_pretrained(folder)
            asked = {**document["settings"], "max_length": row["max_length"]}
            path = pair.write_job(folder, folder, data_dir, asked)
            job = load_job(
                path,
                [
                    f"model.quantization={QUANTIZATION[row['method']]}",
                    f"training.micro_batch={row['micro_batch']}",
                    "training.gradient_checkpointing=true",
                ],
            )
            content = Content(sequence_tokens=row["tokens_in_a_step"] // asked["examples"])
            said = Tracer(job, "cuda", content).peaks(setting_of(job)).peak / 2**30
        found = row["mathreason"]["gib"]["gpu_allocated"]
        key = {name: row[name] for name in ("shape", "method", "micro_batch", "max_length")}
        rows.append({**key, "planned_gib": said, "measured_gib": found, "error": said / found - 1})
    return rows


@click.command()
@click.option("--only", type=int, help="Number of one configuration, from 1.")
@click.option("--published", "others", is_flag=True, help="The plan for rows that others measured.")
@click.option("--gpu", type=click.Path(path_type=Path, exists=True), help="The plan for what gpu.py found.")
@click.option("--data-dir", type=click.Path(path_type=Path, exists=True), help="With --gpu: has gsm8k/.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the rows as JSON.")
def main(
    only: int | None, others: bool, gpu: Path | None, data_dir: Path | None, output: Path | None
) -> None:
    """Plan and measure, one line for each configuration."""
    rows = []
    if gpu is not None:
        if data_dir is None:
            raise click.UsageError("--gpu needs --data-dir")
        rows = on_gpu(gpu, data_dir)
        for row in rows:
            click.echo(
                f"{row['shape']:9} {row['method']:4} {row['micro_batch']} x {row['max_length']} planned "
                f"{row['planned_gib']:5.2f} GiB, measured {row['measured_gib']:5.2f}  ({row['error']:+.1%})"
            )
    if others:
        rows = published()
        for row in rows:
            click.echo(
                f"{row['row']:6} planned {row['planned_gib']:5.1f} GiB, published {row['published_gib']:5.1f}"
                f"  ({row['error']:+.0%})"
            )
    for number, setting in enumerate([] if others or gpu else SETTINGS, start=1):
        if only in (None, number):
            with tempfile.TemporaryDirectory() as name:
                row = compare(setting, Path(name))
            rows.append(row)
            click.echo(
                f"{number:2} {row['model']:8} {row['dtype']:8} {'nf4' if row.get('nf4') else '':3} "
                f"{'DoRA' if row.get('dora') else '':4} {row['micro_batch']} x {row['length']:4} "
                f"{'recomputed' if row['checkpointing'] else '':10} "
                f"planned {row['planned'] / 2**20:6.0f} MiB  measured {row['measured'] / 2**20:6.0f} MiB  "
                f"{row['error']:+.1%}"
            )
    if output:
        output.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
