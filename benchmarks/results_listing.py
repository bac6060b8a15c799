"""How long `mathreason results` takes over many runs in one folder.

    python benchmarks/results_listing.py --runs 10000

The folder is made of copies of one real run, trained and evaluated first: each has its run.json, scores.json
and comparison.json as they are, and empty files where a run has others. The file system's cache is warm.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

JOB = """
name: listed
model: {name: embedded}
data: {mixture: [{source: generator, count: 60}], max_length: 256}
training: {max_steps: 2, micro_batch: 1}
evaluation: {benchmarks: [{name: generator, count: 30}], max_new_tokens: 16}
"""


def program(*arguments: str | Path) -> float:
    """Seconds that `mathreason …` took, start of Python and all."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "mathreason", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def fill(results: Path, source: Path, runs: int) -> None:
    """`runs` copies of a run, told apart by name and time."""
    state = json.loads((source / "run.json").read_text(encoding="utf-8"))
    results_files = {name: (source / name).read_bytes() for name in ("comparison.json", "scores.json")}
    for index in range(runs):
        folder = results / f"{source.name[:-8]}{index:08x}"
        folder.mkdir()
        hour, minute = divmod(index % 1440, 60)
        state["started_at"] = f"2026-01-{1 + index // 1440:02}T{hour:02}:{minute:02}:00+00:00"
        (folder / "run.json").write_text(json.dumps(state, indent=2), encoding="utf-8")
        for name, content in results_files.items():
            (folder / name).write_bytes(content)
        for name in ("job.yaml", "data.json", "train.json", "log.jsonl", "report.html"):
            (folder / name).touch()


@click.command()
@click.option("--runs", default=10_000, show_default=True)
@click.option("--repeats", default=5, show_default=True)
@click.option("--output", type=click.Path(path_type=Path))
def main(runs: int, repeats: int, output: Path | None) -> None:
    """Print the median seconds of the table, of --json and of `mathreason status`."""
    with tempfile.TemporaryDirectory() as name:
        base, results = Path(name), Path(name) / "many"
        (base / "job.yaml").write_text(JOB, encoding="utf-8")
        program("run", base / "job.yaml", "--results", base / "one")
        results.mkdir()
        [source] = [path for path in (base / "one").iterdir() if (path / "run.json").is_file()]
        fill(results, source, runs)
        asked = {"results": ["results"], "results --json": ["results", "--json"], "status": ["status"]}
        rows = {}
        for title, arguments in asked.items():
            times = [program(*arguments, "--results", results) for _ in range(repeats)]
            rows[title] = {"median": statistics.median(times), "seconds": times}
            click.echo(f"{title:15} {runs} runs: {rows[title]['median']:.2f} s")
        shutil.rmtree(results)
    if output:
        output.write_text(json.dumps({"runs": runs, "commands": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
