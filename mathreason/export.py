"""A run's adapter merged into its base model, as a folder that transformers and vLLM load by themselves.

    folder = export(run, Path("merged"), "auto", reporter)

    merged/
      config.json  model*.safetensors  tokenizer*       what from_pretrained reads
      README.md                                         model card: data, recipe, scores, contamination
      mathreason.json                                   sizes and SHA-256 of all files; written last

The adapter goes into 16-bit (or 32-bit) weights, never into 4-bit ones: rounding the sum to 4 bits again
would undo part of what was learned. The merged model is compared with the adapter on the base before it
counts, and the folder appears by one rename.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from mathreason.config import JobConfig, ModelConfig
from mathreason.errors import InputError, MathreasonError
from mathreason.jobfile import load_job
from mathreason.models import LoadedModel, adapter_sha256, apply_adapter, load_model, model_source
from mathreason.progress import Reporter
from mathreason.results import RunDir, file_sha256, fsync_directory, read_json, write_json, write_text
from mathreason.training.storage import storing

MANIFEST = "mathreason.json"
SHARD_SIZE = "4GB"
PROBES = 8
"""Problems of the run on which merged model and adapter are compared."""
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}
"""Largest difference of logits relative to the largest logit that rounding the merged weights explains."""
SPARE_BYTES = 64 << 20
"""For tokenizer, card and the file system's own needs."""


def export(run: RunDir, output: Path, dtype: str, reporter: Reporter) -> dict[str, Any]:
    """The manifest of the exported folder, made now or found complete.

    `dtype` is "auto" (what the base is stored in) or a name of torch's. Raises InputError when the run has
    no adapter or the folder holds something else, MathreasonError when there is too little space or the
    merged model does not answer as the adapter does.
    """
    if not run.train.is_file():
        raise InputError(f"{run.path} has no trained adapter yet; run `mathreason train {run.path}` first")
    trained = read_json(run.train)
    job = load_job(run.job)
    if adapter_sha256(run.adapter) != trained["adapter_sha256"]:
        raise MathreasonError(f"{run.adapter} is not the adapter that {run.train} describes")
    dtype = _stored_dtype(job.model) if dtype == "auto" else dtype
    if (found := _found(output, trained["adapter_sha256"], dtype)) is not None:
        reporter.say(f"{output} is complete already")
        return found
    base = load_model(job.model.model_copy(update={"quantization": "none", "dtype": dtype}), reporter)
    writing = output.with_name(f".{output.name}.writing")
    shutil.rmtree(writing, ignore_errors=True)
    _require_space(base, output)
    tuned = apply_adapter(base, run.adapter)
    merged, check = _merge(tuned, _prompts(job, run, base), dtype)
    with storing("the merged model", output.parent):
        _write(writing, merged, base, run)
        manifest = _manifest(writing, trained["adapter_sha256"], dtype, check)
        write_json(writing / MANIFEST, manifest)
        fsync_directory(writing)
        writing.rename(output)
        fsync_directory(output.parent)
    return read_json(output / MANIFEST)


def _stored_dtype(config: ModelConfig) -> str:
    from transformers import AutoConfig

    try:
        stored = AutoConfig.from_pretrained(
            model_source(config), revision=config.revision, trust_remote_code=False
        ).dtype
    except (OSError, ValueError) as error:
        raise InputError(f"the config of model '{config.name}' cannot be read: {error}") from error
    name = str(stored or "float32").removeprefix("torch.")
    return name if name in TOLERANCE else "float32"


def _found(output: Path, adapter: str, dtype: str) -> dict[str, Any] | None:
    """The manifest of `output` if it is this very export and whole; InputError if it is anything else."""
    if not output.exists():
        return None
    if not (output / MANIFEST).is_file():
        raise InputError(f"{output} is there and is no export; give another --output or remove it")
    manifest = read_json(output / MANIFEST)
    if (manifest.get("adapter_sha256"), manifest.get("dtype")) != (adapter, dtype):
        raise InputError(
            f"{output} holds another export ({manifest.get('dtype')}, adapter "
            f"{str(manifest.get('adapter_sha256'))[:12]}); give another --output or remove it"
        )
    for name, facts in manifest["files"].items():
        path = output / name
        if (
            not path.is_file()
            or path.stat().st_size != facts["bytes"]
            or file_sha256(path) != facts["sha256"]
        ):
            raise InputError(f"{path} is not the file that {output / MANIFEST} lists; remove {output}")
    return manifest


def _require_space(base: LoadedModel, output: Path) -> None:
    needed = sum(p.numel() * p.element_size() for p in base.model.parameters()) + SPARE_BYTES
    output.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(output.parent).free
    if free < needed:
        raise MathreasonError(
            f"{output} needs {needed / 1e9:.2f} GB and {output.parent} has {free / 1e9:.2f} GB free; "
            "give an --output on a larger file system"
        )


# -- merging, and the proof ------------------------------------------------------------------------


def _prompts(job: JobConfig, run: RunDir, base: LoadedModel) -> list[list[int]]:
    """Token ids of training problems with their solutions, prompts as in training."""
    from itertools import islice

    from mathreason.data.prepare import load_problems
    from mathreason.data.prompts import Prompter

    prompter = Prompter(job.prompt, base.tokenizer)
    return [prompter.encode(problem).ids for problem in islice(load_problems(run, "train"), PROBES)]


def _merge(tuned: LoadedModel, prompts: list[list[int]], dtype: str) -> tuple[Any, dict[str, Any]]:
    """The merged model, and how far its logits are from the adapter's."""
    import torch

    model: Any = tuned.model

    def logits(model: Any) -> list[torch.Tensor]:
        with torch.inference_mode():
            return [
                model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0].float()
                for ids in prompts
            ]

    expected = logits(model)
    merged = model.merge_and_unload(safe_merge=True).eval()
    pairs = list(zip(expected, logits(merged), strict=True))
    difference = max(float((one - other).abs().max() / one.abs().max()) for one, other in pairs)
    same = sum(int((one.argmax(-1) == other.argmax(-1)).sum()) for one, other in pairs)
    check = {
        "tokens": sum(map(len, prompts)),
        "largest_relative_difference": difference,
        "same_next_token": same,
        "tolerance": TOLERANCE[dtype],
    }
    if not difference <= TOLERANCE[dtype]:
        raise MathreasonError(
            f"the merged logits differ from the adapter's by {difference:.1e} of the largest one, more "
            f"than rounding to {dtype} explains ({TOLERANCE[dtype]:.0e}); try --dtype float32"
        )
    return merged, check


# -- files -----------------------------------------------------------------------------------------


def _write(folder: Path, merged: Any, base: LoadedModel, run: RunDir) -> None:
    from mathreason.model_card import model_card

    folder.mkdir(parents=True)
    merged.config.dtype = base.model.dtype
    merged.save_pretrained(folder, max_shard_size=SHARD_SIZE)
    base.tokenizer.save_pretrained(folder)
    write_text(folder / "README.md", model_card(run, base.facts["dtype"], base.tokenizer))


def _manifest(folder: Path, adapter: str, dtype: str, check: dict[str, Any]) -> dict[str, Any]:
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        files[path.relative_to(folder).as_posix()] = {
            "bytes": path.stat().st_size,
            "sha256": file_sha256(path),
        }
    return {"adapter_sha256": adapter, "dtype": dtype, "check": check, "files": files}
