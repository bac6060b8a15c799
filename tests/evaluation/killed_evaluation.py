"""Run as a process: an evaluation in child processes that are killed at random moments, 20 times.

    python killed_evaluation.py FOLDER SEED

FOLDER holds a finished run as `whole`; the killed evaluation is made in a copy of it. Prints the number of
children that were alive when they were killed, and whether files are equal at the end.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import torch

from mathreason.evaluation.plan import plan_evaluation, sampling_of
from mathreason.evaluation.runner import evaluate, is_complete
from mathreason.evaluation.transformers_engine import TransformersEngine
from mathreason.jobfile import load_job
from mathreason.models import load_model, load_tokenizer
from mathreason.progress import Reporter
from mathreason.results import RunDir

KILLS = 20
OVERRIDES = ["evaluation.benchmarks.0.count=400", "evaluation.max_new_tokens=48"]


def main() -> None:
    torch.set_num_threads(1)
    folder, chance = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
    quiet = Reporter(quiet=True)
    whole = RunDir(folder / "whole")
    job = load_job(whole.job, OVERRIDES)
    loaded = load_model(job.model, quiet)
    plan = plan_evaluation(job, whole, job.evaluation.benchmarks[0], "base", load_tokenizer(job.model), None)

    def work(run: RunDir) -> None:
        evaluate(run, plan, TransformersEngine(loaded, sampling_of(job.evaluation), 8, quiet), quiet)

    killed = RunDir(folder / "killed")
    shutil.copytree(whole.path, killed.path)
    work(whole)
    kills = 0
    while kills < KILLS and not is_complete(killed, plan):
        child = os.fork()
        if child == 0:
            work(killed)
            os._exit(0)
        time.sleep(chance.uniform(0.0, 0.7))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        kills += os.WIFSIGNALED(status)
    sys.stdout.write(f"{kills} kills, complete: {is_complete(killed, plan)}\n")
    work(killed)
    same = killed.samples("generator", "base").read_bytes() == whole.samples("generator", "base").read_bytes()
    sys.stdout.write("equal\n" if same and is_complete(killed, plan) else "different\n")


if __name__ == "__main__":
    main()
