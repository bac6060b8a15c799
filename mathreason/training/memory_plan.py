"""What a job's training needs in memory, before any weight is loaded.

    tracer = Tracer(job, "cpu", Content())
    tracer.total(setting_of(job))                     # bytes at the peak of a step
    largest_micro_batch(tracer, setting, memory)      # None when even 1 is too much

    weights      ████████████         from the model's config alone, on torch's meta device
    adapter      █                    trained, with its gradients and the optimizer's states
    activations  ████████             what one forward and backward pass adds at its peak
    libraries    ██                   Python, torch and transformers themselves: a measured constant

The peak of a step is counted by `tracing`, which carries the step out without content. Where all layers are
alike, three and four of them are traced and the rest extrapolated; every segment of a step grows by the same
amount with each layer, so that is exact and takes seconds for any size.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mathreason.config import JobConfig, ModelConfig
from mathreason.errors import InputError
from mathreason.models import model_source, planned_facts
from mathreason.results import RunDir, read_json

if TYPE_CHECKING:
    from mathreason.training.tracing import StepPeaks

LIBRARIES_BYTES = 420 << 20
"""Anonymous memory of a process on a CPU with all libraries, tokenizer and data, measured."""
PRODUCTS_BYTES = 48 << 20
"""On a CPU in 16 bit: the programs oneDNN keeps for the shapes it multiplied (`allocator`), measured."""
GPU_CONTEXT_BYTES = 600 << 20
"""CUDA's own: context, kernels and cuBLAS workspaces. Not seen by torch's allocator."""
SUPERVISED_SHARE = 0.6
SEQUENCE_TOKENS = 256
"""Of a block, where the data is not prepared yet: the part with a loss, and tokens of one example."""
TRACED_LAYERS, TRACED_SEQUENCES = 3, 16
"""Enough for any number of them: layers repeat, and how a row is cut into sequences changes no size."""
SHORTEST_BLOCK = 256
ATTENTION_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
LARGEST_MICRO_BATCH = 64
"""Beyond it more blocks at once make no step faster."""


@dataclass(frozen=True)
class Content:
    """What blocks hold: the part of tokens with a loss, tokens of a sequence; `known` from prepared data."""

    supervised_share: float = SUPERVISED_SHARE
    sequence_tokens: int = SEQUENCE_TOKENS
    known: bool = False


@dataclass(frozen=True)
class Setting:
    """What of a job decides how much memory a step needs, and may be changed to need less."""

    micro_batch: int
    accumulates: bool
    max_length: int
    checkpointing: bool
    quantized: bool
    targets: tuple[str, ...]


def content_of(run: RunDir | None) -> Content:
    """What the prepared data of `run` fills its blocks with; an assumption without it."""
    if run is None or not run.data.is_file():
        return Content()
    document = read_json(run.data)
    tokens, examples = document["tokens"]["train"], document["counts"]["train"]
    return Content(tokens["supervised"] / tokens["total"], max(1, tokens["total"] // examples), known=True)


def setting_of(job: JobConfig) -> Setting:
    """The job's own setting; with `micro_batch: auto` at 1."""
    training = job.training
    micro_batch = 1 if training.micro_batch == "auto" else training.rows
    return Setting(
        micro_batch=micro_batch,
        accumulates=blocks_of_step(job) > micro_batch,
        max_length=job.data.max_length,
        checkpointing=training.gradient_checkpointing,
        quantized=job.model.quantization == "nf4",
        targets=tuple(job.lora.target_modules),
    )


def blocks_of_step(job: JobConfig) -> int:
    """Blocks in an optimizer step. With `micro_batch: auto` gradient_accumulation is that number."""
    training = job.training
    return training.gradient_accumulation * (1 if training.micro_batch == "auto" else training.rows)


class Tracer:
    """Memory of a job's training step on a kind of device, 'cpu' or 'cuda', under one setting or another."""

    def __init__(self, job: JobConfig, kind: str, content: Content) -> None:
        self.job = job
        self.kind = kind
        self.content = content
        self.config = model_config(job.model)
        self.dtype = planned_dtype(job.model, kind)
        self._known: dict[Setting, StepPeaks] = {}

    def peaks(self, setting: Setting) -> StepPeaks:
        """Bytes of the tensors of a step; the same setting is traced once."""
        if setting not in self._known:
            layers = self.config.num_hidden_layers
            if layers > TRACED_LAYERS + 1 and self._alike():
                first, second = (self._trace(setting, TRACED_LAYERS + more) for more in (0, 1))
                self._known[setting] = first.with_layers(second, layers - TRACED_LAYERS)
            else:
                self._known[setting] = self._trace(setting, layers)
        return self._known[setting]

    def beside(self) -> int:
        """Bytes that are no tensors: libraries on a CPU, CUDA's own on a GPU."""
        if self.kind != "cpu":
            return GPU_CONTEXT_BYTES
        return LIBRARIES_BYTES + (0 if self.dtype == "float32" else PRODUCTS_BYTES)

    def total(self, setting: Setting) -> int:
        """Bytes at the peak of a step: of the process on a CPU, of the card on a GPU."""
        return self.peaks(setting).peak + self.beside()

    def mapped(self, setting: Setting) -> int:
        """Bytes of weights that stay pages of their file: unquantized, on a CPU, in the file's dtype.

        They are part of `total`; the system may drop and read them again, so they are no anonymous memory.
        """
        from bitsandbytes.nn import Linear4bit

        stored = str(getattr(self.config, "dtype", None)).removeprefix("torch.")
        if self.kind != "cpu" or self.job.training.approach == "full" or stored != self.dtype:
            return 0
        model = self.model(setting, self.config.num_hidden_layers)
        packed = {id(module.weight) for module in model.modules() if isinstance(module, Linear4bit)}
        kept = {id(p): p for p in model.parameters() if not p.requires_grad and id(p) not in packed}
        return sum(parameter.numel() * parameter.element_size() for parameter in kept.values())

    def model(self, setting: Setting, layers: int) -> Any:
        """The model to train, with so many layers, on the meta device."""
        import torch

        from mathreason.training.full import trainable
        from mathreason.training.lora import make_lean
        from mathreason.training.train import add_lora

        with torch.device("meta"):
            model = self._base(layers)
            if setting.quantized:
                _quantize(model, self.dtype)
            if self.job.training.approach == "full":
                model = trainable(model)
            else:
                changed = {"target_modules": list(setting.targets)}
                model = add_lora(model, self.job.lora.model_copy(update=changed))
        make_lean(model)
        if setting.checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return model

    def _base(self, layers: int) -> Any:
        import torch
        from transformers import AutoModelForCausalLM

        config = copy.deepcopy(self.config)
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
        return AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, self.dtype), attn_implementation="sdpa"
        )

    def _alike(self) -> bool:
        """Whether all decoder layers have the same parts, so that three and four of them tell of all."""
        import torch

        if len(set(getattr(self.config, "layer_types", None) or [])) > 1:
            return False
        with torch.device("meta"):
            layers = decoder_layers(self._base(self.config.num_hidden_layers))
        return len({tuple((name, p.shape) for name, p in layer.named_parameters()) for layer in layers}) == 1

    def _trace(self, setting: Setting, layers: int) -> StepPeaks:
        import torch

        from mathreason.training.decoder import serves_layers
        from mathreason.training.forward import Forward, _frozen_head, _in_force, multiple_of
        from mathreason.training.kernel_plan import Shapes
        from mathreason.training.last_layer import trimmable
        from mathreason.training.tracing import OnGpu, Setup, Shape, trace_step

        tokens = setting.max_length * setting.micro_batch
        share, each = self.content.supervised_share, min(self.content.sequence_tokens, setting.max_length)
        sequences = max(1, min(TRACED_SEQUENCES, tokens // each))
        shape = Shape(tokens, sequences, max(1, round(tokens * share)))
        model = self.model(setting, layers)
        dtype = getattr(torch, self.dtype)
        if self.kind == "cuda" and dtype.itemsize == 2 and serves_layers(model):
            forward: Forward = OnGpu(_frozen_head(model), by_sequence=True, whole=True)
        else:
            # A GPU's attention kernels keep what attention by sequence keeps: no matrix of all pairs.
            multiple = multiple_of(dtype) if self.kind == "cpu" else 1
            at_loss = tuple(trimmable(model))
            forward = Forward(_frozen_head(model), by_sequence=True, at_loss=at_loss, multiple=multiple)
        setup = Setup(accumulates=setting.accumulates, foreach=self.kind == "cuda")
        with _in_force(model, forward, Shapes):
            return trace_step(model, decoder_layers(model), forward, shape, dtype, setup)


def model_config(model: ModelConfig) -> Any:
    """The config of a model, without its weights; InputError when it cannot be had."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            model_source(model), revision=model.revision, trust_remote_code=False
        ).get_text_config()
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"the config of model '{model.name}' cannot be read: {reason}") from error


def planned_dtype(model: ModelConfig, kind: str) -> str:
    """What the model computes in on a 'cpu' or 'cuda' device, as far as it can be said without it."""
    here = planned_facts(model)
    if here["device"] == kind:
        return here["dtype"]
    if model.dtype != "auto":
        return model.dtype
    return "bfloat16" if kind == "cuda" else "float32"


def decoder_layers(model: Any) -> Any:
    """The list of decoder layers of a transformers model, with or without an adapter."""
    from torch import nn

    count = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise InputError("memory cannot be planned for this model: its decoder layers are not in one list")


def _quantize(model: Any, dtype: str) -> None:
    """Exchange linear layers for 4-bit ones, all but the head, as loading does."""
    import torch
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear
    from transformers.quantizers.base import get_keys_to_not_convert

    from mathreason.models import _nf4

    replace_with_bnb_linear(model, get_keys_to_not_convert(model), _nf4(getattr(torch, dtype)))
    model.is_loaded_in_4bit = True


# -- what fits -------------------------------------------------------------------------------------


def largest_micro_batch(tracer: Tracer, setting: Setting, memory: int, of: int | None = None) -> int | None:
    """The largest micro-batch that fits into `memory` bytes, among the divisors of `of` or powers of two.

    None when a micro-batch of 1 does not fit.
    """
    if of is None:
        sizes = [1 << power for power in range(LARGEST_MICRO_BATCH.bit_length())]
    else:
        sizes = [size for size in range(1, min(of, LARGEST_MICRO_BATCH) + 1) if of % size == 0]
    largest = None
    for size in sizes:
        accumulates = of is None or of > size
        if tracer.total(replace(setting, micro_batch=size, accumulates=accumulates)) > memory:
            break
        largest = size
    return largest


@dataclass(frozen=True)
class Change:
    """A change to the job, what it costs, and the setting with it and with those before it."""

    what: str
    cost: str
    setting: Setting


def changes(setting: Setting, full: bool = False) -> Iterator[Change]:
    """What makes a step smaller, the cheapest first, each on top of the ones before."""
    if setting.micro_batch > 1:
        setting = replace(setting, micro_batch=1, accumulates=True)
        yield Change(
            "training.micro_batch: 1, gradient_accumulation as many times more",
            "the same steps, a little slower",
            setting,
        )
    if not setting.checkpointing:
        setting = replace(setting, checkpointing=True)
        yield Change("training.gradient_checkpointing: true", "the same steps, about a third slower", setting)
    if not setting.quantized and not full:
        setting = replace(setting, quantized=True)
        yield Change("model.quantization: nf4", "weights rounded to 4 bits", setting)
    while setting.max_length > SHORTEST_BLOCK:
        setting = replace(setting, max_length=max(SHORTEST_BLOCK, setting.max_length // 2))
        yield Change(f"data.max_length: {setting.max_length}", "longer examples are dropped", setting)
    attention = tuple(target for target in setting.targets if target in ATTENTION_TARGETS)
    if attention and attention != setting.targets and not full:
        setting = replace(setting, targets=attention)
        yield Change(f"lora.target_modules: [{', '.join(attention)}]", "a smaller adapter", setting)
