"""What training made of the base model, an adapter or a whole model, and the base model with it.

    tuned = apply_tuned(loaded, run)        # proven to be applied, or MathreasonError
    tuned_sha256(run)                       # names it in results

A run has `adapter/` (LoRA) or `model/` (full fine-tuning), never both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mathreason.errors import InputError, MathreasonError
from mathreason.models import LoadedModel, adapter_sha256, apply_adapter
from mathreason.results import RunDir, content_hash, file_sha256

PROBE = "2 + 3 = 5. Tom has 4 apples."


def tuned_path(run: RunDir) -> Path:
    """The folder of the trained adapter or model."""
    return run.model if run.model.is_dir() else run.adapter


def tuned_sha256(run: RunDir) -> str:
    """Hash of its weights; InputError when the run has none."""
    return model_sha256(run.model) if run.model.is_dir() else adapter_sha256(run.adapter)


def model_sha256(folder: Path) -> str:
    """Hash over the weight files of a model folder."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(f"{folder} holds no model (no .safetensors file); train the run first")
    return content_hash({path.name: file_sha256(path) for path in files})


def apply_tuned(loaded: LoadedModel, run: RunDir) -> LoadedModel:
    """The base model `loaded` with what the run trained; a whole model's weights replace the base's."""
    if not run.model.is_dir():
        return apply_adapter(loaded, run.adapter)
    return _replace_weights(loaded, run.model)


def _replace_weights(loaded: LoadedModel, folder: Path) -> LoadedModel:
    """`loaded` with the weights of `folder` in place of its own, so that there is never a second model.

    Raises MathreasonError when names or shapes are not those of the model, or when nothing changes.
    """
    import torch
    from safetensors.torch import load_file

    if "placed" in loaded.facts:
        raise InputError(
            f"{folder} replaces all weights, which takes memory for all of them; leave model.max_memory out"
        )
    model: Any = loaded.model
    model_sha256(folder)
    ids = loaded.tokenizer(PROBE, return_tensors="pt")["input_ids"].to(model.device)
    with torch.no_grad():
        before = model(input_ids=ids, use_cache=False).logits
        own, seen = model.state_dict(), set()
        for file in sorted(folder.glob("*.safetensors")):
            for name, tensor in load_file(str(file)).items():
                if name not in own or own[name].shape != tensor.shape:
                    raise MathreasonError(f"the model {folder} does not fit the base model: tensor {name}")
                own[name].copy_(tensor)
                seen.add(own[name].data_ptr())
        if missing := sorted(name for name, tensor in own.items() if tensor.data_ptr() not in seen):
            raise MathreasonError(f"the model {folder} lacks {len(missing)} tensors, such as {missing[0]}")
        after = model(input_ids=ids, use_cache=False).logits
    if torch.equal(before, after):
        raise MathreasonError(f"the model {folder} answers as its base does: nothing was trained")
    model.eval()
    return loaded
