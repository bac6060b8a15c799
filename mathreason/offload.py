"""Models larger than memory: which weights stay on disk, and how they are used from there.

    model: {max_memory: {cpu: 6GiB}}            # up to 6 GiB of weights in memory, the rest on disk

    embeddings  layer 0 … layer 11 │ layer 12 … layer 31  head
    copied into memory             │ mapped: read by each pass, dropped when memory is needed

On a CPU the rest is mapped from the model's own safetensors files: a weight is an ordinary tensor whose pages
the kernel reads when they are used and drops when memory is short, so nothing is copied, nothing written, and
an adapter trains on it as on any other. Only where the files hold another dtype, or a layout that has to be
converted, are weights written to `model.offload_folder` first. With a GPU, transformers and accelerate move
layers there and back in every pass, which allows generation but no backward pass.
"""

from __future__ import annotations

import fcntl
import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mathreason.config import ModelConfig
from mathreason.errors import InputError, MathreasonError
from mathreason.memory import bytes_of
from mathreason.training.storage import storing

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

SCRATCH = "mathreason-weights-"
"""How folders in an offload folder begin; each belongs to one process, and to nobody when that is gone."""
LOCK = "lock"
Stored = list[tuple[str, str, int]]
"""Name, dtype as safetensors calls it, and number of values of each tensor in a model's files."""
_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
SPACE_LEFT = 0.02
"""Part of what is written that must be free beside it, for the file system's own needs."""


def limits(max_memory: dict[str, str]) -> dict[int | str, int]:
    """`max_memory` as transformers takes it: bytes by device, GPUs by number."""
    return {int(name) if name.isdigit() else name: bytes_of(size) for name, size in max_memory.items()}


@contextmanager
def scratch(folder: str | None) -> Iterator[Path | None]:
    """A folder of this process's own in `folder`, gone afterwards; those of processes that are gone go too.

    What a killed process left is never used again: it may be half-written.
    """
    if folder is None:
        yield None
        return
    root = Path(folder).expanduser()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / LOCK, wait=True):  # one process at a time clears and begins
            for old in root.glob(f"{SCRATCH}*"):
                _remove_if_left(old)
            own = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=root))
            lock = _locked(own / LOCK)
    except OSError as error:
        raise InputError(f"model.offload_folder: {folder} cannot be used: {error.strerror}") from error
    with lock:
        try:
            yield own
        finally:
            shutil.rmtree(own, ignore_errors=True)


def _locked(path: Path, wait: bool = False) -> IO[bytes]:
    """A lock until the file is closed or the process is gone; BlockingIOError when another has it."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        file.close()
        raise
    return file


def _remove_if_left(folder: Path) -> None:
    try:
        with _locked(folder / LOCK):
            shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:  # its process is alive
        return


# -- what the model's files hold ---------------------------------------------------------------------


def weight_files(source: str, revision: str | None) -> list[Path]:
    """The safetensors files of a model folder or Hub model, as far as they are to be had."""
    from transformers.utils.hub import cached_file, get_checkpoint_shard_files

    # Loading the model looks for them again, and says what is wrong.
    flags = ("gated_repo", "missing_entries", "connection_errors")
    options: dict[str, Any] = {f"_raise_exceptions_for_{flag}": False for flag in flags}
    single = cached_file(source, "model.safetensors", revision=revision, **options)
    if single is not None:
        return [Path(single)]
    index = cached_file(source, "model.safetensors.index.json", revision=revision, **options)
    if index is None:
        return []
    files, _ = get_checkpoint_shard_files(source, index, revision=revision)
    return [Path(file) for file in files]


def stored_tensors(files: list[Path]) -> Stored:
    """What the headers of the files say."""
    found = []
    for file in files:
        with file.open("rb") as data:
            header = json.loads(data.read(int.from_bytes(data.read(8), "little")))
        header.pop("__metadata__", None)
        found += [(name, entry["dtype"], math.prod(entry["shape"])) for name, entry in header.items()]
    return found


def weight_bytes(tensors: Stored, itemsize: int, quantized: bool) -> int:
    """Bytes of the weights in memory, in nf4 or with `itemsize` bytes a value.

    nf4: half a byte a value and a scale for 64 values, itself in 8 bits with another for 256 (QLoRA); norms,
    embeddings and head are not quantized.
    """
    total = 0.0
    for name, _, count in tensors:
        plain = not quantized or any(part in name for part in ("embed", "lm_head", "norm"))
        total += count * (itemsize if plain else 0.5 + 1 / 64 + 4 / (64 * 256))
    return round(total)


# -- what does not fit -----------------------------------------------------------------------------


def require_memory(
    config: ModelConfig, tensors: Stored, dtype: torch.dtype, quantized: bool, free: int
) -> None:
    """Raise MathreasonError when the weights alone take more than the `free` bytes of memory."""
    needed = weight_bytes(tensors, dtype.itemsize, quantized)
    if needed <= free:
        return
    ways = []
    if not quantized:
        ways.append(f"quantization: nf4 ({gib(weight_bytes(tensors, 2, quantized=True))})")
        if dtype.itemsize > 2:
            ways.append(f"dtype: bfloat16 ({gib(weight_bytes(tensors, 2, quantized=False))})")
    ways.append(f"{'quantization: none with ' * quantized}max_memory: {{cpu: {free / 2**31:.1f}GiB}}")
    kind = "nf4" if quantized else _name(dtype)
    raise MathreasonError(
        f"the weights of {config.name} take {gib(needed)} in {kind}, and {gib(free)} of memory are free; "
        f"set model.{', or model.'.join(ways)} to keep the rest on disk"
    )


def require_placeable(config: ModelConfig, tensors: Stored, dtype: torch.dtype, free: int) -> None:
    """Raise an error when `max_memory` is more than there is, or no copy of the rest can be written.

    A copy is needed where the files hold another dtype than the model is wanted in.
    """
    needed, most = (
        weight_bytes(tensors, dtype.itemsize, quantized=False),
        limits(config.max_memory or {}).get("cpu", 0),
    )
    if min(needed, most) > free:
        raise MathreasonError(
            f"model.max_memory: cpu is {gib(most)}, and {gib(free)} of memory are free; leave room for what "
            "is computed beside the weights"
        )
    other = sorted({_DTYPES.get(stored, stored) for _, stored, _ in tensors} - {_name(dtype)})
    if needed <= most or not other:
        return
    if config.offload_folder is None:
        raise InputError(
            f"model.max_memory: the files of {config.name} hold {other[0]} and the model is wanted in "
            f"{_name(dtype)}, so a copy of what stays on disk must be written; set model.offload_folder to a "
            f"folder on a local disk, or model.dtype: {other[0]}, which needs no copy"
        )
    require_space(Path(config.offload_folder).expanduser(), needed - most)


def require_space(folder: Path, needed: int) -> None:
    """Raise MathreasonError when weights of `needed` bytes cannot be written to `folder`."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if needed * (1 + SPACE_LEFT) > free:
        raise MathreasonError(
            f"model.offload_folder: {gib(needed)} of weights are to be written to {folder}, where "
            f"{gib(free)} are free; make room, name a folder on another local disk, or set model.dtype "
            "to that of the model's files, which needs no copy"
        )


# -- weights mapped from files -----------------------------------------------------------------------


def map_weights(model: Any, folder: Path | None) -> dict[str, int]:
    """Give `model`, as accelerate has placed it on CPU and disk, ordinary weights instead of its hooks.

    Those on disk are mapped from their files, or from copies in `folder` (removed afterwards by the caller)
    where the model's dtype is not the files'. Returns bytes by place: {"memory": …, "disk": …}.
    """
    from accelerate.hooks import remove_hook_from_submodules

    index = _disk_index(model)
    wanted = {name: (module, leaf, tensor) for name, module, leaf, tensor in _on_disk(model)}
    tensors = {name: _read(index[name]) for name in wanted}
    convert = {name for name, (_, _, old) in wanted.items() if tensors[name].dtype != old.dtype}
    if folder is not None:
        require_space(folder, sum(wanted[name][2].nbytes for name in convert))
    remove_hook_from_submodules(model)
    model.__dict__.pop("hf_device_map", None)  # by which peft and the Trainer would place the model again
    for parameter in model.parameters():
        if parameter.device.type != "meta":  # also mapped by now, and would be read in each pass
            parameter.data = parameter.data.clone()
    mapped: dict[tuple[str, str], nn.Parameter] = {}
    for name, (module, leaf, old) in wanted.items():
        source = index[name]["safetensors_file"], index[name]["weight_name"]
        if source not in mapped:  # tied weights stay one
            tensor = tensors.pop(name)
            if name in convert:
                tensor = _copied(tensor, old.dtype, folder, len(mapped))
            mapped[source] = _parameter(tensor)
        setattr(module, leaf, mapped[source])
    model.tie_weights()
    on_disk = sum(parameter.nbytes for parameter in mapped.values())
    return {"memory": sum(p.nbytes for p in model.parameters()) - on_disk, "disk": on_disk}


def adapter_options(model: Any, max_memory: dict[str, str] | None) -> dict[str, Any]:
    """What peft must be told to put an adapter on a model that accelerate moves between devices.

    Raises InputError for one with weights on disk, whose files peft would copy.
    """
    places = getattr(model, "hf_device_map", None)
    if not places or not max_memory:
        return {}
    if "disk" in places.values():
        raise InputError(
            "model.max_memory leaves weights on disk, from where no adapter can be used with a GPU; "
            "raise cpu in it, use quantization: nf4, or evaluate on the CPU (CUDA_VISIBLE_DEVICES='')"
        )
    return {"max_memory": limits(max_memory)}


def placed(model: nn.Module) -> dict[str, int]:
    """Bytes of the weights by place, for a model that accelerate moves between devices."""
    places: dict[str, int] = {}
    for _, parameter in model.named_parameters():
        place = "elsewhere" if parameter.device.type == "meta" else str(parameter.device)
        places[place] = places.get(place, 0) + parameter.nbytes
    return places


def _on_disk(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, Tensor]]:
    for prefix, module in model.named_modules():
        for leaf, tensor in module.named_parameters(prefix="", recurse=False):
            if tensor.device.type == "meta":
                yield (f"{prefix}.{leaf}" if prefix else leaf), module, leaf, tensor


def _disk_index(model: nn.Module) -> dict[str, Any]:
    """accelerate's index of the weights on disk: file and name there, by name in the model."""
    for module in model.modules():
        weights = getattr(getattr(module, "_hf_hook", None), "weights_map", None)
        if weights is not None:
            found: dict[str, Any] = weights.dataset.index
            return found
    return {}


def _read(entry: dict[str, str]) -> Tensor:
    """The tensor of an index entry, mapped from its file."""
    from safetensors import safe_open

    with safe_open(entry["safetensors_file"], framework="pt") as file:
        tensor: Tensor = file.get_tensor(entry["weight_name"])
        return tensor


def _copied(tensor: Tensor, dtype: torch.dtype, folder: Path | None, number: int) -> Tensor:
    """`tensor` in another dtype, written to a file in `folder` and mapped from there.

    Without a folder in memory: `require_placeable` has asked for one unless all of the model fits.
    """
    import torch

    converted = tensor.to(dtype).contiguous()
    if folder is None:
        return converted
    path = folder / str(number)
    with storing("weights", folder), path.open("wb") as file:
        file.write(converted.view(-1).view(torch.uint8).numpy().data)
    return torch.from_file(str(path), shared=False, size=converted.numel(), dtype=dtype).view(tensor.shape)


def _parameter(tensor: Tensor) -> nn.Parameter:
    from torch import nn

    return nn.Parameter(tensor, requires_grad=False)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def gib(size: float) -> str:
    """A size for people."""
    return f"{size / 2**30:.1f} GiB"
