"""Models small enough to be computed twice, with adapters that have learned something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peft import LoraConfig, get_peft_model
from torch import nn

SHAPE = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}


def adapted(model: Any, targets: Sequence[str], **options: Any) -> Any:
    """`model`, in training, with adapters on `targets` whose B are no longer zero."""
    config = LoraConfig(r=4, lora_alpha=8, target_modules=list(targets), **options)
    model = get_peft_model(model, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)
    return model.train()
