"""Few-shot prompts, letter by letter, beside those of lm-evaluation-harness 0.4.13.

    python benchmarks/prompts_vs_lm_eval.py --data-dir data [--cache DIR] [--write-fixture FILE]

Every document of the tasks gsm8k, gsm8k_cot and gsm8k_platinum is rendered by both, and stop texts and token
limit are compared. Without `gsm8k_platinum/test.jsonl` in the data directory GSM8K's test set stands in for
it, which draws the examples in the same way. Exit code 1 when anything differs.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from lm_eval_venv import DEFAULT_CACHE, ask, lm_eval_python

from mathreason.config import BenchmarkConfig
from mathreason.evaluation.benchmarks import load_items
from mathreason.evaluation.fewshot import MAX_NEW_TOKENS, STOP, Format, published_prompt
from mathreason.results import read_jsonl, write_jsonl

# Task of lm_eval: our format, benchmark, number of examples, and the set the examples are drawn from.
TASKS: dict[str, tuple[Format, str, int, str | None]] = {
    "gsm8k": ("lm_eval_gsm8k", "gsm8k", 5, "gsm8k/train"),
    "gsm8k_cot": ("lm_eval_gsm8k_cot", "gsm8k", 8, None),
    "gsm8k_platinum": ("lm_eval_gsm8k", "gsm8k_platinum", 5, "gsm8k_platinum/test"),
}
FIXTURE_POSITIONS = (*range(10), 500, 1200)


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), required=True, help="Folder with gsm8k/.")
@click.option("--cache", type=click.Path(path_type=Path), default=DEFAULT_CACHE, help="Folder for lm_eval.")
@click.option("--write-fixture", type=click.Path(path_type=Path), help="Write hashes for the tests here.")
def main(data_dir: Path, cache: Path, write_fixture: Path | None) -> None:
    """Compare the few-shot prompts of mathreason with those of lm-evaluation-harness."""
    with tempfile.TemporaryDirectory() as folder:
        data = with_platinum(data_dir.resolve(), Path(folder))
        theirs = ask(lm_eval_python(cache), "prompts", data)
        different = sum(compare(task, theirs, data) for task in TASKS)
        if write_fixture:
            write_jsonl(write_fixture, fixture(theirs, data))
    sys.exit(1 if different else 0)


def with_platinum(data_dir: Path, folder: Path) -> Path:
    """`data_dir`, or a copy by links in which GSM8K's test set stands in for GSM8K-Platinum."""
    if (data_dir / "gsm8k_platinum" / "test.jsonl").is_file():
        return data_dir
    click.echo("gsm8k_platinum: not in the data directory; GSM8K's test set stands in for it")
    (folder / "gsm8k").symlink_to(data_dir / "gsm8k")
    (folder / "gsm8k_platinum").mkdir()
    (folder / "gsm8k_platinum" / "test.jsonl").symlink_to(data_dir / "gsm8k" / "test.jsonl")
    return folder


def compare(task: str, theirs: Iterable[dict[str, Any]], data_dir: Path) -> int:
    """How many documents of `task` get another prompt, stop text or limit; the first one is shown."""
    form, name, count, _ = TASKS[task]
    benchmark = BenchmarkConfig(name=name)  # type: ignore[call-arg]
    prompt = published_prompt(form, benchmark, count, data_dir)
    rows = [row for row in theirs if row["task"] == task]
    items = load_items(benchmark, data_dir)
    different = 0
    for row, item in zip(rows, items, strict=True):
        ours = (prompt.render(item.question, row["position"]), list(STOP[form]), MAX_NEW_TOKENS)
        if ours != (row["prompt"], row["stop"], row["max_new_tokens"]):
            different += 1
            if different == 1:
                click.echo(f"{task}, document {row['position']}\n ours:   {ours!r}\n theirs: {row!r}")
    click.echo(f"{task}: {len(rows)} prompts of lm_eval, {different} differ from {form}")
    return different


def fixture(theirs: Iterable[dict[str, Any]], data_dir: Path) -> list[dict[str, Any]]:
    """For some documents of each task: SHA-256 of lm_eval's prompt and which rows its examples are."""
    rows = []
    for row in theirs:
        if row["position"] in FIXTURE_POSITIONS:
            digest = hashlib.sha256(row["prompt"].encode()).hexdigest()
            kept = {"task": row["task"], "position": row["position"], "sha256": digest}
            rows.append({**kept, "shots": shot_rows(row, data_dir)})
    return rows


def shot_rows(row: dict[str, Any], data_dir: Path) -> list[int] | None:
    """Row numbers of the worked examples in their pool; None where they are always the same."""
    pool = TASKS[row["task"]][3]
    if pool is None:
        return None
    rows = read_jsonl(data_dir / f"{pool}.jsonl")
    number = {shot["question"]: line - 1 for line, shot in rows}
    return [
        number[question] for question in re.findall(r"^Question: (.*)$", row["prompt"], re.MULTILINE)[:-1]
    ]


if __name__ == "__main__":
    main()
