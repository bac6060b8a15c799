"""Make the embedded model: train its tokenizer, pretrain it on the generator's prose, write its folder.

    python -m mathreason.embedded.pretrain --output DIR [--steps 2800] [--seed 0]

The folder holds the tokenizer, config.json, generation_config.json, model.safetensors (bfloat16) and
pretraining.json (what it was made with, and its losses). It is replaced as a whole, at every evaluation that
lowers the loss on held-out documents. The tokenizer is the same for every seed and number of steps; the same
seed and steps give the same weights on the same hardware.
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mathreason.embedded.corpus import documents, tokenizer_texts
from mathreason.embedded.tokenizer import BOS, EOS, MAX_LENGTH, train_tokenizer
from mathreason.errors import InputError, MathreasonError
from mathreason.results import fsync_directory, to_json, write_text

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

logger = logging.getLogger("mathreason.embedded.pretrain")

STEPS = 2800
TOKENIZER_SEED = 0  # one tokenizer for every seed of the weights
BLOCK = 256  # tokens
BATCH = 8  # blocks
PEAK_LEARNING_RATE = 3e-3
WARMUP = 100  # steps
VALUE_GAIN = 0.39  # its square is how much of a token attention passes on at the start
LOG_EVERY = 50  # steps
EVALUATE_EVERY = 300  # steps
HELD_OUT_BLOCKS = 64
HELD_OUT_SEED = 1_000_000  # no run trains on documents of this seed


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A Llama of 2.4 million parameters (Touvron et al., https://arxiv.org/abs/2302.13971), ready to copy.

    Attention starts out looking for tokens like the present one (queries equal keys) and passing on what
    they are (output the transpose of value), as Trockman and Kolter propose
    (https://arxiv.org/abs/2305.09828). With so little text, a random start does not learn in time to
    repeat a name.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=5,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_(0, 0.05)
        for layer in model.model.layers:
            attention = layer.self_attn
            torch.nn.init.orthogonal_(attention.v_proj.weight, gain=VALUE_GAIN)
            attention.o_proj.weight.copy_(attention.v_proj.weight.T)
            attention.q_proj.weight.normal_(0, 0.035)
            attention.k_proj.weight.copy_(attention.q_proj.weight)
    return model


def batches(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[torch.Tensor]:
    """Endless token ids, shape (BATCH, BLOCK): documents one after the other, cut into blocks."""
    import torch

    encoded = (tokenizer(BOS + text + EOS)["input_ids"] for text in documents(seed))
    stream = chain.from_iterable(encoded)
    while True:
        yield torch.tensor(list(islice(stream, BATCH * BLOCK))).view(BATCH, BLOCK)


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to a hundredth of the peak."""
    if step < WARMUP:
        return PEAK_LEARNING_RATE * (step + 1) / WARMUP
    progress = (step - WARMUP) / max(1, steps - WARMUP)
    return PEAK_LEARNING_RATE * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def optimizers_for(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices (https://kellerjordan.github.io/posts/muon), AdamW for all else."""
    import torch

    named = list(model.named_parameters())
    matrices = [weight for name, weight in named if weight.ndim == 2 and "embed_tokens" not in name]
    others = [weight for name, weight in named if weight.ndim != 2 or "embed_tokens" in name]
    return [
        torch.optim.Muon(matrices, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, weight_decay=0.0, betas=(0.9, 0.98), fused=True),
    ]


def batch_loss(model: LlamaForCausalLM, batch: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy (nats per token) of `batch`, with matrix products in bfloat16."""
    import torch

    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss: torch.Tensor = model(input_ids=batch, labels=batch).loss
    return loss


def train_step(
    model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer], batch: torch.Tensor, rate: float
) -> float:
    """One update at learning rate `rate`, gradients clipped to norm 1; the batch's loss before it."""
    import torch

    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
    loss = batch_loss(model, batch)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def held_out_loss(model: LlamaForCausalLM, held_out: list[torch.Tensor]) -> float:
    """Mean loss on the held-out blocks."""
    import torch

    with torch.no_grad():
        return math.fsum(batch_loss(model, batch).item() for batch in held_out) / len(held_out)


def environment() -> dict[str, Any]:
    """Versions and hardware that the weights depend on."""
    import torch

    packages = ("torch", "transformers", "tokenizers", "safetensors")
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in packages},
        },
        "hardware": {"machine": platform.machine(), "threads": torch.get_num_threads()},
    }


def write_model(
    output: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, record: dict[str, Any]
) -> None:
    """Replace the folder `output` by the model's, weights in bfloat16 and `record` beside them."""
    import torch

    output.parent.mkdir(parents=True, exist_ok=True)
    fresh = output.with_name(f".{output.name}.{os.getpid()}.new")
    old = output.with_name(f".{output.name}.{os.getpid()}.old")
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    write_text(fresh / "pretraining.json", to_json({**record, **environment()}) + "\n")
    for file in fresh.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner may read
    if output.exists():
        output.rename(old)
    fresh.rename(output)
    fsync_directory(output.parent)
    shutil.rmtree(old, ignore_errors=True)


def pretrain(output: Path, steps: int, seed: int) -> float:
    """Pretrain for `steps` batches and write the folder `output`; returns the lowest held-out loss.

    Raises InputError when `steps` is not positive.
    """
    if steps < 1:
        raise InputError(f"--steps {steps} is not positive; give at least 1")
    started = time.monotonic()
    tokenizer = train_tokenizer(tokenizer_texts(TOKENIZER_SEED))
    model = build_model(tokenizer, seed)
    optimizers = optimizers_for(model)
    held_out = list(islice(batches(tokenizer, HELD_OUT_SEED), HELD_OUT_BLOCKS // BATCH))
    best = math.inf
    for done, batch in enumerate(islice(batches(tokenizer, seed), steps), start=1):
        loss = train_step(model, optimizers, batch, learning_rate(done - 1, steps))
        tokens, seconds = done * BATCH * BLOCK, time.monotonic() - started
        if done % LOG_EVERY == 0:
            logger.info("step %d/%d loss %.4f, %.0f tokens/s", done, steps, loss, tokens / seconds)
        if done % EVALUATE_EVERY and done != steps:
            continue
        measured = held_out_loss(model, held_out)
        logger.info("step %d/%d held-out loss %.4f", done, steps, measured)
        if measured < best:
            best = measured
            record = {
                "seed": seed,
                "steps": done,
                "planned_steps": steps,
                "tokens": tokens,
                "parameters": model.num_parameters(),
                "training_loss": loss,
                "held_out_loss": measured,
                "wall_seconds": round(seconds, 1),
            }
            write_model(output, model, tokenizer, record)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write; replaced if it exists")
    parser.add_argument("--steps", type=int, default=STEPS, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and documents (default: %(default)s)")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        pretrain(given.output, given.steps, given.seed)
    except MathreasonError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
