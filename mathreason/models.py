"""Loading models, tokenizers and adapters, for training and for evaluation alike.

    loaded = load_model(job.model, reporter)        # loaded.model, loaded.tokenizer, loaded.facts
    tuned = apply_adapter(loaded, run.adapter)      # proven to be applied, or MathreasonError

Weights come from safetensors only and no code of a model repository is ever run. What was asked for and
cannot be had here (an attention kernel, a dtype, 4-bit weights) is replaced in a declared order, and each
replacement is said on screen and kept in `facts["fallbacks"]`.
"""

from __future__ import annotations

import atexit
import importlib.util
import logging
import os
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mathreason import offload
from mathreason.config import EMBEDDED_MODEL, ModelConfig
from mathreason.errors import InputError, MathreasonError
from mathreason.memory import available_bytes
from mathreason.nf4 import in_pieces
from mathreason.progress import Reporter
from mathreason.results import file_sha256
from mathreason.training import launch

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ADAPTER_WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to use, its tokenizer, and what it really is (for results)."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    facts: dict[str, Any]


def model_source(config: ModelConfig) -> str:
    """The folder or Hub name behind `config.name`; InputError when it is a folder that does not exist."""
    if config.name == EMBEDDED_MODEL:
        from mathreason.embedded import model_path

        return str(model_path())
    looks_like_folder = config.name.startswith((".", "/", "~")) or config.name.count("/") != 1
    folder = Path(config.name).expanduser()
    if looks_like_folder or folder.exists():
        if not (folder / "config.json").is_file():
            what = "has no config.json" if folder.is_dir() else "does not exist"
            raise InputError(
                f"model.name: the model folder {config.name} {what}; give a folder or a Hub name"
            )
        return str(folder)
    return config.name


def quiet_libraries() -> None:
    """Keep the libraries' own bars and advice off the screen; this package says what matters itself."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    logging.getLogger("accelerate.big_modeling").setLevel(logging.ERROR)  # placement is said here, in bytes
    # peft reads names that transformers is renaming; nothing a user could do about it.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
    # accelerate passes a setting on to torch under a name that torch is renaming.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"accelerate\.")
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of `config`, padding on the left; a missing padding token becomes the EOS token.

    Labels are built from lengths, so a padding token equal to EOS never hides an EOS from the loss.
    """
    from transformers import AutoTokenizer

    quiet_libraries()
    source = model_source(config)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source, revision=config.revision, trust_remote_code=False, padding_side="left"
        )
    except (OSError, ValueError) as error:
        raise InputError(_cannot_load("tokenizer", config, error)) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(config: ModelConfig, reporter: Reporter) -> LoadedModel:
    """Model and tokenizer of `config` on the best device here.

    Raises InputError when it cannot be found or read, MathreasonError when weights are missing from it.
    """
    import torch
    from transformers import GenerationConfig

    tokenizer = load_tokenizer(config)
    fallbacks: list[str] = []
    device = _device()
    divided = torch.distributed.is_initialized() and launch.current().zero == 3
    home = torch.device("cpu") if divided else device  # DeepSpeed itself brings parts of it to the GPU
    dtype = _dtype(config, device, fallbacks)
    options: dict[str, Any] = {
        "attn_implementation": _attention(config, device, dtype, fallbacks),
        "dtype": dtype,
    }
    quantized = _quantized(config, fallbacks)
    if quantized:
        options["quantization_config"] = _nf4(dtype)
    if config.max_memory is not None:
        options["device_map"] = "auto"
        options["max_memory"] = offload.limits(config.max_memory)
    elif quantized or home.type == "cuda":
        options["device_map"] = {"": device.index if device.type == "cuda" else "cpu"}
    _require_room(config, home, dtype, quantized)
    model, placed = _from_files(config, home, options)
    # Sampling settings that a model ships with would otherwise fill in what generate() is not told.
    eos = model.generation_config.eos_token_id
    model.generation_config = GenerationConfig(eos_token_id=eos, bos_token_id=tokenizer.bos_token_id)
    for fallback in fallbacks:
        reporter.warn(fallback)
    facts = {
        "name": config.name,
        "revision": config.revision,
        "commit": hub_commit(config),
        "dtype": str(dtype).removeprefix("torch."),
        "quantization": "nf4" if quantized else "none",
        "attention": model.config._attn_implementation,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "fallbacks": fallbacks,
    }
    if placed:
        facts |= {"placed": placed, "max_memory": config.max_memory}
        reporter.note(
            f"weights: {', '.join(f'{offload.gib(size)} {place}' for place, size in placed.items())}"
        )
    return LoadedModel(model, tokenizer, facts)


def _from_files(
    config: ModelConfig, device: torch.device, options: dict[str, Any]
) -> tuple[Any, dict[str, int]]:
    """The model, and with `max_memory` the bytes of its weights by place."""
    from transformers import AutoModelForCausalLM

    with ExitStack() as stack:
        folder = stack.enter_context(offload.scratch(config.offload_folder)) if config.max_memory else None
        if "quantization_config" in options and device.type == "cpu":
            stack.enter_context(in_pieces())
        try:
            model, info = AutoModelForCausalLM.from_pretrained(
                model_source(config),
                revision=config.revision,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                offload_folder=folder,
                **options,
            )
        except (OSError, ValueError) as error:
            raise InputError(_cannot_load("weights", config, error)) from error
        if missing := sorted(info["missing_keys"]):
            raise MathreasonError(
                f"the weights of {config.name} lack {len(missing)} tensors, such as {missing[0]}"
            )
        if config.max_memory is None:
            return model, {}
        if device.type == "cpu":
            return model, offload.map_weights(model, folder)
        atexit.register(stack.pop_all().close)  # accelerate reads from it for as long as the model is used
        return model, offload.placed(model)


def _require_room(config: ModelConfig, device: torch.device, dtype: torch.dtype, quantized: bool) -> None:
    """Raise MathreasonError when the weights do not fit, before a kernel ends the process for it."""
    try:
        tensors = offload.stored_tensors(offload.weight_files(model_source(config), config.revision))
    except (OSError, ValueError) as error:
        raise InputError(_cannot_load("weights", config, error)) from error
    if config.max_memory is None:
        offload.require_memory(config, tensors, dtype, quantized, available_bytes(device))
    elif device.type == "cpu":
        offload.require_placeable(config, tensors, dtype, available_bytes(device))


def hub_commit(config: ModelConfig) -> str | None:
    """Commit of a Hub model in the local cache, where loading has put it; None for a folder."""
    from huggingface_hub import try_to_load_from_cache

    source = model_source(config)
    if Path(source).is_dir():
        return None
    path = try_to_load_from_cache(source, "config.json", revision=config.revision)
    return Path(path).parent.name if isinstance(path, str) else None


def weights_sha256(config: ModelConfig) -> str | None:
    """Hash of the weight files when the model is a local folder, None when the Hub names its revision."""
    folder = Path(model_source(config))
    if not folder.is_dir():
        return None
    from mathreason.results import content_hash

    return content_hash(
        {p.name: _sha256_once(p, p.stat().st_mtime_ns) for p in sorted(folder.glob("*.safetensors"))}
    )


@cache
def _sha256_once(path: Path, changed_ns: int) -> str:
    """Hash of a file, which at 14 GB takes long enough to keep for as long as the file is not changed."""
    del changed_ns
    return file_sha256(path)


def attention_window(config: Any) -> int | None:
    """How many tokens up to itself a token sees at most in the narrowest layer; None where it sees all.

    Of a transformers config: `sliding_window` (Mistral, Gemma; off where Qwen's `use_sliding_window` is
    false) and `attention_chunk_size` (Llama 4). A text no longer than this is attended as without it.
    """
    text = config.get_text_config()
    sliding = getattr(text, "sliding_window", None) if getattr(text, "use_sliding_window", True) else None
    limits = [limit for limit in (sliding, getattr(text, "attention_chunk_size", None)) if limit]
    return min(limits, default=None)


def planned_facts(config: ModelConfig) -> dict[str, str]:
    """Device kind and dtype the model would be loaded with here, without loading it."""
    device = _device()
    return {"device": device.type, "dtype": str(_dtype(config, device, [])).removeprefix("torch.")}


# -- what this machine can do ----------------------------------------------------------------------


def _device() -> torch.device:
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def _dtype(config: ModelConfig, device: torch.device, fallbacks: list[str]) -> torch.dtype:
    import torch

    has_bf16 = device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    if config.dtype == "auto":
        if device.type == "cpu":
            return torch.float32
        return torch.bfloat16 if has_bf16 else torch.float32
    if config.dtype == "bfloat16" and not has_bf16:
        fallbacks.append("dtype: this GPU does not compute in bfloat16; using float32")
        return torch.float32
    wanted: torch.dtype = getattr(torch, config.dtype)
    return wanted


def _attention(config: ModelConfig, device: torch.device, dtype: torch.dtype, fallbacks: list[str]) -> str:
    is_half = dtype.itemsize == 2  # FlashAttention computes in 16 bit only
    has_flash = device.type == "cuda" and is_half and importlib.util.find_spec("flash_attn") is not None
    if config.attention == "auto":
        return "flash_attention_2" if has_flash else "sdpa"
    if config.attention == "flash_attention_2" and not has_flash:
        fallbacks.append(
            "attention: flash_attention_2 needs a GPU, a 16-bit dtype and the flash-attn package; using sdpa"
        )
        return "sdpa"
    return config.attention


def _quantized(config: ModelConfig, fallbacks: list[str]) -> bool:
    if config.quantization == "none":
        return False
    if importlib.util.find_spec("bitsandbytes") is None:
        fallbacks.append("quantization: nf4 needs bitsandbytes, which is not installed; using full weights")
        return False
    return True


def _nf4(dtype: torch.dtype) -> Any:
    """4-bit NormalFloat with double quantization (Dettmers et al. 2023, QLoRA)."""
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        # FSDP divides tensors of one dtype only, so there the 4-bit values are kept in the others'.
        bnb_4bit_quant_storage=dtype if launch.current().fsdp else torch.uint8,
    )


def _cannot_load(what: str, config: ModelConfig, error: Exception) -> str:
    from mathreason.hub import missing_of_model

    reason = " ".join(str(error).split())[:400]
    if lacking := missing_of_model(config):
        return (
            f"the {what} of model {config.name} cannot be loaded: {', '.join(lacking)} is not in the local "
            "cache and cannot be fetched now; with network, `mathreason data prefetch JOB` fetches it"
        )
    return f"the {what} of model '{config.name}' cannot be loaded: {reason}"


# -- adapters --------------------------------------------------------------------------------------


def adapter_sha256(adapter: Path) -> str:
    """Hash of an adapter's weights; InputError when the folder holds none."""
    weights = adapter / ADAPTER_WEIGHTS
    if not weights.is_file():
        raise InputError(f"{adapter} holds no adapter ({ADAPTER_WEIGHTS} is missing); train the run first")
    return file_sha256(weights)


def apply_adapter(loaded: LoadedModel, adapter: Path) -> LoadedModel:
    """The model with the adapter of folder `adapter` on, after proof that it is really applied.

    Proof: every tensor of the file is in the model and equal, none of the model's adapter tensors is
    absent from the file, and the logits of a probe differ from the base model's. Raises MathreasonError
    otherwise: an adapter that is silently ignored would be reported as "no gain".
    """
    from peft import PeftModel

    adapter_sha256(adapter)
    options = offload.adapter_options(loaded.model, loaded.facts.get("max_memory"))
    try:
        model = PeftModel.from_pretrained(loaded.model, str(adapter), is_trainable=False, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise MathreasonError(f"the adapter {adapter} does not fit the model: {error}") from error
    model.eval()
    _prove_loaded(model, adapter)
    _prove_effective(model, loaded.tokenizer, adapter)
    return LoadedModel(model, loaded.tokenizer, loaded.facts)


def _prove_loaded(model: Any, adapter: Path) -> None:
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import load_file

    on_disk = load_file(str(adapter / ADAPTER_WEIGHTS))
    in_model = get_peft_model_state_dict(model)
    if stray := sorted(set(on_disk) ^ set(in_model)):
        raise MathreasonError(
            f"the adapter {adapter} is not applied: {len(stray)} tensors, such as {stray[0]}, "
            "are in the file or in the model but not in both. Is it the adapter of another model?"
        )
    for name, tensor in on_disk.items():
        if not torch.equal(tensor.to(in_model[name].dtype), in_model[name].cpu()):
            raise MathreasonError(f"the adapter {adapter} is not applied: tensor {name} was not loaded")


def _prove_effective(model: Any, tokenizer: PreTrainedTokenizerBase, adapter: Path) -> None:
    import torch

    ids = tokenizer("2 + 3 = 5. Tom has 4 apples.", return_tensors="pt")["input_ids"].to(model.device)
    with torch.no_grad():
        on = model(input_ids=ids, use_cache=False).logits
        with model.disable_adapter():
            off = model(input_ids=ids, use_cache=False).logits
    if torch.equal(on, off):
        raise MathreasonError(
            f"the adapter {adapter} changes nothing: the logits with and without it are equal. "
            "It was not trained (or too little to show in "
            f"{str(model.dtype).removeprefix('torch.')}), or its layers are not those of this model."
        )
