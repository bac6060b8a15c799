"""A model folder of Mistral-7B-v0.1's shape with random weights, written shard by shard.

    write_model(folder, layers=32, data_dir=Path("data"))      # 14.5 GB in 34 files
    python benchmarks/mistral_shape.py --data-dir data --output /tmp/mistral_shape --layers 2

Time and memory depend on shapes and not on what a model has learned. The weights are bfloat16, as published;
a layer is a file, so that no more than one is ever in memory. The tokenizer is trained on GSM8K's questions
and uses some of the 32 000 ids.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import torch
from safetensors.torch import save_file
from small_model import problems, train_tokenizer
from transformers import MistralConfig

HIDDEN, INTERMEDIATE, VOCABULARY = 4096, 14336, 32000
HEADS, KEY_VALUE_HEADS = 32, 8
LAYERS = 32
STD = 0.02
"""initializer_range of the published config."""


def config(layers: int) -> MistralConfig:
    """config.json of mistralai/Mistral-7B-v0.1, with `layers` layers."""
    return MistralConfig(
        architectures=["MistralForCausalLM"],
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_VALUE_HEADS,
        vocab_size=VOCABULARY,
        max_position_embeddings=32768,
        rms_norm_eps=1e-5,
        sliding_window=4096,
        tie_word_embeddings=False,
        dtype="bfloat16",
    )


def shards(layers: int) -> Iterator[dict[str, tuple[int, ...]]]:
    """Names and shapes of the tensors in each file."""
    head = HIDDEN // HEADS
    yield {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(layers):
        shapes = {
            "self_attn.q_proj": (HIDDEN, HIDDEN),
            "self_attn.k_proj": (KEY_VALUE_HEADS * head, HIDDEN),
            "self_attn.v_proj": (KEY_VALUE_HEADS * head, HIDDEN),
            "self_attn.o_proj": (HIDDEN, HIDDEN),
            "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
            "mlp.up_proj": (INTERMEDIATE, HIDDEN),
            "mlp.down_proj": (HIDDEN, INTERMEDIATE),
            "input_layernorm": (HIDDEN,),
            "post_attention_layernorm": (HIDDEN,),
        }
        yield {f"model.layers.{layer}.{name}.weight": shape for name, shape in shapes.items()}
    yield {"model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}


def weight_bytes(layers: int) -> int:
    """Size of all files' tensors."""
    return 2 * sum(torch.Size(shape).numel() for shapes in shards(layers) for shape in shapes.values())


def write_model(folder: Path, layers: int, data_dir: Path) -> None:
    """Write the model, its config last; a folder that has one is left as it is."""
    if (folder / "config.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = weight_bytes(layers), shutil.disk_usage(folder).free
    if free < needed * 1.05:
        raise click.ClickException(
            f"{folder}: {needed / 1e9:.1f} GB are to be written, {free / 1e9:.1f} GB are free"
        )
    tokenizer = train_tokenizer([prompt + answer for prompt, answer in problems(data_dir)])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    where: dict[str, str] = {}
    count = layers + 2
    for number, shapes in enumerate(shards(layers), start=1):
        file = f"model-{number:05}-of-{count:05}.safetensors"
        tensors = {name: _weights(shape) for name, shape in shapes.items()}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(tensors, file)
    index = {"metadata": {"total_size": needed}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    shape = config(layers)
    shape.eos_token_id = shape.pad_token_id = tokenizer.eos_token_id
    shape.save_pretrained(folder)


def _weights(shape: tuple[int, ...]) -> torch.Tensor:
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    here = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.empty(shape, dtype=torch.bfloat16, device=here).normal_(std=STD).cpu()


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path, exists=True), required=True, help="Has gsm8k/.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the model.")
@click.option("--layers", default=LAYERS, show_default=True)
def main(data_dir: Path, output: Path, layers: int) -> None:
    """Write the model."""
    write_model(output, layers, data_dir)


if __name__ == "__main__":
    main()
