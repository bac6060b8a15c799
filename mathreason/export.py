"""A run's adapter merged into its base model, as a folder that transformers and vLLM load by themselves.

    manifest = export(run, Path("merged"), "auto", reporter)

    merged/
      config.json  model*.safetensors  tokenizer*       what from_pretrained reads
      README.md                                         model card: data, recipe, scores, contamination
      mathreason.json                                   base, check, sizes and SHA-256 of all files; last

The adapter goes into 16-bit (or 32-bit) weights, never into 4-bit ones: rounding the sum to 4 bits again
would undo part of what was learned. The base must be the one that was trained on, `mathreason.merging`
compares the merged model with adapter and base before it counts, and the folder appears by one rename. When
the run is evaluated afterwards, the same call renews the card and nothing else.
"""

from __future__ import annotations

import gc
import glob
import hashlib
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mathreason.config import JobConfig, ModelConfig
from mathreason.data.prepare import load_problems
from mathreason.errors import InputError, MathreasonError
from mathreason.jobfile import load_job
from mathreason.memory import available_bytes
from mathreason.merging import LAST_TOKENS, TOLERANCE, distance, logits_of, merge, same_next_token
from mathreason.model_card import model_card
from mathreason.models import (
    LoadedModel,
    adapter_sha256,
    apply_adapter,
    load_model,
    load_tokenizer,
    model_source,
    planned_facts,
    weights_sha256,
)
from mathreason.progress import Reporter
from mathreason.results import (
    SCHEMA_VERSION,
    RunDir,
    file_sha256,
    fsync_directory,
    process_space,
    provenance,
    read_json,
    to_json,
    write_text,
)
from mathreason.training.storage import storing

if TYPE_CHECKING:
    from mathreason.merging import Logits

MANIFEST = "mathreason.json"
CARD = "README.md"
SHARD_BYTES = 4_000_000_000
PROBES = 8
"""Problems of the run on which merged model, adapter and base are compared."""
SPARE_BYTES = 64 << 20
"""For tokenizer, card and the file system's own needs."""


def export(run: RunDir, output: Path, dtype: str, reporter: Reporter) -> dict[str, Any]:
    """The manifest of the exported folder, made now or found complete (its card is then brought up to date).

    `dtype` is "auto" (what the base is stored in) or a name of torch's. Raises InputError when the run has
    no adapter, the base is not the one it was trained on or the folder holds something else, and
    MathreasonError when there is too little space or memory or the merged model does not answer as the
    adapter does.
    """
    if not run.train.is_file():
        raise InputError(f"{run.path} has no trained adapter yet; run `mathreason train {run.path}` first")
    if run.model.is_dir():
        raise InputError(
            f"{run.path} is fine-tuned in full: {run.model} is a whole model already and there is no adapter "
            "to merge; copy that folder"
        )
    trained = read_json(run.train)
    job = load_job(run.job)
    if adapter_sha256(run.adapter) != trained["adapter_sha256"]:
        raise MathreasonError(f"{run.adapter} is not the adapter that {run.train} describes")
    model = _as_trained(job.model, trained, run)
    wanted = _stored_dtype(model) if dtype == "auto" else dtype
    whole = {"quantization": "none", "max_memory": None, "offload_folder": None}
    config = model.model_copy(update={**whole, "dtype": wanted})
    identity = {"adapter_sha256": trained["adapter_sha256"], "dtype": planned_facts(config)["dtype"]}
    if (found := _found(output, identity)) is not None:
        return _with_card_of_today(output, found, run, reporter)
    base = _require_base(model, trained, run, reporter)
    with _writing_folder(output) as writing:
        _require_room(config, output)
        job = job.model_copy(update={"model": model})
        merged, loaded, check = _merged(job, config, run, trained, reporter)
        _say_what_rounding_costs(check, identity["dtype"], reporter)
        with storing("the merged model", output.parent):
            facts = {**identity, "base": base, "check": check}
            _write(writing, merged, loaded, run, facts)
            _write_manifest(writing, {**facts, "files": _files(writing)})
            fsync_directory(writing)
            try:
                writing.rename(output)
            except OSError:  # another process may have been first
                if _found(output, identity) is None:
                    raise
            fsync_directory(output.parent)
    return read_json(output / MANIFEST)


# -- the base it was trained on --------------------------------------------------------------------


def _as_trained(config: ModelConfig, trained: dict[str, Any], run: RunDir) -> ModelConfig:
    """The model of the job, held to the Hub commit that was trained on, where there is one."""
    commit = trained["model"].get("commit")
    if commit is None:
        return config
    if Path(model_source(config)).is_dir():
        raise InputError(
            f"{run.path} was trained on commit {commit} of the Hub model {config.name}, and there is a "
            "folder of that name here now; run from another directory"
        )
    held = config.model_copy(update={"revision": commit})
    try:
        _model_config(held)
    except InputError as error:
        raise InputError(
            f"{run.path} was trained on commit {commit} of {config.name}, which cannot be had here; fetch it "
            f"with `hf download {config.name} --revision {commit}` ({error})"
        ) from error
    return held


def _require_base(
    config: ModelConfig, trained: dict[str, Any], run: RunDir, reporter: Reporter
) -> dict[str, Any]:
    """What is known of the base's identity; InputError when its weights are not those trained on."""
    commit, recorded = trained["model"].get("commit"), trained.get("base_weights")
    weights = weights_sha256(config)
    if recorded is not None and recorded != weights:
        raise InputError(
            f"the weights in {config.name} (SHA-256 {str(weights)[:12]}) are not those that {run.path} was "
            f"trained on ({recorded[:12]}): the adapter fits no others. Put those back, or train a new run"
        )
    if commit is None and recorded is None:
        reporter.warn(
            f"{run.train} does not say which weights of {config.name} were trained on (an earlier version "
            "wrote it), so a changed base would not be noticed"
        )
    return {"commit": commit, "weights_sha256": weights, "recorded_in_training": bool(commit or recorded)}


def _model_config(config: ModelConfig) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            model_source(config), revision=config.revision, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise InputError(f"the config of model '{config.name}' cannot be read: {error}") from error


def _stored_dtype(config: ModelConfig) -> str:
    name = str(_model_config(config).dtype or "float32").removeprefix("torch.")
    return name if name in TOLERANCE else "float32"


# -- a folder that is there ------------------------------------------------------------------------


def _found(output: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest of `output` if it is this very export and whole; InputError if it is anything else."""
    if not output.exists():
        return None
    if not (output / MANIFEST).is_file():
        raise InputError(f"{output} is there and is no export; give another --output or remove it")
    manifest = read_json(output / MANIFEST)
    if any(manifest.get(key) != value for key, value in identity.items()):
        raise InputError(
            f"{output} holds another export ({manifest.get('dtype')}, adapter "
            f"{str(manifest.get('adapter_sha256'))[:12]}); give another --output or remove it"
        )
    for name, facts in manifest["files"].items():
        path = output / name
        if name != CARD and (
            not path.is_file()
            or path.stat().st_size != facts["bytes"]
            or file_sha256(path) != facts["sha256"]
        ):
            raise InputError(f"{path} is not the file that {output / MANIFEST} lists; remove {output}")
    return manifest


def _with_card_of_today(
    output: Path, manifest: dict[str, Any], run: RunDir, reporter: Reporter
) -> dict[str, Any]:
    """The manifest, after the card was written anew where the run has other scores than it shows.

    A card that someone changed by hand is theirs and stays.
    """
    from transformers import AutoTokenizer

    path = output / CARD
    text = model_card(run, manifest, AutoTokenizer.from_pretrained(output))
    new = {"bytes": len(text.encode()), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    listed = manifest["files"].get(CARD)
    there = file_sha256(path) if path.is_file() else None
    if there not in (None, new["sha256"], listed and listed["sha256"]):
        reporter.warn(f"{path} was changed by hand and stays as it is; remove it to have it written anew")
        return manifest
    if there == new["sha256"] and listed == new:
        reporter.say(f"{output} is complete already")
        return manifest
    reporter.say(f"{output} is complete already; its card is written anew from the run's present results")
    with storing("the model card", output):
        write_text(path, text)
        _write_manifest(output, {**manifest, "files": {**manifest["files"], CARD: new}})
    return read_json(output / MANIFEST)


# -- room ------------------------------------------------------------------------------------------


@contextmanager
def _writing_folder(output: Path) -> Iterator[Path]:
    """A new folder beside `output` for this process alone; removed, as are those that killed ones left."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create {output.parent}: {error.strerror}; give another --output") from error
    start = f".{output.name}.writing-{process_space()}-"
    for left in output.parent.glob(f"{glob.escape(start)}*"):
        if not Path("/proc", left.name.removeprefix(start)).is_dir():
            shutil.rmtree(left)
    writing = output.with_name(f"{start}{os.getpid()}")
    with storing("the merged model", output.parent):
        writing.mkdir()
    try:
        yield writing
    finally:
        shutil.rmtree(writing, ignore_errors=True)


def _require_room(config: ModelConfig, output: Path) -> None:
    """Refuse before anything is loaded when file system or memory cannot take the merged weights."""
    import torch

    weights, memory = _bytes_needed(config)
    free = shutil.disk_usage(output.parent).free
    if free < weights + SPARE_BYTES:
        raise MathreasonError(
            f"{output} needs {(weights + SPARE_BYTES) / 1e9:.2f} GB and {output.parent} has "
            f"{free / 1e9:.2f} GB free; give an --output on a larger file system"
        )
    device = torch.device(planned_facts(config)["device"])
    available = available_bytes(device)
    if available < memory:
        where, advice = "memory", "use a machine with more"
        if device.type == "cuda":
            where, advice = "GPU memory", "set CUDA_VISIBLE_DEVICES= (empty) to merge without the GPU"
        raise MathreasonError(
            f"merging in {config.dtype} needs {memory / 1e9:.2f} GB of {where} and "
            f"{available / 1e9:.2f} GB are free; {advice}"
        )


def _bytes_needed(config: ModelConfig) -> tuple[int, int]:
    """Bytes of the weights in `config.dtype`, and of memory at the peak, from the model's config alone.

    The peak is the larger of merging a matrix (four copies in 32 bit) and of writing a shard (a copy of it),
    with the logits of adapter, base and merged model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    found = _model_config(config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            found, dtype=getattr(torch, config.dtype), trust_remote_code=False
        )
    parameters = list(model.parameters())
    weights = sum(p.numel() * p.element_size() for p in parameters)
    matrix = 4 * 4 * max(p.numel() for p in parameters)
    logits = 3 * PROBES * LAST_TOKENS * found.get_text_config().vocab_size * 4
    return weights, weights + max(matrix, min(weights, SHARD_BYTES)) + logits


# -- merging ---------------------------------------------------------------------------------------


def _merged(
    job: JobConfig, config: ModelConfig, run: RunDir, trained: dict[str, Any], reporter: Reporter
) -> tuple[Any, LoadedModel, dict[str, Any]]:
    """The merged model, the base it came from (tokenizer, facts), and the check."""
    prompts = _prompts(job, run)
    quantized: Logits | None = None
    if trained["model"]["quantization"] != "none":
        quantized = _logits_as_trained(job.model, run, prompts, reporter)
    base = load_model(config, reporter)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"peft\.")  # of tied embeddings, which merging unties
        tuned = apply_adapter(base, run.adapter)
    merged, check = merge(tuned, prompts)
    if trained["model"]["quantization"] != "none":
        check["as_trained"] = None
    if quantized is not None:
        found = logits_of(merged, prompts)
        check["as_trained"] = {
            "quantization": trained["model"]["quantization"],
            "difference": distance(quantized, found),
            "same_next_token": same_next_token(quantized, found),
        }
    return merged, base, check


def _prompts(job: JobConfig, run: RunDir) -> list[list[int]]:
    """Token ids of training problems with their solutions, prompts as in training."""
    from mathreason.data.prompts import Prompter

    prompter = Prompter(job.prompt, load_tokenizer(job.model))
    return [prompter.encode(problem).ids for problem in islice(load_problems(run, "train"), PROBES)]


def _logits_as_trained(
    config: ModelConfig, run: RunDir, prompts: list[list[int]], reporter: Reporter
) -> Logits | None:
    """Logits with the adapter on the quantized weights it was trained on; None where they cannot be had."""
    import torch

    loaded = load_model(config, reporter)
    if loaded.facts["quantization"] == "none":
        reporter.warn("without the quantized weights the merged model is not compared with them")
        return None
    logits = logits_of(apply_adapter(loaded, run.adapter).model, prompts)
    del loaded
    gc.collect()
    torch.cuda.empty_cache()
    return logits


def _say_what_rounding_costs(check: dict[str, Any], dtype: str, reporter: Reporter) -> None:
    if check["verdict"] == "carried":
        return
    reporter.warn(
        f"{dtype} is coarse for so weak an adapter: it moves the logits by {check['effect']:.1e} of their "
        f"size, rounding by {check['difference']:.1e}, and {check['kept_in_weights']:.0%} of its change is "
        "left in the weights. The card says so" + ("" if dtype == "float32" else "; try --dtype float32")
    )


# -- files -----------------------------------------------------------------------------------------


def _write(folder: Path, merged: Any, base: LoadedModel, run: RunDir, facts: dict[str, Any]) -> None:
    """Weights, config, tokenizer and card, none of which names a folder of this machine."""
    merged.config.dtype = base.model.dtype
    merged.config._name_or_path = ""
    merged.save_pretrained(folder, max_shard_size=SHARD_BYTES)
    tokenizer: Any = base.tokenizer
    for key in ("name_or_path", "is_local", "local_files_only"):  # of this machine, not of the tokenizer
        tokenizer.init_kwargs.pop(key, None)
    tokenizer.save_pretrained(folder)
    write_text(folder / CARD, model_card(run, facts, base.tokenizer))
    readable = (folder / CARD).stat().st_mode
    for path in folder.iterdir():
        path.chmod(readable)  # safetensors makes files that only their owner can read, whatever the umask


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Written with the provenance of all results but for the host, since the folder may be published."""
    origin = {key: value for key, value in provenance().items() if key != "host"}
    rest = {key: value for key, value in manifest.items() if key not in ("schema_version", "provenance")}
    document = {"schema_version": SCHEMA_VERSION, "provenance": origin, **rest}
    write_text(folder / MANIFEST, to_json(document) + "\n")


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file in `folder`, each made durable."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        files[path.relative_to(folder).as_posix()] = {
            "bytes": path.stat().st_size,
            "sha256": file_sha256(path),
        }
    return files
