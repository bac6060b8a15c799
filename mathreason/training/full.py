"""Full fine-tuning: all weights of an unquantized model are trained, and the result is a whole model.

    model = trainable(loaded.model)                          # every weight in float32, with a gradient
    export_model(checkpoint, run.model, loaded)              # RUN/model: what from_pretrained reads

Weights are trained in float32 whatever the model's dtype: a step of 1e-5 is lost in the 8 bits of a bfloat16
number's fraction. Passes are computed in the model's dtype (mixed precision, Micikevicius et al. 2018, arXiv
1710.03740), and the result is written in it, since that is what evaluation computes with.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from mathreason.models import LoadedModel
from mathreason.results import fsync_directory, read_json, to_json, write_text

INDEX = "model.safetensors.index.json"


def trainable(model: Any) -> Any:
    """`model` itself, its weights in float32 and all of them trained."""
    return model.float().requires_grad_(True)


def export_model(checkpoint: Path, folder: Path, loaded: LoadedModel) -> None:
    """Put a checkpoint's model, in the dtype of `loaded`, and its tokenizer in `folder`.

    `folder` appears whole or not at all.
    """
    writing = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir()
    dtype = loaded.facts["dtype"]
    size = sum(_cast(file, writing / file.name, dtype) for file in sorted(checkpoint.glob("*.safetensors")))
    if (checkpoint / INDEX).is_file():
        index = read_json(checkpoint / INDEX)
        index["metadata"]["total_size"] = size
        write_text(writing / INDEX, to_json(index) + "\n")
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    write_text(writing / "config.json", to_json({**config, "dtype": dtype}) + "\n")
    loaded.model.generation_config.save_pretrained(writing)
    loaded.tokenizer.save_pretrained(writing)
    mode = (writing / "config.json").stat().st_mode
    for path in writing.iterdir():
        path.chmod(mode)  # safetensors makes files that only their owner can read, whatever the umask
        with path.open("rb") as file:
            os.fsync(file.fileno())
    fsync_directory(writing)
    if folder.exists():
        shutil.rmtree(folder)
    writing.rename(folder)
    fsync_directory(folder.parent)


def _cast(source: Path, target: Path, dtype: str) -> int:
    """Write the tensors of `source` in `dtype`; their bytes."""
    import torch
    from safetensors.torch import load_file, save_file

    wanted = getattr(torch, dtype)
    tensors = {
        name: tensor.to(wanted) if tensor.is_floating_point() else tensor
        for name, tensor in load_file(str(source)).items()
    }
    save_file(tensors, str(target), metadata={"format": "pt"})
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
