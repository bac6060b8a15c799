"""A small language model that writes step-by-step answers, for benchmarks on a machine without network.

    python benchmarks/small_model.py --data-dir data --output /tmp/small_model

Llama shape, 28 M parameters, byte-level BPE of 8 192 tokens, pretrained on GSM8K's training split, many
problems to a context, which is what a few-shot prompt looks like:

    Q: Natalia sold clips to 48 of her friends in April, and then ...
    A: Step 1: we compute 48/2, which gives 24. Step 2: we compute 48+24, which gives 72. The answer is 72.

Only the answers are learned. The model gets hardly anything right and need not: its responses follow the
question, differ from item to item and end by themselves, which is what generation speed depends on and
what makes an equal text mean something. The same seed gives the same model on the same machine.
"""

from __future__ import annotations

import json
import random
import re
import time
from pathlib import Path

import click
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CONTEXT = 1536
VOCABULARY = 8192
STEPS = 400
PEAK_RATE = 1e-3
END = "</s>"


def problems(data_dir: Path) -> list[tuple[str, str]]:
    """Prompt and answer of GSM8K's training problems, as a few-shot prompt writes them."""
    rows = map(json.loads, (data_dir / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines())
    rendered = []
    for row in rows:
        steps, _, answer = row["answer"].partition("\n#### ")
        sums = [found.partition("=") for found in re.findall(r"<<(.*?)>>", steps)]
        told = [
            f" Step {number}: we compute {calculation}, which gives {value}."
            for number, (calculation, _, value) in enumerate(sums, start=1)
        ]
        rendered.append((f"Q: {row['question']}\nA:", f"{''.join(told)} The answer is {answer}.\n\n"))
    return rendered


def train_tokenizer(corpus: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)


def shape() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=7,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )


def blocks(
    corpus: list[tuple[str, str]], tokenizer: PreTrainedTokenizerFast, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The shuffled corpus as token ids and labels, each (blocks, CONTEXT); a label of -100 is not learned."""
    ids: list[int] = []
    labels: list[int] = []
    for prompt, answer in random.Random(seed).sample(corpus, len(corpus)):
        asked, told = tokenizer(prompt)["input_ids"], tokenizer(answer)["input_ids"]
        ids += asked + told
        # The first tokens of the next prompt are learned too: they are what ends a response.
        labels += asked[:2] + [-100] * len(asked[2:]) + told
    usable = len(ids) // CONTEXT * CONTEXT
    return torch.tensor(ids[:usable]).view(-1, CONTEXT), torch.tensor(labels[:usable]).view(-1, CONTEXT)


def pretrain(data_dir: Path, output: Path, steps: int = STEPS, seed: int = 0) -> None:
    """Pretrain and save the model."""
    torch.manual_seed(seed)
    corpus = problems(data_dir)
    tokenizer = train_tokenizer([prompt + answer for prompt, answer in corpus])
    model = LlamaForCausalLM(shape())
    ids, labels = blocks(corpus, tokenizer, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.1, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps, pct_start=0.1)
    click.echo(f"{model.num_parameters() / 1e6:.1f} M parameters, {steps} steps of {CONTEXT} tokens")
    started = time.monotonic()
    for step in range(steps):
        row = slice(step % len(ids), step % len(ids) + 1)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=ids[row], labels=labels[row], use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 20 == 0 or step == steps - 1:
            click.echo(f"step {step}, loss {loss.item():.3f}, {time.monotonic() - started:.0f} s")
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), required=True, help="Folder with gsm8k/.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the model.")
@click.option("--steps", default=STEPS, show_default=True, help="Optimizer steps.")
def main(data_dir: Path, output: Path, steps: int) -> None:
    """Pretrain the small model."""
    pretrain(data_dir, output, steps)


if __name__ == "__main__":
    main()
