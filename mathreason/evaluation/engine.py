"""Engines turn prompts into responses. The one here generates greedily with transformers.

    engine = TransformersEngine(loaded, max_new_tokens=512, stop=["Question:"])
    responses = engine.generate([[1, 733, 16289], [1, 22478]])     # one Response for each prompt, in order

An engine knows token ids and nothing about benchmarks or answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

    from mathreason.models import LoadedModel

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Response:
    """Text after the prompt, without EOS or stop text; `tokens` counts what was generated, with them."""

    text: str
    tokens: int
    finish_reason: FinishReason


class TransformersEngine:
    """Greedy generation of left-padded batches."""

    def __init__(self, loaded: LoadedModel, max_new_tokens: int, stop: Sequence[str]) -> None:
        self._model: Any = loaded.model
        self._tokenizer: Any = loaded.tokenizer
        self._max_new_tokens = max_new_tokens
        self._stop = list(stop)
        self._model.eval()
        eos = self._model.generation_config.eos_token_id
        listed = eos if isinstance(eos, list) else [eos]
        self._eos = {int(i) for i in (*listed, self._tokenizer.eos_token_id) if i is not None}

    def generate(self, prompts: Sequence[Sequence[int]]) -> list[Response]:
        """One response for each prompt (token ids), generated together."""
        import torch
        from transformers import GenerationConfig, StoppingCriteriaList

        longest = max(len(prompt) for prompt in prompts)
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        config = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=self._max_new_tokens,
            eos_token_id=sorted(self._eos),
            pad_token_id=pad,
        )
        watch = _StopTexts(self._tokenizer, self._stop, longest)
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                generation_config=config,
                stopping_criteria=StoppingCriteriaList([watch]),
            )
        return [self._response(row) for row in output[:, longest:].tolist()]

    def _response(self, generated: list[int]) -> Response:
        """Cut one row at its first EOS or stop text; neither within the limit means it was truncated."""
        end = next((i for i, token in enumerate(generated) if token in self._eos), None)
        text = self._decode(generated if end is None else generated[:end])
        cuts = [position for stop in self._stop if (position := text.find(stop)) >= 0]
        if cuts:
            # How many tokens the text up to and with the stop text took; later ones are padding of the batch.
            tokens = self._tokens_until_stop(generated if end is None else generated[:end])
            return Response(text[: min(cuts)], tokens, "stop")
        if end is not None:
            return Response(text, end + 1, "stop")
        return Response(text, len(generated), "length")

    def _tokens_until_stop(self, generated: list[int]) -> int:
        low, high = 1, len(generated)
        while low < high:
            middle = (low + high) // 2
            text = self._decode(generated[:middle])
            if any(stop in text for stop in self._stop):
                high = middle
            else:
                low = middle + 1
        return low

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


class _StopTexts:
    """Stopping criterion: ends a row once a stop text is in what it generated."""

    def __init__(self, tokenizer: Any, stop: list[str], prompt_length: int) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._start = prompt_length
        # A token carries at least one byte of text, so a stop text just completed is within these tokens.
        self._window = max((len(text.encode()) for text in stop), default=0) + 1
        self._done: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        import torch

        del scores
        if self._done is None:
            self._done = torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)
        if self._stop:
            tail = input_ids[:, max(self._start, input_ids.shape[1] - self._window) :]
            texts = self._tokenizer.batch_decode(tail, skip_special_tokens=True)
            hit = [any(stop in text for stop in self._stop) for text in texts]
            self._done |= torch.tensor(hit, device=input_ids.device)
        return self._done
