"""The job file's schema: what a job can say, and every default, here and nowhere else.

    name: mistral-7b
    model: {name: mistralai/Mistral-7B-v0.1}
    data: {mixture: [{source: gsm8k, count: 3000}]}

`mathreason.jobfile` reads such a file into a `JobConfig`. Unknown keys are refused; values are never
converted (`epochs: "2"` is an error). The defaults are the recipe this project exists for: LoRA r=32,
alpha=64 on all seven projections, nf4, two epochs at 1e-4 with a cosine schedule.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mathreason.memory import bytes_of

BUILTIN_SOURCES = ("gsm8k", "gsm_hard", "numinamath_qwq_cot", "generator")
BUILTIN_BENCHMARKS = ("gsm8k", "gsm8k_platinum", "svamp", "asdiv", "gsm_hard", "math", "generator")
EMBEDDED_MODEL = "embedded"

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LATER_KEYS = (
    ("lora", "use_rslora"),
    ("lora", "use_dora"),
    ("training", "approach"),
    ("training", "select_by"),
    ("training", "select_items"),
    ("training", "exact_memory"),
)
"""Section and key of what is newer than the first runs; at its default it leaves a run's id as it was."""

INSTRUCTION = "Solve the problem step by step. End with a line that holds #### and the final answer."


def _memory_size(value: str) -> str:
    bytes_of(value)
    return value


PLACEMENT_KEYS = {"max_memory", "offload_folder"}
"""Keys of `model` that say where weights are kept: they change no result, so nothing is named by them."""

PositiveInt = Annotated[int, Field(ge=1)]
MemorySize = Annotated[str, AfterValidator(_memory_size)]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Columns(_Section):
    """Which column of your rows holds what."""

    question: str = Field("question", description="Column with the problem text.")
    solution: str | None = Field(None, description="Column with the worked solution (training needs one).")
    answer: str | None = Field(
        None,
        description="Column with the final answer; when absent it is read after #### or in \\boxed{}.",
    )
    group: str | None = Field(
        None, description="Column that is equal for items with one source, which are then analysed together."
    )
    attributes: list[str] = Field([], description="Columns to break results down by, such as level.")


class SourceConfig(_Section):
    """One source of training problems."""

    source: Literal["gsm8k", "gsm_hard", "numinamath_qwq_cot", "generator", "jsonl", "hub"] = Field(
        description="A known data set, 'generator' (built in), 'jsonl' (your file) or 'hub' (a Hub data set)."
    )
    count: PositiveInt | None = Field(None, description="How many problems to take; all when absent.")
    split: str | None = Field(None, description="Split to read; 'train' when absent.")
    path: str | None = Field(None, description="jsonl: the file. hub: the data set's name or folder.")
    subset: str | None = Field(None, description="hub: the configuration (subset) of the data set.")
    columns: Columns | None = Field(None, description="jsonl and hub: which column holds what.")
    seed: int = Field(0, description="generator: the seed of its problems.")
    alternative: SourceConfig | None = Field(
        None, description="Source to use, said on screen and in data.json, when this one cannot be had."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        own = self.source in ("jsonl", "hub")
        if own and self.path is None:
            raise ValueError(f"source '{self.source}' needs a path")
        if not own and (self.path or self.columns or self.subset):
            raise ValueError(
                f"path, subset and columns belong to sources 'jsonl' and 'hub', not '{self.source}'"
            )
        if self.source == "generator" and self.count is None:
            raise ValueError("source 'generator' never ends: give a count")
        return self


class ModelConfig(_Section):
    """The base model and how it is loaded."""

    name: str = Field(description="Hub name, a local folder, or 'embedded' (the tiny model that is shipped).")
    revision: str | None = Field(None, description="Hub revision (branch, tag or commit).")
    quantization: Literal["nf4", "none"] = Field(
        "nf4", description="4-bit NF4 with double quantization, or none."
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="auto: bfloat16 where the hardware computes in it, else float32."
    )
    attention: Literal["auto", "flash_attention_2", "sdpa", "eager"] = Field(
        "auto", description="auto: flash_attention_2 on a GPU that has it installed, else sdpa."
    )
    max_memory: dict[str, MemorySize] | None = Field(
        None,
        min_length=1,
        description="Memory that unquantized weights may take, {cpu: 6GiB, 0: 20GiB} with GPUs by number; "
        "what is over stays on disk.",
    )
    offload_folder: str | None = Field(
        None,
        description="Folder on a local disk for weights that cannot be used from the model's own files.",
    )

    @field_validator("max_memory", mode="before")
    @classmethod
    def _devices(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for name in map(str, value):
            if name != "cpu" and not name.isdigit():
                raise ValueError(f"'{name}' is no memory; name 'cpu', or a GPU by its number, such as 0")
        return {str(name): size for name, size in value.items()}

    @model_validator(mode="after")
    def _placeable(self) -> Self:
        if self.max_memory is not None and self.quantization != "none":
            raise ValueError(
                "max_memory keeps a part of unquantized weights on disk, and nf4 quantizes all of them into "
                "memory; set quantization: none, or leave max_memory out"
            )
        return self


class DataConfig(_Section):
    """What the model is trained on."""

    mixture: list[SourceConfig] = Field(min_length=1, description="Sources and how much of each.")
    seed: int = Field(42, description="Seed of the choice and the order of problems.")
    max_length: Annotated[int, Field(ge=8)] = Field(
        2048, description="Tokens in a packed block; a longer example is dropped and counted, never cut."
    )
    validation_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.05, description="Part of the problems held out to choose the best checkpoint."
    )
    on_contamination: Literal["drop", "fail", "allow"] = Field(
        "drop",
        description="What to do with training rows that are in a benchmark; allow marks the results.",
    )
    dedup: Literal["example", "question"] = Field(
        "example", description="Drop rows with the same question and solution, or with the same question."
    )
    balance: Literal["none", "solution_steps"] = Field(
        "none", description="solution_steps: take as evenly as possible over the number of written steps."
    )


class PromptConfig(_Section):
    """How a question is put to the model, in training and in evaluation alike."""

    style: Literal["auto", "chat", "plain"] = Field(
        "auto", description="auto: the tokenizer's chat template if it has one, else the plain template."
    )
    instruction: str = Field(INSTRUCTION, description="What the model is told before the question.")


class LoraConfig(_Section):
    """Low-rank adapter (Hu et al. 2021)."""

    r: PositiveInt = Field(32, description="Rank.")
    alpha: PositiveInt = Field(64, description="Scale is alpha / r.")
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.1, description="Dropout on the adapter's input."
    )
    target_modules: list[str] = Field(
        list(LORA_TARGETS), min_length=1, description="Linear layers that get an adapter."
    )
    use_rslora: bool = Field(
        False, description="Scale by alpha / sqrt(r) instead (rsLoRA, Kalajdzievski 2023, arXiv 2312.03732)."
    )
    use_dora: bool = Field(
        False,
        description="Train each weight's length apart from its direction (DoRA, Liu et al. 2024, "
        "arXiv 2402.09353); slower and with more memory.",
    )


class TrainingConfig(_Section):
    """Optimization. One optimizer step sees micro_batch x gradient_accumulation blocks."""

    epochs: Annotated[float, Field(gt=0)] = Field(2.0, description="Passes over the training data.")
    max_steps: PositiveInt | None = Field(
        None, description="Stop after this many optimizer steps, whatever the epochs."
    )
    micro_batch: PositiveInt | Literal["auto"] = Field(
        1, description="Blocks in one forward pass; auto: as many as memory allows."
    )
    gradient_accumulation: PositiveInt = Field(
        8, description="Forward passes in one optimizer step; with micro_batch auto, blocks in one."
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-4, description="Peak learning rate.")
    scheduler: Literal["cosine", "linear", "constant_with_warmup"] = Field(
        "cosine", description="Learning rate schedule."
    )
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.05, description="Part of the steps spent warming up."
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.05, description="AdamW weight decay.")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(1.0, description="Gradient clipping.")
    optimizer: Literal["paged_adamw_32bit", "adamw_torch"] = Field(
        "paged_adamw_32bit",
        description="The paged optimizer needs a GPU; adamw_torch takes its place without one.",
    )
    packing: bool = Field(True, description="Pack examples into blocks, each attending only to itself.")
    gradient_checkpointing: bool = Field(True, description="Recompute activations: less memory, more time.")
    seed: int = Field(42, description="Seed of adapter initialization, dropout and block order.")
    logging_steps: PositiveInt = Field(10, description="Optimizer steps between lines of log.jsonl.")
    checkpoint_steps: PositiveInt = Field(
        50, description="Optimizer steps between checkpoints, each validated."
    )
    keep_last: PositiveInt = Field(2, description="Checkpoints kept beside the best one.")
    approach: Literal["lora", "full"] = Field(
        "lora", description="Train an adapter, or all weights of an unquantized model."
    )
    select_by: Literal["loss", "accuracy"] = Field(
        "loss",
        description="The best checkpoint has the lowest validation loss, or solves most validation problems.",
    )
    select_items: PositiveInt = Field(
        100, description="select_by accuracy: how many validation problems each checkpoint answers."
    )
    exact_memory: bool = Field(
        False,
        description="On a CPU: hold no more memory than the tensors need, 5 to 50 % slower; "
        "micro_batch auto always does.",
    )

    @property
    def is_exact(self) -> bool:
        """Whether memory is given back at once: asked for, or because all of it is to be used."""
        return self.exact_memory or self.micro_batch == "auto"

    @property
    def rows(self) -> int:
        """`micro_batch` as a number, which training puts in the place of auto before it begins."""
        if self.micro_batch == "auto":
            raise ValueError("micro_batch auto has not been chosen yet")
        return self.micro_batch


class BenchmarkConfig(_Section):
    """One benchmark. A bare name in the job file means {name: that}."""

    name: str = Field(description="A known benchmark, or any name with a path.")
    path: str | None = Field(None, description="Your own JSONL file of items.")
    split: str | None = Field(
        None, description="Split to read; 'test' when absent (gsm_hard has only 'train')."
    )
    columns: Columns | None = Field(None, description="With path: which column holds what.")
    count: PositiveInt | None = Field(None, description="generator: how many items it makes.")
    seed: int = Field(0, description="generator: the seed of its items.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"benchmark name {self.name!r}: use letters, digits, '.', '_' and '-'")
        if self.path is None and self.name not in BUILTIN_BENCHMARKS:
            raise ValueError(
                f"benchmark '{self.name}' is not known ({', '.join(BUILTIN_BENCHMARKS)}); "
                "give a path to evaluate your own JSONL file"
            )
        if self.path is None and self.columns is not None:
            raise ValueError("columns go with a path")
        if self.name == "generator" and self.path is None and self.count is None:
            raise ValueError("benchmark 'generator' never ends: give a count")
        return self


class ServerConfig(_Section):
    """An OpenAI-compatible server (vLLM, SGLang, llama.cpp, transformers serve) that holds the models."""

    url: str = Field(description="Base address, such as http://127.0.0.1:8000/v1.")
    model: str | None = Field(None, description="Served name of the base model; model.name when absent.")
    tuned_model: str | None = Field(None, description="Served name of the adapter, for the tuned model.")
    endpoint: Literal["completions", "chat"] = Field(
        "completions", description="completions sends the rendered prompt, chat lets the server render it."
    )
    concurrency: PositiveInt = Field(16, description="Requests in flight at once.")
    api_key_env: str = Field("OPENAI_API_KEY", description="Environment variable that holds the key, if any.")
    timeout: Annotated[float, Field(gt=0)] = Field(600, description="Seconds one request may take.")
    retry_seconds: Annotated[float, Field(ge=0)] = Field(
        600, description="Seconds without any answer after which the evaluation gives up."
    )

    @field_validator("url")
    @classmethod
    def _http(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError(f"the server's url {value!r} must begin with http:// or https://")
        return value.rstrip("/")


class EvaluationConfig(_Section):
    """What base and tuned model are measured on, on the same items."""

    benchmarks: list[BenchmarkConfig] = Field(
        [BenchmarkConfig(name="gsm8k")],  # type: ignore[call-arg]
        min_length=1,
        description="Benchmarks; the training data is audited against all of them.",
    )
    limit: PositiveInt | None = Field(200, description="Items of each benchmark, a seeded sample; null: all.")
    seed: int = Field(0, description="Seed of that sample, of the few-shot examples and of sampling.")
    few_shot: Annotated[int, Field(ge=0, le=64)] = Field(
        0, description="Worked examples before the question."
    )
    few_shot_format: Literal["native", "lm_eval_gsm8k", "lm_eval_gsm8k_cot"] = Field(
        "native",
        description="How they are rendered: in this job's prompt, or as lm-evaluation-harness does it.",
    )
    engine: Literal["transformers", "openai", "vllm"] = Field(
        "transformers", description="What generates the responses; openai needs a server."
    )
    server: ServerConfig | None = Field(None, description="With engine openai: the server.")
    batch_size: PositiveInt | Literal["auto"] = Field(
        "auto", description="Responses generated together; auto finds what memory allows."
    )
    samples: PositiveInt = Field(1, description="Responses to each item; more than one for pass@k and maj@k.")
    temperature: Annotated[float, Field(ge=0)] = Field(0.0, description="0 is greedy.")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="Nucleus sampling.")
    max_new_tokens: PositiveInt = Field(512, description="Token limit of a response; one cut off is counted.")
    stop: list[str] = Field(
        ["Question:", "</s>", "<|im_end|>"], description="Generation ends before any of these texts."
    )
    allow_prompt_mismatch: bool = Field(
        False,
        description="Evaluate an adapter with another prompt than it was trained with; marks the result.",
    )

    @field_validator("benchmarks", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [{"name": entry} if isinstance(entry, str) else entry for entry in value]

    @field_validator("stop")
    @classmethod
    def _no_empty_stop(cls, value: list[str]) -> list[str]:
        if "" in value:
            raise ValueError("an empty stop text would end every response at once")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"samples is {self.samples}, but at temperature 0 all would be equal; set a temperature"
            )
        if (self.engine == "openai") != (self.server is not None):
            raise ValueError("engine openai and a server go together")
        if self.few_shot_format != "native" and self.few_shot == 0:
            raise ValueError(f"few_shot_format {self.few_shot_format} needs few_shot examples")
        return self

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [benchmark.name for benchmark in self.benchmarks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"benchmark '{twice[0]}' is named twice; results are kept by name")
        return self


class OutputConfig(_Section):
    """Where results go. --results and MATHREASON_RESULTS come first."""

    results: str = Field("results", description="Folder of run directories.")


class SweepVariant(_Section):
    """One variant of a sweep: the job, with a few values changed."""

    name: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        None, description="What it is called in tables; what it sets when absent."
    )
    set: dict[str, Any] = Field({}, description="Values it changes, by dotted key, as for --set.")


class SweepConfig(_Section):
    """Runs that differ from the job, and from each other, in a few values: `mathreason sweep`."""

    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] | None = Field(
        None, description="Values by dotted key; every combination is a variant."
    )
    runs: Annotated[list[SweepVariant], Field(min_length=1)] | None = Field(
        None, description="Or the variants one by one."
    )
    seeds: Annotated[list[int], Field(min_length=1)] | None = Field(
        None, description="Seeds each variant is trained with; the job's own when absent."
    )
    seed_keys: Annotated[list[Literal["training.seed", "data.seed"]], Field(min_length=1)] = Field(
        ["training.seed"], description="What a seed sets; data.seed also draws other training problems."
    )
    reference: str | None = Field(
        None, description="Name of the variant the others are compared with; the first when absent."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.grid is not None and self.runs is not None:
            raise ValueError("give a grid or a list of runs, not both")
        if self.grid is None and self.runs is None and self.seeds is None:
            raise ValueError("give a grid, a list of runs, or seeds")
        if self.seeds is not None and len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed is given twice")
        return self


class JobConfig(_Section):
    """A whole job: model, data, training, evaluation."""

    name: str = Field(description="Name of the job; the run id is this name and a hash.")
    model: ModelConfig
    data: DataConfig
    prompt: PromptConfig = PromptConfig()  # type: ignore[call-arg]
    lora: LoraConfig = LoraConfig()  # type: ignore[call-arg]
    training: TrainingConfig = TrainingConfig()  # type: ignore[call-arg]
    evaluation: EvaluationConfig = EvaluationConfig()  # type: ignore[call-arg]
    output: OutputConfig = OutputConfig()  # type: ignore[call-arg]
    sweep: SweepConfig | None = Field(None, description="Variants of this job, for `mathreason sweep`.")

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError(
                "use letters, digits, '.', '_' and '-', at most 64, starting with a letter or digit"
            )
        return value

    @field_validator("training")
    @classmethod
    def _possible(cls, value: TrainingConfig, others: ValidationInfo) -> TrainingConfig:
        model, data = others.data.get("model"), others.data.get("data")
        if value.select_by == "accuracy" and data is not None and data.validation_fraction == 0:
            raise ValueError(
                "select_by accuracy needs held-out problems, but data.validation_fraction is 0; "
                "set it above 0, or select_by: loss"
            )
        if value.approach == "full" and model is not None and model.quantization != "none":
            raise ValueError(
                "approach full trains the weights themselves, but nf4 keeps them rounded to 4 bits, which "
                "take no gradient; set model.quantization: none, or approach: lora, which trains on nf4"
            )
        return value

    def identity(self) -> dict[str, Any]:
        """What makes two runs the same run: all that shapes the adapter.

        How it is evaluated is left out, so that one adapter can be evaluated in several ways; the
        benchmarks stay in, because the training data was audited against them.
        """
        values = self.model_dump(mode="json", exclude={"output", "evaluation", "sweep"})
        for key in PLACEMENT_KEYS:
            del values["model"][key]
        for section, key in LATER_KEYS:
            if values[section][key] == type(getattr(self, section)).model_fields[key].default:
                del values[section][key]
        benchmarks = [b.model_dump(mode="json") for b in self.evaluation.benchmarks]
        if self.training.select_by == "accuracy":  # these decide which checkpoint solves most
            chosen_with = self.evaluation.model_dump(mode="json", include={"max_new_tokens", "stop"})
            values["selected_with"] = chosen_with
        return {**values, "audited_against": benchmarks}
