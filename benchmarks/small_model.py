"""A small language model that writes GSM8K-like solutions, for benchmarks on a machine without network.

    python benchmarks/small_model.py --data-dir ../shared/data --output /tmp/small_model

Llama shape, 28 M parameters, byte-level BPE of 8 192 tokens, pretrained for one epoch on GSM8K's training
split written as `Q: …\\nA: … The answer is 18.`, many problems to a context, which is what a few-shot prompt
looks like. It gets nothing right and need not: its responses have the form, the length and the variety of
real ones, which is what generation speed depends on. The same seed gives the same model on the same machine.
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
BATCH = 4
END = "</s>"


def texts(data_dir: Path) -> list[str]:
    """GSM8K's training problems as few-shot prompts write them."""
    rows = map(json.loads, (data_dir / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines())
    rendered = []
    for row in rows:
        steps, _, answer = row["answer"].partition("\n#### ")
        steps = re.sub(r"<<.*?>>", "", steps).replace("\n", " ")
        rendered.append(f"Q: {row['question']}\n\nA: {steps} The answer is {answer}.\n\n")
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


def blocks(corpus: list[str], tokenizer: PreTrainedTokenizerFast, seed: int) -> torch.Tensor:
    """The shuffled corpus as (blocks, CONTEXT) token ids."""
    shuffled = random.Random(seed).sample(corpus, len(corpus))
    ids = [token for text in shuffled for token in tokenizer(text)["input_ids"]]
    usable = len(ids) // CONTEXT * CONTEXT
    return torch.tensor(ids[:usable]).view(-1, CONTEXT)


def pretrain(data_dir: Path, output: Path, steps: int | None = None, seed: int = 0) -> None:
    """Pretrain and save the model; `steps` shortens the epoch."""
    torch.manual_seed(seed)
    corpus = texts(data_dir)
    tokenizer = train_tokenizer(corpus)
    model = LlamaForCausalLM(shape())
    rows = blocks(corpus, tokenizer, seed)
    total = min(steps or len(rows) // BATCH, len(rows) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, weight_decay=0.1, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, total_steps=total, pct_start=0.1)
    click.echo(
        f"{model.num_parameters() / 1e6:.1f} M parameters, {total} steps of {BATCH} x {CONTEXT} tokens"
    )
    started = time.monotonic()
    for step in range(total):
        batch = rows[step * BATCH : (step + 1) * BATCH]
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 20 == 0 or step == total - 1:
            click.echo(f"step {step}, loss {loss.item():.3f}, {time.monotonic() - started:.0f} s")
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), required=True, help="Folder with gsm8k/.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the model.")
@click.option("--steps", type=int, help="Fewer steps than one epoch has.")
def main(data_dir: Path, output: Path, steps: int | None) -> None:
    """Pretrain the small model."""
    pretrain(data_dir, output, steps)


if __name__ == "__main__":
    main()
