"""Few-shot prompts equal the ones lm-evaluation-harness renders (lm_eval_prompts.jsonl has their hashes)."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from mathreason.config import BenchmarkConfig, EvaluationConfig, PromptConfig
from mathreason.data.prompts import Prompter
from mathreason.errors import InputError
from mathreason.evaluation.benchmarks import few_shot_examples, load_items
from mathreason.evaluation.fewshot import (
    MAX_NEW_TOKENS,
    STOP,
    DrawnShots,
    Format,
    Shot,
    evaluation_prompter,
    published_prompt,
)
from mathreason.results import read_jsonl

RECORDED = [row for _, row in read_jsonl(Path(__file__).with_name("lm_eval_prompts.jsonl"))]
FORMATS: dict[str, tuple[Format, str, int]] = {
    "gsm8k": ("lm_eval_gsm8k", "gsm8k", 5),
    "gsm8k_cot": ("lm_eval_gsm8k_cot", "gsm8k", 8),
    "gsm8k_platinum": ("lm_eval_gsm8k", "gsm8k_platinum", 5),
}
GSM8K = BenchmarkConfig(name="gsm8k")


def numbered(count: int) -> list[Shot]:
    return [Shot(str(number), "") for number in range(count)]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """GSM8K and GSM8K-Platinum of a few rows."""
    for name in ("gsm8k/train", "gsm8k/test", "gsm8k_platinum/test"):
        path = tmp_path / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        rows = [{"question": f"{name} {n}?", "answer": f"<<{n}+0={n}>>{n}\n#### {n}"} for n in range(7)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("task", "pool", "holds_items"), [("gsm8k", 7473, False), ("gsm8k_platinum", 1319, True)]
)
def test_each_item_has_the_rows_lm_eval_drew_for_it(task: str, pool: int, holds_items: bool) -> None:
    recorded = {row["position"]: row["shots"] for row in RECORDED if row["task"] == task}
    assert len(recorded) == 12
    shots = DrawnShots(numbered(pool), 5, holds_items)
    for position in sorted(recorded, reverse=True):  # the order they are asked for does not matter
        assert [int(shot.question) for shot in shots.at(position)] == recorded[position]


@pytest.mark.parametrize("task", FORMATS)
def test_real_prompts_are_lm_evals_to_the_letter(real_data: Path, tmp_path: Path, task: str) -> None:
    (tmp_path / "gsm8k").symlink_to(real_data / "gsm8k")
    (tmp_path / "gsm8k_platinum").mkdir()
    (tmp_path / "gsm8k_platinum" / "test.jsonl").symlink_to(real_data / "gsm8k" / "test.jsonl")
    form, name, count = FORMATS[task]
    benchmark = BenchmarkConfig(name=name)
    items = load_items(benchmark, tmp_path)
    published = published_prompt(form, benchmark, count, tmp_path)
    for row in (row for row in RECORDED if row["task"] == task):
        prompt = published.render(items[row["position"]].question, row["position"])
        assert hashlib.sha256(prompt.encode()).hexdigest() == row["sha256"]


def test_gsm8k_format_keeps_notes_and_answer_line(data_dir: Path) -> None:
    prompt = published_prompt("lm_eval_gsm8k", GSM8K, 1, data_dir).render("Why?", 0)
    shot = prompt.split("gsm8k/train ")[1][0]
    worked = f"Question: gsm8k/train {shot}?\nAnswer: <<{shot}+0={shot}>>{shot}\n#### {shot}\n\n"
    assert prompt == f"{worked}Question: Why?\nAnswer:"


def test_cot_format_begins_with_the_examples_of_wei_et_al() -> None:
    prompt = published_prompt("lm_eval_gsm8k_cot", GSM8K, 8, None).render("Why?", 3)
    assert prompt.startswith(
        "Q: There are 15 trees in the grove. Grove workers will plant trees in the grove"
    )
    assert prompt.count("\nA: ") == 8
    assert prompt.endswith(
        "Q: Olivia has $23. She bought five bagels for $3 each. How much money does she have left?\n"
        "A: Olivia had 23 dollars. 5 bagels for 3 dollars each will be 5 x 3 = 15 dollars. "
        "So she has 23 - 15 dollars left. 23 - 15 is 8. The answer is 8.\n\nQ: Why?\nA:"
    )
    two = published_prompt("lm_eval_gsm8k_cot", GSM8K, 2, None).render("Why?", 0)
    assert prompt.startswith(two.removesuffix("Q: Why?\nA:"))


def test_an_item_is_never_its_own_example(data_dir: Path) -> None:
    platinum = BenchmarkConfig(name="gsm8k_platinum")
    train = BenchmarkConfig(name="gsm8k", split="train")
    for benchmark in (platinum, train):
        published = published_prompt("lm_eval_gsm8k", benchmark, 6, data_dir)
        for position, item in enumerate(load_items(benchmark, data_dir)):
            assert published.render(item.question, position).count(item.question) == 1


def test_a_row_that_is_in_the_pool_twice_leaves_no_gap() -> None:
    twin, other = Shot("twin", "1"), Shot("other", "2")
    shots = DrawnShots([twin, twin, twin, other], 1, pool_holds_items=True)
    assert [shots.at(position) for position in range(3)] == [[other]] * 3


def test_more_examples_than_there_are_is_refused(data_dir: Path) -> None:
    with pytest.raises(InputError, match="few_shot is 9, but lm_eval_gsm8k_cot has 8 examples"):
        published_prompt("lm_eval_gsm8k_cot", GSM8K, 9, data_dir)
    with pytest.raises(InputError, match="few_shot is 7, but gsm8k/train has only 7 examples to draw"):
        published_prompt("lm_eval_gsm8k", GSM8K, 7, data_dir)


def test_bad_example_names_file_and_line(data_dir: Path) -> None:
    path = data_dir / "gsm8k" / "train.jsonl"
    with path.open("a", encoding="utf-8") as file:
        file.write('{"question": "Q?"}\n')
    with pytest.raises(InputError) as caught:
        published_prompt("lm_eval_gsm8k", GSM8K, 2, data_dir)
    assert str(caught.value).startswith(f"{path}:8: no column 'answer'")


def settings(**values: Any) -> EvaluationConfig:
    return EvaluationConfig(**values)


def test_native_format_is_the_jobs_own_prompt(data_dir: Path, tokenizer: Any) -> None:
    made = evaluation_prompter(PromptConfig(), settings(few_shot=2, seed=4), GSM8K, tokenizer, data_dir)
    own = Prompter(PromptConfig(), tokenizer, few_shot_examples(GSM8K, 2, 4, data_dir))
    assert made.prompt("Why?", 5) == own.prompt("Why?")
    assert made.hash == own.hash


def test_published_format_ignores_instruction_and_chat_template(data_dir: Path, tokenizer: Any) -> None:
    chat = copy.deepcopy(tokenizer)
    chat.chat_template = "{{ messages }}"
    asked = settings(few_shot=3, few_shot_format="lm_eval_gsm8k")
    prompter = evaluation_prompter(PromptConfig(instruction="Sing."), asked, GSM8K, chat, data_dir)
    assert prompter.style == "plain"
    assert prompter.prompt("Why?", 2).startswith("Question: gsm8k/train ")
    assert prompter.prompt("Why?", 2) != prompter.prompt("Why?", 3)
    with_bos = tokenizer(prompter.prompt("Why?", 2))["input_ids"]
    assert prompter.prompt_ids(prompter.prompt("Why?", 2)) == with_bos


def test_hash_covers_format_count_and_examples_of_every_item(data_dir: Path, tokenizer: Any) -> None:
    def made(**values: Any) -> Prompter:
        return evaluation_prompter(PromptConfig(), settings(**values), GSM8K, tokenizer, data_dir)

    asked = {"few_shot": 2, "few_shot_format": "lm_eval_gsm8k"}
    before = made(**asked)
    others = [made(**{**asked, "few_shot": 3}), made(few_shot=2, few_shot_format="lm_eval_gsm8k_cot")]
    assert made(**asked).hash == before.hash
    assert len({before.hash, *(other.hash for other in others)}) == 3
    path = data_dir / "gsm8k" / "train.jsonl"
    unused = next(n for n in range(7) if f"gsm8k/train {n}?" not in before.prompt("Why?", 0))
    path.write_text(path.read_text(encoding="utf-8").replace(f"={unused}>>", "=?>>"), encoding="utf-8")
    assert made(**asked).prompt("Why?", 0) == before.prompt("Why?", 0)
    assert made(**asked).hash != before.hash


def test_every_format_says_what_it_is_generated_with() -> None:
    assert STOP["lm_eval_gsm8k"] == ("Question:", "</s>", "<|im_end|>")
    assert STOP["lm_eval_gsm8k_cot"] == ("Q:", "</s>", "<|im_end|>")
    assert MAX_NEW_TOKENS == 256
