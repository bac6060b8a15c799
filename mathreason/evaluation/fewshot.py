"""Prompts with worked examples: this project's own, or those of lm-evaluation-harness 0.4.13 to the letter.

    prompter = evaluation_prompter(job.prompt, job.evaluation, benchmark, tokenizer, data_dir)
    prompter.prompt(item.question, position)      # position: where the item stands in the whole benchmark

`lm_eval_gsm8k` is its task gsm8k: examples from GSM8K's training set, their answers with calculator notes
and `####` line, drawn anew for each item from one `random.Random(1234)`. The item at position i has the
examples it has in a run of the harness over the whole set (or its first items) in one process.

    Question: Natalia sold clips to 48 of her friends …
    Answer: Natalia sold 48/2 = <<48/2=24>>24 clips in May. …
    #### 72

    Question: …
    Answer:

`lm_eval_gsm8k_cot` is its task gsm8k_cot: the examples of Wei et al. 2022, always in their order, with `Q:`
and `A:` for the two words. `STOP` and `MAX_NEW_TOKENS` are what the harness generates with.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mathreason.config import BenchmarkConfig, EvaluationConfig, PromptConfig
from mathreason.data.prompts import Prompter, PublishedPrompt
from mathreason.errors import InputError
from mathreason.evaluation.benchmarks import (
    few_shot_examples,
    few_shot_pool,
    hub_splits,
    question_answer_texts,
)
from mathreason.results import content_hash, read_jsonl

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Format = Literal["lm_eval_gsm8k", "lm_eval_gsm8k_cot"]

SEED = 1234  # fewshot_random_seed of lm-evaluation-harness unless it is told otherwise
MAX_NEW_TOKENS = 256
STOP: dict[Format, tuple[str, ...]] = {
    "lm_eval_gsm8k": ("Question:", "</s>", "<|im_end|>"),
    "lm_eval_gsm8k_cot": ("Q:", "</s>", "<|im_end|>"),
}

# The eight chain-of-thought examples of Wei et al. 2022 (arXiv 2201.11903, table 20), as the harness has
# them in gsm8k-cot.yaml (MIT).
_WEI_2022 = Path(__file__).with_name("wei2022.jsonl")


@dataclass(frozen=True)
class Shot:
    """A worked example: question and the whole text of its answer."""

    question: str
    answer: str


class DrawnShots:
    """The prompt of the task gsm8k: `count` examples of `pool`, drawn anew for each item.

    `pool_holds_items`: the pool is the benchmark itself (the harness has no other examples for
    GSM8K-Platinum); one more is then drawn, and the item's own row is left out.
    """

    def __init__(self, pool: Sequence[Shot], count: int, pool_holds_items: bool = False) -> None:
        self._pool = pool
        self._count = count
        self._pool_holds_items = pool_holds_items
        self._random = random.Random(SEED)
        self._draws: list[list[Shot]] = []

    def at(self, position: int) -> list[Shot]:
        """The examples of the item at `position`; positions may be asked for in any order."""
        while len(self._draws) <= position:
            self._draws.append(self._draw(len(self._draws)))
        return self._draws[position]

    def _draw(self, position: int) -> list[Shot]:
        if not self._pool_holds_items:
            return self._random.sample(self._pool, self._count)
        own = self._pool[position]
        others = [shot for shot in self._random.sample(self._pool, self._count + 1) if shot != own]
        if len(others) < self._count:  # the row is in the pool twice, and both were drawn
            others = self._random.sample([shot for shot in self._pool if shot != own], self._count)
        return others[: self._count]

    def render(self, question: str, position: int) -> str:
        """The whole prompt of the item at `position`."""
        return _text(self.at(position), question, "Question:", "Answer:")

    @cached_property
    def identity(self) -> dict[str, Any]:
        pool = content_hash([[shot.question, shot.answer] for shot in self._pool])
        return {
            "format": "lm_eval_gsm8k",
            "seed": SEED,
            "count": self._count,
            "pool_sha256": pool,
            "pool_holds_items": self._pool_holds_items,
        }


@dataclass(frozen=True)
class FixedShots:
    """The prompt of the task gsm8k_cot: the same examples before every item."""

    shots: Sequence[Shot]

    def render(self, question: str, position: int) -> str:  # noqa: ARG002  # as PublishedPrompt has it
        return _text(self.shots, question, "Q:", "A:")

    @property
    def identity(self) -> dict[str, Any]:
        return {"format": "lm_eval_gsm8k_cot", "count": len(self.shots)}


def _text(shots: Sequence[Shot], question: str, asks: str, answers: str) -> str:
    worked = "".join(f"{asks} {shot.question}\n{answers} {shot.answer}\n\n" for shot in shots)
    return f"{worked}{asks} {question}\n{answers}"


def evaluation_prompter(
    prompt: PromptConfig,
    settings: EvaluationConfig,
    benchmark: BenchmarkConfig,
    tokenizer: PreTrainedTokenizerBase,
    data_dir: Path | None,
) -> Prompter:
    """The prompter of one benchmark, with its worked examples.

    Raises InputError when the tokenizer cannot render the style asked for or when there are fewer examples
    than `few_shot` asks for, SourceUnavailable when the examples cannot be had.
    """
    if settings.few_shot_format == "native":
        shots = few_shot_examples(benchmark, settings.few_shot, settings.seed, data_dir)
        return Prompter(prompt, tokenizer, shots)
    published = published_prompt(settings.few_shot_format, benchmark, settings.few_shot, data_dir)
    return Prompter(prompt, tokenizer, published=published)


def published_prompt(
    few_shot_format: Format, benchmark: BenchmarkConfig, count: int, data_dir: Path | None
) -> PublishedPrompt:
    """The prompt of a published format with `count` examples; errors as `evaluation_prompter`'s."""
    place = few_shot_pool(few_shot_format, count, benchmark)
    if place is None:
        wei = [Shot(row["question"], row["solution"]) for _, row in read_jsonl(_WEI_2022)]
        if count > len(wei):
            raise InputError(f"few_shot is {count}, but {few_shot_format} has {len(wei)} examples")
        return FixedShots(wei[:count])
    source, split = place
    pool = [Shot(*texts) for texts in question_answer_texts(source, split, data_dir)]
    if count >= len(pool):
        raise InputError(f"few_shot is {count}, but {source}/{split} has only {len(pool)} examples to draw")
    return DrawnShots(pool, count, pool_holds_items=place in hub_splits([benchmark]))
