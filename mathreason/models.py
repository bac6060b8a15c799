"""Loading models, tokenizers and adapters, for training and for evaluation alike.

    loaded = load_model(job.model, reporter)        # loaded.model, loaded.tokenizer, loaded.facts
    tuned = apply_adapter(loaded, run.adapter)      # proven to be applied, or MathreasonError

Weights come from safetensors only and no code of a model repository is ever run. What was asked for and
cannot be had here (an attention kernel, a dtype, 4-bit weights) is replaced in a declared order, and each
replacement is said on screen and kept in `facts["fallbacks"]`.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mathreason.config import EMBEDDED_MODEL, ModelConfig
from mathreason.errors import InputError, MathreasonError
from mathreason.progress import Reporter
from mathreason.results import file_sha256

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
    # peft reads names that transformers is renaming; nothing a user could do about it.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
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
    from transformers import AutoModelForCausalLM, GenerationConfig

    tokenizer = load_tokenizer(config)
    fallbacks: list[str] = []
    device = _device()
    dtype = _dtype(config, device, fallbacks)
    options: dict[str, Any] = {
        "attn_implementation": _attention(config, device, dtype, fallbacks),
        "dtype": dtype,
    }
    quantized = _quantized(config, fallbacks)
    if quantized:
        options["quantization_config"] = _nf4(dtype)
    if quantized or device.type == "cuda":
        options["device_map"] = {"": device.index if device.type == "cuda" else "cpu"}
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            model_source(config),
            revision=config.revision,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError) as error:
        raise InputError(_cannot_load("model", config, error)) from error
    if missing := sorted(info["missing_keys"]):
        raise MathreasonError(
            f"the weights of {config.name} lack {len(missing)} tensors, such as {missing[0]}"
        )
    # Sampling settings that a model ships with would otherwise fill in what generate() is not told.
    eos = model.generation_config.eos_token_id
    model.generation_config = GenerationConfig(eos_token_id=eos, bos_token_id=tokenizer.bos_token_id)
    for fallback in fallbacks:
        reporter.warn(fallback)
    facts = {
        "name": config.name,
        "revision": config.revision,
        "commit": getattr(model.config, "_commit_hash", None),
        "dtype": str(dtype).removeprefix("torch."),
        "quantization": "nf4" if quantized else "none",
        "attention": model.config._attn_implementation,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "fallbacks": fallbacks,
    }
    return LoadedModel(model, tokenizer, facts)


def weights_sha256(config: ModelConfig) -> str | None:
    """Hash of the weight files when the model is a local folder, None when the Hub names its revision."""
    folder = Path(model_source(config))
    if not folder.is_dir():
        return None
    from mathreason.results import content_hash

    return content_hash({p.name: file_sha256(p) for p in sorted(folder.glob("*.safetensors"))})


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
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _cannot_load(what: str, config: ModelConfig, error: Exception) -> str:
    reason = " ".join(str(error).split())[:400]
    return (
        f"the {what} of model '{config.name}' cannot be loaded: {reason} "
        "(a Hub model must be in the local cache when there is no network)"
    )


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
    try:
        model = PeftModel.from_pretrained(loaded.model, str(adapter), is_trainable=False)
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
        if not torch.equal(tensor, in_model[name].to("cpu", tensor.dtype)):
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
            "It was not trained, or its layers are not those of this model."
        )
