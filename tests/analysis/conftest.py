"""`build_run`: a run directory as the other stages leave it, filled with made-up but realistic responses.

run = build_run("gsm8k", n=300, base_rate=0.1, tuned_rate=0.6)    # deterministic for its arguments
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mathreason.results import RunDir

NAMES = ("Natalia", "Weng", "Betty", "Julie", "James", "Mark", "Albert", "Ken")
THINGS = ("clips", "eggs", "pages", "letters", "flowers", "pizzas", "apples", "stickers")
HOSTILE = (
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "nul \x00 here, \u202egnp.exe and \u200f marks, lone \ud800 surrogate",
    "{{ 7 * 7 }} {% raw %} <!-- <b>bold</b> &amp; --> ]]> \u2028 end",
)

BuildRun = Callable[..., RunDir]


def item(rng: random.Random) -> dict[str, Any]:
    """A word problem with 1 to 9 steps: numbers to work with, the question, and the result of each step."""
    steps = min(9, 1 + int(rng.expovariate(0.45)))
    numbers = [rng.randint(2, 60) for _ in range(steps + 1)]
    totals, lines = [numbers[0]], []
    for number in numbers[1:]:
        operator = rng.choice("+-") if totals[-1] > number else "+"
        total = totals[-1] + number if operator == "+" else totals[-1] - number
        lines.append((totals[-1], operator, number, total))
        totals.append(total)
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    told = ", then ".join(
        f"{'gets' if sign == '+' else 'gives away'} {number}" for _, sign, number, _ in lines
    )
    return {
        "steps": steps,
        "lines": lines,
        "thing": thing,
        "question": f"{name} has {numbers[0]} {thing}. On one day {name} {told}. How many {thing} are left?",
        "answer": str(totals[-1]),
    }


def response(rng: random.Random, problem: dict[str, Any], right: bool, tuned: bool) -> dict[str, Any]:
    """A response in the style of a base or a tuned model, right or wrong in one of four ways."""
    lines = [f"{a} {sign} {b} = {c} {problem['thing']}." for a, sign, b, c in problem["lines"]]
    answer, kind = (
        problem["answer"],
        "right" if right else rng.choice(("slip", "slip", "set-up", "none", "cut")),
    )
    if kind == "slip":
        at = rng.randrange(len(lines))
        a, sign, b, c = problem["lines"][at]
        lines[at] = f"{a} {sign} {b} = {c + rng.choice((1, -1, 10))} {problem['thing']}."
        answer = str(int(answer) + 1)
    if kind == "set-up":
        lines, answer = [f"The answer follows from the first number, {problem['lines'][0][0]}."], "7"
    padding = rng.randint(0, 3) if tuned else rng.randint(2, 12)
    text = "\n".join(["Let us think about it."] * padding + lines)
    if kind in ("none", "cut"):
        extracted, strategy = None, "none"
    elif tuned or rng.random() < 0.3:
        text, extracted, strategy = f"{text}\n#### {answer}", answer, "hash"
    else:
        text, extracted, strategy = f"{text}\nSo it is {answer}", answer, "last_number"
    return {
        "response": text,
        "extracted": extracted,
        "strategy": strategy,
        "correct": right,
        "truncated": kind == "cut",
        "finish_reason": "length" if kind == "cut" else "stop",
        "prompt_tokens": 61,
        "response_tokens": 256 if kind == "cut" else max(4, len(text) // 4),
    }


def samples(
    benchmark: str, variant: str, *, n: int, rate: float, seed: int, hostile: bool
) -> list[dict[str, Any]]:
    """`n` sample lines; the items depend on the benchmark and the seed, the responses on the variant too."""
    rows = []
    for index in range(n):
        problem = item(random.Random(f"{seed}/{benchmark}/{index}"))
        rng = random.Random(f"{seed}/{benchmark}/{index}/{variant}")
        right = rng.random() < rate * (1.25 if problem["steps"] < 3 else 0.8)
        row = response(rng, problem, right, variant == "tuned")
        if hostile and index < len(HOSTILE):
            row["response"] = f"{HOSTILE[index]}\n{row['response']}"
        rows.append(
            {
                "key": key(benchmark, variant),
                "index": index,
                "id": f"{benchmark}/test/{index}",
                "question": problem["question"],
                "answer": problem["answer"],
                "steps": problem["steps"],
                "solution": "\n".join(f"{a} {sign} {b} = {c}" for a, sign, b, c in problem["lines"]),
                "attributes": {"type": ("Algebra", "Counting", "Geometry")[index % 3]},
                "prompt_sha256": hashlib.sha256(problem["question"].encode()).hexdigest(),
                **row,
            }
        )
    return rows


def key(benchmark: str, variant: str) -> str:
    return hashlib.sha256(f"{benchmark}/{variant}".encode()).hexdigest()[:16]


def summary(benchmark: str, variant: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    correct = sum(row["correct"] for row in rows)
    return {
        "schema_version": 1,
        "benchmark": benchmark,
        "variant": variant,
        "key": key(benchmark, variant),
        "items_sha256": hashlib.sha256(benchmark.encode()).hexdigest(),
        "n": len(rows),
        "accuracy": {"correct": correct, "n": len(rows), "value": correct / len(rows)},
        "prompt": {
            "hash": "8f1c",
            "style": "plain",
            "few_shot": 0,
            "example": f"Solve the problem.\n\nQuestion: {rows[0]['question']}\nAnswer:",
        },
        "model": {
            "name": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
            "revision": "fe8a4ea1ffedaf415f4da2f062534de366a451e6",
            "dtype": "bfloat16",
            "quantization": "none",
            "attention": "sdpa",
            "device": "cuda:0",
        },
        "adapter": {"sha256": "ab" * 32, "path": "adapter"} if variant == "tuned" else None,
        "settings": {
            "engine": "transformers",
            "batch_size": 32,
            "max_new_tokens": 256,
            "stop": ["\nQuestion:"],
            "limit": len(rows),
        },
        "contamination": {"clean": True, "marked": [], "note": "no match with the training data"},
        "fallbacks": [],
        "timing": {"seconds": 12.1, "items_per_second": 24.1, "response_tokens_per_second": 1010.0},
    }


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_training(run: RunDir, seed: int) -> None:
    rng = random.Random(seed)
    log: list[dict[str, Any]] = []
    validation = []
    for step in range(5, 1125, 5):
        loss = 0.35 + 1.7 * 0.994**step + rng.gauss(0, 0.05)
        log.append({"step": step, "epoch": step / 560, "loss": round(loss, 4), "learning_rate": 1e-4})
        if step % 100 == 0:
            validation.append({"step": step, "loss": round(0.4 + 1.5 * 0.993**step, 4)})
            log.append({"step": step, "validation_loss": validation[-1]["loss"]})
    write_lines(run.log, log)
    write(
        run.train,
        {
            "status": "done",
            "steps": 1120,
            "epochs": 2.0,
            "loss": {"first": 2.05, "last": 0.36},
            "validation": validation,
            "best": {"step": 1100, "loss": validation[-1]["loss"], "why": "lowest validation loss"},
            "supervised_tokens": 812_345,
            "total_tokens": 1_403_112,
            "supervised_tokens_per_second": 5210.4,
            "total_tokens_per_second": 9001.7,
            "peak_memory_bytes": 9_876_543_210,
            "wall_seconds": 756.2,
            "trainable_parameters": 25_231_360,
            "frozen_parameters": 1_100_048_384,
            "learning_rate": 1e-4,
            "fallbacks": ["attention: flash_attention_2 is not installed, sdpa is used"],
        },
    )


def write_data(run: RunDir, kept: int) -> None:
    gsm_hard = {"contaminated": 1316, "duplicate": 0, "too_long": 1, "no_answer": 0}
    write(
        run.data,
        {
            "sources": [
                {
                    "source": "gsm8k",
                    "split": "train",
                    "asked": 3000,
                    "taken": 3000,
                    "read": 3104,
                    "from": "local: data/gsm8k/train.jsonl",
                    "fallback": None,
                    "dropped": {"contaminated": 4, "duplicate": 0, "too_long": 12, "no_answer": 0},
                },
                {
                    "source": "gsm_hard",
                    "split": "train",
                    "asked": 1000,
                    "taken": 2,
                    "read": 1319,
                    "from": "hub: reasoning-machines/gsm-hard",
                    "fallback": "the local copy does not exist",
                    "dropped": gsm_hard,
                },
            ],
            "counts": {"train": 3900, "validation": 200},
            "tokens": {"train": {"total": 701_556, "supervised": 406_172}},
            "audit": {
                "benchmarks": ["gsm8k"],
                "policy": "drop",
                "checked": 4423,
                "matched": 1320,
                "exact": 1245,
                "ngram": 75,
                "kept_contaminated": kept,
                "by_source": {"gsm_hard": {"checked": 1319, "matched": 1316}},
                "examples": [
                    {
                        "id": "gsm_hard/train/0",
                        "item": "gsm8k/test/0",
                        "reason": "exact after masking numbers",
                    }
                ],
            },
            "hashes": {"train": "cd" * 32, "validation": "ef" * 32},
        },
    )


@pytest.fixture
def build_run(tmp_path: Path) -> BuildRun:
    """A function that writes a run directory and returns its RunDir."""

    def build(
        *benchmarks: str,
        n: int = 200,
        base_rate: float = 0.15,
        tuned_rate: float = 0.55,
        variants: tuple[str, ...] = ("base", "tuned"),
        seed: int = 0,
        name: str = "tinyllama-gsm8k",
        training: bool = True,
        hostile: bool = False,
        clean: bool = True,
    ) -> RunDir:
        run = RunDir(tmp_path / name)
        write(run.run, {"status": "done", "name": name, "started_at": "2026-11-22T10:00:00+00:00"})
        run.job.write_text(f"name: {name}\nmodel:\n  name: TinyLlama/TinyLlama-1.1B-Chat-v1.0\n")
        for benchmark in benchmarks:
            for variant in variants:
                rate = base_rate if variant == "base" else tuned_rate
                rows = samples(benchmark, variant, n=n, rate=rate, seed=seed, hostile=hostile)
                document = summary(benchmark, variant, rows)
                if not clean and variant == "tuned":
                    document["contamination"] = {
                        "clean": False,
                        "marked": [f"{benchmark}/test/{index}" for index in range(12)],
                        "note": "12 test items stand in the training data",
                    }
                write_lines(run.samples(benchmark, variant), rows)
                write(run.evaluation(benchmark, variant), document)
        if training:
            write_training(run, seed)
            write_data(run, kept=0 if clean else 12)
        return run

    return build
