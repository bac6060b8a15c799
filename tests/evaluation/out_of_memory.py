"""Run as a process: more slots are asked for than its address space has room for."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch

from mathreason.config import ModelConfig, PromptConfig
from mathreason.data.generator import generate
from mathreason.data.prompts import Prompter
from mathreason.evaluation.engine import Request, Sampling
from mathreason.evaluation.transformers_engine import TransformersEngine
from mathreason.models import load_model
from mathreason.progress import Reporter

WANTED, ANSWERED = 4096, 40


def main() -> None:
    torch.set_num_threads(1)
    config = ModelConfig(name="embedded", quantization="none", dtype="float32")
    loaded = load_model(config, Reporter(quiet=True))
    prompter = Prompter(PromptConfig(), loaded.tokenizer)
    prompts = [prompter.prompt(problem.question) for problem in generate("test", count=WANTED, seed=1)]
    requests = [Request(id, text, prompter.prompt_ids(text), 0) for id, text in enumerate(prompts)]
    done = range(ANSWERED, WANTED)
    few = dict(TransformersEngine(loaded, Sampling(24), 8, Reporter(quiet=True)).generate(requests, done))
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (3 << 29), resource.RLIM_INFINITY))
    reporter = Reporter(quiet=True)
    many = dict(TransformersEngine(loaded, Sampling(24), WANTED, reporter).generate(requests, done))
    sys.stdout.write("\n".join([*reporter.warnings, ""]))
    sys.stdout.write("equal\n" if len(many) == ANSWERED and many == few else "different\n")


if __name__ == "__main__":
    main()
