"""64 processes that write 50 runs each into one results folder, and are killed at random moments.

    python tests/many_runs.py RESULTS PROCESSES RUNS KILLS

Each run goes the way of a real one, through a session that keeps run.json, with its results written by the
functions that write them, but without a model. A process that was killed is replaced by one that goes on
with the next run. Prints, as JSON, how many were killed and the runs that said they were done.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import yaml

from mathreason.config import JobConfig
from mathreason.results import RunDir, append_jsonl, write_json, write_jsonl
from mathreason.session import Target, open_session

JOB = """
name: many
model: {name: embedded}
data: {mixture: [{source: generator, count: 10}]}
evaluation: {benchmarks: [{name: generator, count: 20}]}
"""
ITEMS = 20


def one_run(root: Path, name: str) -> None:
    """What the stages of a run leave, in their order."""
    job = JobConfig.model_validate({**yaml.safe_load(JOB), "name": name})
    run = RunDir(root / name)
    with open_session(Target(job, run, None)) as session:
        with session.stage("data"):
            write_json(run.data, {"sources": [], "audit": {}})
        with session.stage("train"):
            for step in range(3):
                append_jsonl(run.log, [{"step": step, "loss": 1.0 / (step + 1)}])
            write_json(run.train, {"steps": 3, "best": {"step": 3}})
        with session.stage("evaluate"):
            for variant in ("base", "tuned"):
                path = run.samples("generator", variant)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_jsonl(path, ({"index": i, "correct": i % 2 == 0} for i in range(ITEMS)))
                write_json(run.evaluation("generator", variant), {"n": ITEMS, "accuracy": {"value": 0.5}})
        with session.stage("compare"):
            sides = {side: {"value": 0.5} for side in ("base", "tuned")}
            write_json(run.comparison, {"benchmarks": {"generator": {"n": ITEMS, **sides}}})


def work(root: Path, ledger: Path, number: int, runs: int) -> None:
    """The runs of process `number` that were not begun yet, each noted in `ledger` once it is done."""
    for index in range(runs):
        name = f"many-{number:02}-{index:02}"
        if not (root / name).exists():
            one_run(root, name)
            append_jsonl(ledger / f"{number:02}.jsonl", [{"done": name}])


def start(root: Path, ledger: Path, number: int, runs: int) -> int:
    """Number of the new process."""
    pid = os.fork()
    if pid:
        return pid
    os.nice(10)  # so that the process that kills is not the one that waits
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    try:
        work(root, ledger, number, runs)
    except BaseException as error:
        (ledger / f"{number:02}.failed").write_text(repr(error))
        os._exit(1)
    os._exit(0)


def main(root: Path, processes: int, runs: int, kills: int) -> None:
    ledger = root.parent / "ledger"
    ledger.mkdir()
    chance = random.Random(0)
    alive = {start(root, ledger, number, runs): number for number in range(processes)}
    killed = 0
    while alive:
        pid, status = os.waitpid(-1, os.WNOHANG if killed < kills else 0)
        if not pid:
            time.sleep(chance.uniform(0.0, 0.01))
            # Kills are spread over the work, however fast it goes.
            if sum(1 for _ in root.iterdir()) < 0.8 * processes * runs * killed / kills:
                continue
            pid = chance.choice(list(alive))
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
        number = alive.pop(pid)
        if os.WIFSIGNALED(status):
            killed += 1
            alive[start(root, ledger, number, runs)] = number
    lines = [line for path in sorted(ledger.glob("*.jsonl")) for line in path.read_text().splitlines()]
    done = [json.loads(line)["done"] for line in lines]
    failed = [path.read_text() for path in ledger.glob("*.failed")]
    print(json.dumps({"killed": killed, "done": done, "failed": failed}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
