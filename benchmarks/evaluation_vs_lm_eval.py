"""8-shot GSM8K: the transformers engine beside lm-evaluation-harness's hf backend, on the same machine.

    python benchmarks/evaluation_vs_lm_eval.py --data-dir data [--model DIR] [--items 128] [--dtype float32]

Both sides get the same model, the same prompts (lm_eval's task gsm8k_cot), the same stop texts and token
limit, and the same number of threads, one after the other, each in a process of its own. lm_eval runs at
batch size 1, 8, 16 and auto; its best counts. We run before it and after it; the slower time counts.
Measured is generation alone, without loading the model or building the task; lm_eval's search for a batch
size is part of auto. Prompts, responses and verdicts are compared item by item; exit code 1 when a verdict
differs. Without --model, the small model of `small_model.py` is pretrained first.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
from lm_eval_venv import DEFAULT_CACHE, lm_eval_python

GENERATION = Path(__file__).with_name("lm_eval_generation.py")
BATCH_SIZES = ("1", "8", "16", "auto")
MAX_NEW_TOKENS = 256
STOP = ("Q:", "</s>", "<|im_end|>")
MATMUL = 2048


def ours(model: Path, data_dir: Path, items: int, dtype: str) -> dict[str, Any]:
    """Our side, with the same keys as lm_eval_generation.py prints, and the work that was done."""
    import torch

    from mathreason.config import BenchmarkConfig, EvaluationConfig, ModelConfig, PromptConfig
    from mathreason.evaluation.benchmarks import load_items
    from mathreason.evaluation.engine import Request, Sampling
    from mathreason.evaluation.fewshot import evaluation_prompter
    from mathreason.evaluation.harness import gsm8k_cot_verdicts
    from mathreason.evaluation.transformers_engine import TransformersEngine, shared_prefix_length
    from mathreason.models import load_model
    from mathreason.progress import Reporter

    loaded = load_model(ModelConfig(name=str(model), quantization="none", dtype=dtype), Reporter(quiet=True))
    benchmark = BenchmarkConfig(name="gsm8k")
    settings = EvaluationConfig(few_shot=8, few_shot_format="lm_eval_gsm8k_cot")
    prompter = evaluation_prompter(PromptConfig(), settings, benchmark, loaded.tokenizer, data_dir)
    problems = load_items(benchmark, data_dir)[:items]
    prompts = [prompter.prompt(problem.question, place) for place, problem in enumerate(problems)]
    requests = [Request(i, text, prompter.prompt_ids(text), 0) for i, text in enumerate(prompts)]
    engine = TransformersEngine(loaded, Sampling(MAX_NEW_TOKENS, STOP), "auto", Reporter(quiet=True))
    started = time.perf_counter()
    responses = dict(engine.generate(requests))
    seconds = time.perf_counter() - started
    rows = []
    for i, problem in enumerate(problems):
        verdicts = gsm8k_cot_verdicts(responses[i].text, problem.answer)
        row = {"position": i, "prompt": prompts[i], "response": responses[i].text}
        rows.append({**row, "strict": verdicts.strict, "flexible": verdicts.flexible})
    config = loaded.model.config
    return {
        "seconds": seconds,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "items": rows,
        "prompt_tokens": sum(len(request.prompt_ids) for request in requests),
        "shared_tokens": shared_prefix_length([request.prompt_ids for request in requests]),
        "response_tokens": sum(response.tokens for response in responses.values()),
        "stopped": sum(response.finish_reason == "stop" for response in responses.values()),
        "parameters": loaded.model.num_parameters(),
        "attention_flops": 4 * config.num_hidden_layers * config.hidden_size,
        "threads": torch.get_num_threads(),
        "matmul_gflops": matmul_gflops(dtype),
    }


def matmul_gflops(dtype: str) -> float:
    """The best of ten products of two 2048 x 2048 matrices, in GFLOP/s."""
    import torch

    matrix = torch.randn(MATMUL, MATMUL, dtype=getattr(torch, dtype))
    times = []
    for _ in range(10):
        started = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - started)
    return 2 * MATMUL**3 / min(times) / 1e9


def flops(side: dict[str, Any], tokens: int) -> float:
    """Multiply-adds of `tokens` through the layers and the head, each attending to a whole prompt."""
    context = side["prompt_tokens"] / len(side["items"])
    return tokens * (2.0 * side["parameters"] + side["attention_flops"] * context)


def in_process(arguments: list[str], seconds: float, **environment: str) -> dict[str, Any] | None:
    """The JSON that a command prints; None when it takes longer than `seconds`."""
    try:
        done = subprocess.run(
            arguments,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=seconds,
            env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
        )
    except subprocess.TimeoutExpired:
        return None
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def lm_eval_with_models(cache: Path) -> Path:
    """lm_eval's environment with this environment's versions of torch and transformers."""
    from importlib.metadata import version

    python = lm_eval_python(cache)
    if subprocess.run([python, "-c", "import torch, transformers"], check=False).returncode:
        torch = version("torch").partition("+")[0]
        for packages in ([f"torch=={torch}"], [f"transformers=={version('transformers')}", "accelerate"]):
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def compare(our: dict[str, Any], their: dict[str, Any]) -> tuple[int, int, int]:
    """How many prompts, responses and verdicts differ."""
    pairs = list(zip(our["items"], their["items"], strict=True))
    prompts = sum(a["prompt"] != b["prompt"] for a, b in pairs)
    responses = sum(a["response"] != b["response"] for a, b in pairs)
    verdicts = sum((a["strict"], a["flexible"]) != (b["strict"], b["flexible"]) for a, b in pairs)
    return prompts, responses, verdicts


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), required=True, help="Folder with gsm8k/.")
@click.option("--model", type=click.Path(path_type=Path), help="Model folder; else the small model.")
@click.option("--cache", type=click.Path(path_type=Path), default=DEFAULT_CACHE, help="Folder for lm_eval.")
@click.option("--items", default=128, show_default=True, help="GSM8K test items, from the first on.")
@click.option("--dtype", default="float32", show_default=True)
@click.option("--batch-sizes", default=",".join(BATCH_SIZES), show_default=True, help="Of lm_eval.")
@click.option("--memory-gib", default=16.0, show_default=True, help="Address space of lm_eval's process.")
@click.option("--seconds", default=900.0, show_default=True, help="A side that takes longer is stopped.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the figures here as JSON.")
@click.option("--side", hidden=True, help="Run our side alone and print its JSON.")
def main(
    data_dir: Path,
    model: Path | None,
    cache: Path,
    items: int,
    dtype: str,
    batch_sizes: str,
    memory_gib: float,
    seconds: float,
    output: Path | None,
    side: str | None,
) -> None:
    """Items per second of both, their peaks of memory, and whether they agree."""
    if side:
        json.dump(ours(Path(model or ""), data_dir, items, dtype), sys.stdout)
        return
    python = lm_eval_with_models(cache)
    model = model or small_model(cache, data_dir)
    common = [f"--data-dir={data_dir}", f"--model={model}", f"--items={items}", f"--dtype={dtype}"]
    command = [sys.executable, __file__, *common, "--side=ours"]
    our = in_process(command, seconds)
    if our is None:
        raise click.ClickException(f"our side took more than {seconds:.0f} s")
    describe(our, dtype)
    lines = [our_line(our)]
    for batch_size in batch_sizes.split(","):
        arguments = [*map(str, (python, GENERATION, model, data_dir, items, batch_size, dtype, memory_gib))]
        their = in_process(arguments, seconds, HF_HOME=str(cache / "huggingface"))
        lines.append(their_line(our, their, batch_size, seconds))
        click.echo(lines[-1]["said"])
    again = in_process(command, seconds)
    lines += [our_line(again)] if again else []
    ratio = conclude(lines)
    if output:
        facts = {name: our[name] for name in ("threads", "parameters", "matmul_gflops", "response_tokens")}
        settings = {"items": items, "dtype": dtype, "max_new_tokens": MAX_NEW_TOKENS, **facts}
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps({**settings, "ratio": ratio, "lines": lines}, indent=2) + "\n")
    sys.exit(1 if any(line.get("prompts_differ") or line.get("verdicts_differ") for line in lines) else 0)


def small_model(cache: Path, data_dir: Path) -> Path:
    """The folder of the small model, pretrained at the first call."""
    folder = cache / "small_model"
    if not (folder / "config.json").is_file():
        from small_model import pretrain

        pretrain(data_dir, folder)
    return folder


def describe(our: dict[str, Any], dtype: str) -> None:
    items = len(our["items"])
    click.echo(
        f"{our['parameters'] / 1e6:.1f} M parameters, {dtype}, {our['threads']} threads, {items} items; "
        f"prompts of {our['prompt_tokens'] / items:.0f} tokens, {our['shared_tokens']} of them shared; "
        f"responses of {our['response_tokens'] / items:.0f} tokens, {our['stopped']} of them ended by "
        f"themselves, {len({row['response'] for row in our['items']})} different"
    )
    click.echo(f"matrix product of this machine: {our['matmul_gflops']:.0f} GFLOP/s")


def our_line(our: dict[str, Any]) -> dict[str, Any]:
    """Our figures; the work is what this engine does, with the shared prefix read once."""
    again = our["shared_tokens"] * (len(our["items"]) - 1)
    line = _figures("mathreason", "auto", our, our, our["prompt_tokens"] - again + our["response_tokens"])
    click.echo(line["said"])
    return line


def their_line(
    our: dict[str, Any], their: dict[str, Any] | None, batch_size: str, seconds: float
) -> dict[str, Any]:
    """lm_eval's figures; the work is what it does, every prompt read whole."""
    if their is None:
        most = len(our["items"]) / seconds
        said = f"lm_eval    batch {batch_size:>4}: stopped after {seconds:.0f} s, below {most:.3f} items/s"
        return {"tool": "lm_eval", "batch_size": batch_size, "items_per_second_below": most, "said": said}
    line = _figures("lm_eval", batch_size, our, their, our["prompt_tokens"] + our["response_tokens"])
    prompts, responses, verdicts = compare(our, their)
    line |= {"prompts_differ": prompts, "responses_differ": responses, "verdicts_differ": verdicts}
    line["said"] += f"; {prompts} prompts, {responses} responses, {verdicts} verdicts differ"
    return line


def _figures(
    tool: str, batch_size: str, our: dict[str, Any], side: dict[str, Any], tokens: int
) -> dict[str, Any]:
    speed = len(side["items"]) / side["seconds"]
    gflops = flops(our, tokens) / side["seconds"] / 1e9
    share = gflops / our["matmul_gflops"]
    said = (
        f"{tool:10} batch {batch_size:>4}: {speed:.3f} items/s, peak {side['peak_gib']:.2f} GiB, "
        f"{gflops:.0f} GFLOP/s or {share:.0%} of the matrix product"
    )
    return {
        "tool": tool,
        "batch_size": batch_size,
        "items_per_second": speed,
        "peak_gib": side["peak_gib"],
        "gflops": gflops,
        "share_of_matmul": share,
        "said": said,
    }


def conclude(lines: list[dict[str, Any]]) -> float:
    """Our slower time against lm_eval's best batch size."""
    speeds: dict[str, list[float]] = {"mathreason": [], "lm_eval": []}
    for line in lines:
        speeds[line["tool"]].append(line.get("items_per_second", 0.0))
    ratio = min(speeds["mathreason"]) / max(speeds["lm_eval"])
    click.echo(f"ratio to lm_eval at its best batch size: {ratio:.2f}")
    return ratio


if __name__ == "__main__":
    main()
