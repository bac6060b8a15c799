"""The engine on vLLM in this process: continuous batching on a GPU, prompts as token ids.

    engine = VllmEngine(
        model="mistralai/Mistral-7B-v0.1", revision=None, dtype="bfloat16", quantization="none",
        adapter=run.adapter, seed=0, sampling=Sampling(512, stop=("Question:",)), reporter=reporter,
    )
    base = dict(engine.generate(requests))
    engine.adapted = True
    tuned = dict(engine.generate(requests))

The model is loaded once; the adapter goes with each request while `adapted` is true. vLLM shares the keys
and values of a common prompt prefix by itself. It has no 4-bit NormalFloat: a job with nf4 is evaluated with
the weights in `dtype`, which is said. Needs the optional package: `pip install mathreason[vllm]`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mathreason.errors import InputError, MathreasonError
from mathreason.evaluation.engine import FinishReason, Request, Response, Sampling
from mathreason.progress import Reporter

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Largest ranks that vLLM can be told to make room for."""
FINISHED: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}


class VllmEngine:
    """Responses of a model that vLLM holds, with the adapter on or off.

    `model` is a Hub name or a folder, `dtype` float16, bfloat16 or float32, `adapter` a folder in PEFT's
    format or None, `seed` that of the engine (each request has its own). Raises InputError when vLLM is not
    installed or the adapter's rank is beyond it, MathreasonError when vLLM cannot load the model.
    """

    def __init__(
        self,
        *,
        model: str,
        revision: str | None,
        dtype: str,
        quantization: str,
        adapter: Path | None,
        seed: int,
        sampling: Sampling,
        reporter: Reporter,
    ) -> None:
        require_vllm()
        from vllm import EngineArgs, LLMEngine

        self.adapted = False
        self._adapter = adapter
        self._sampling = sampling
        fallbacks = []
        if quantization != "none":
            fallbacks.append(f"quantization: vLLM has no {quantization}; using the weights in {dtype}")
            reporter.warn(fallbacks[0])
        options = engine_options(model, revision, dtype, seed, adapter)
        try:
            self._engine: Any = LLMEngine.from_engine_args(EngineArgs(**options))
        except (OSError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:400]
            raise MathreasonError(
                f"vLLM cannot load the model {model}: {reason} (its wheels need a CUDA GPU)"
            ) from error
        self.facts: dict[str, Any] = {
            "name": model,
            "revision": revision,
            "dtype": dtype,
            "quantization": "none",
            "vllm": importlib.metadata.version("vllm"),
            "fallbacks": fallbacks,
        }

    def generate(
        self, requests: Sequence[Request], done: Collection[int] = ()
    ) -> Iterator[tuple[int, Response]]:
        """Responses to the requests that are not in `done`, each as soon as it is finished."""
        from vllm import TokensPrompt

        waiting = [request for request in requests if request.id not in done]
        lora = self._lora_request()
        for request in waiting:
            self._engine.add_request(
                str(request.id),
                TokensPrompt(prompt_token_ids=list(request.prompt_ids)),
                self._sampling_params(request),
                lora_request=lora,
            )
        unfinished = {str(request.id) for request in waiting}
        try:
            while unfinished:
                for output in self._engine.step():
                    if output.finished:
                        unfinished.discard(output.request_id)
                        yield int(output.request_id), _response(output)
        finally:
            if unfinished:
                self._engine.abort_request(sorted(unfinished))

    def _lora_request(self) -> Any:
        if not self.adapted:
            return None
        if self._adapter is None:
            raise MathreasonError("the vLLM engine was made without an adapter, so it cannot put one on")
        from vllm.lora.request import LoRARequest

        return LoRARequest("adapter", 1, str(self._adapter))

    def _sampling_params(self, request: Request) -> SamplingParams:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = self._sampling
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=request.seed if sampling.temperature > 0 else None,
            max_tokens=sampling.max_new_tokens,
            stop=list(sampling.stop),
            skip_special_tokens=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


def require_vllm() -> None:
    """InputError when vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise InputError(
            "evaluation.engine is vllm, which is not installed: pip install mathreason[vllm], or use "
            "engine: transformers, or engine: openai with a vLLM server"
        )


def engine_options(
    model: str, revision: str | None, dtype: str, seed: int, adapter: Path | None
) -> dict[str, Any]:
    """Arguments of vLLM's EngineArgs.

    Raises InputError when `adapter` holds no adapter, or one of a rank that vLLM has no room for.
    """
    options: dict[str, Any] = {
        "model": model,
        "revision": revision,
        "tokenizer_revision": revision,
        "dtype": dtype,
        "seed": seed,
        "load_format": "safetensors",
        "trust_remote_code": False,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
    }
    if adapter is not None:
        options.update(enable_lora=True, max_loras=1, max_lora_rank=_room_for(_rank(adapter)))
    return options


def _rank(adapter: Path) -> int:
    path = adapter / "adapter_config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return int(max([values["r"], *values.get("rank_pattern", {}).values()]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} says no LoRA rank; train the run first ({error})") from error


def _room_for(rank: int) -> int:
    for room in LORA_RANKS:
        if rank <= room:
            return room
    raise InputError(
        f"lora.r is {rank}, but vLLM takes adapters up to {LORA_RANKS[-1]}; use engine transformers"
    )


def _response(output: RequestOutput) -> Response:
    [completion] = output.outputs
    finish = FINISHED.get(str(completion.finish_reason))
    if finish is None:
        raise MathreasonError(
            f"vLLM ended request {output.request_id} with '{completion.finish_reason}'; "
            "run the same command again"
        )
    return Response(completion.text, len(completion.token_ids), finish)
