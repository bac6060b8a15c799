"""The engine on transformers: the shared prefix read once, and a batch that refills as responses end.

    engine = TransformersEngine(loaded, Sampling(512, stop=("Question:",)), batch_size=16, reporter=reporter)
    for id, response in engine.generate(requests):
        ...

    slot 0   ▓▓▓▓▓▓▓▓▓▓ EOS ░░░░░░░░░░░░ Question:      ▓ one response, ░ the next one in the same slot
    slot 1   ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓ EOS ░░░░

A model that `slots` cannot serve exactly (a sliding window shorter than the responses, positions that depend
on the length, attention of its own) is proven so by a probe, and transformers' own `generate` takes over
with left-padded batches; that is said and kept in the result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from mathreason.errors import InputError, MathreasonError
from mathreason.evaluation.endings import Endings
from mathreason.evaluation.engine import Request, Response, Sampling
from mathreason.evaluation.slots import Prefix, Slots, bytes_per_token, compute_prefix, slot_attention
from mathreason.memory import available_bytes, is_out_of_memory
from mathreason.models import LoadedModel, attention_window
from mathreason.progress import Reporter

MAX_BATCH = {"cpu": 32, "cuda": 256}
"""Responses generated together when memory allows more; beyond these the time for each one grows as fast."""
MEMORY_SHARE = 0.6
"""Part of the free memory that slots may take."""
PROMPTS_READ_TOGETHER = {"cpu": 1, "cuda": 8}
READ_TOGETHER_WHEN_WEIGHTS_COST = 8
"""On a CPU too, where a pass reads weights from disk or unpacks them from 4 bits, whatever it computes."""
PROBE_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}
"""Largest difference of probe logits relative to the largest logit: above rounding, below a wrong mask."""
SHORTEST_PREFIX = 8
PADDED_BATCH = 8
"""Left-padded prompts together, where nothing else is asked for."""

Numbered = tuple[int, Response]


@dataclass
class _Growing:
    """A response under way."""

    request: Request
    tokens: list[int] = field(default_factory=list)
    generator: torch.Generator | None = None


class TransformersEngine:
    """Responses of a loaded model, with its adapter on or off as it is at each call of `generate`."""

    def __init__(
        self, loaded: LoadedModel, sampling: Sampling, batch_size: int | str, reporter: Reporter
    ) -> None:
        self.facts: dict[str, Any] = loaded.facts
        self._model: Any = loaded.model
        self._tokenizer: Any = loaded.tokenizer
        self._sampling = sampling
        self._wanted = None if batch_size == "auto" else int(batch_size)
        self._reporter = reporter
        self._model.eval()
        self._kind: str = self._model.device.type
        costly = "placed" in loaded.facts or loaded.facts["quantization"] != "none"
        alone = PROMPTS_READ_TOGETHER.get(self._kind, 1)
        self._read_together = max(alone, READ_TOGETHER_WHEN_WEIGHTS_COST) if costly else alone
        self._endings = Endings(self._tokenizer, self._model.generation_config.eos_token_id, sampling)

    def generate(self, requests: Sequence[Request], done: Collection[int] = ()) -> Iterator[Numbered]:
        """Responses to the requests that are not in `done`, the longest prompts first."""
        waiting = deque(
            request
            for request in sorted(requests, key=lambda request: (-len(request.prompt_ids), request.id))
            if request.id not in done
        )
        if not waiting:
            return
        prefix_length = shared_prefix_length([request.prompt_ids for request in requests])
        longest = max(len(request.prompt_ids) for request in requests)
        self._check_positions(longest + self._sampling.max_new_tokens)
        reason = self._why_not_slots(longest + self._sampling.max_new_tokens)
        if reason:
            self._fall_back(f"generation: {reason}; using left-padded batches of transformers' generate")
            yield from self._in_batches(waiting)
            return
        with torch.inference_mode(), slot_attention(self._model):
            prefix = compute_prefix(self._model, requests[0].prompt_ids[:prefix_length])
        capacity = longest - prefix_length + self._sampling.max_new_tokens
        rows = min(self._rows(prefix, capacity), len(requests))
        self.facts |= {"batch_size": rows, "shared_prefix_tokens": prefix_length}
        while waiting:
            rows = yield from self._fill_and_step(waiting, prefix, rows, capacity)

    # -- the batch that refills --------------------------------------------------------------------

    def _fill_and_step(
        self, waiting: deque[Request], prefix: Prefix, rows: int, capacity: int
    ) -> Generator[Numbered, None, int]:
        """Work `waiting` off with `rows` slots; returns a smaller number when memory ran out on the way."""
        growing: dict[int, _Growing] = {}
        finished: list[Numbered] = []
        try:
            slots = Slots(self._model, prefix, rows, capacity)
            while waiting or growing:
                self._advance(slots, growing, waiting, finished)
                yield from finished
                finished.clear()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            waiting.extendleft(row.request for row in reversed(growing.values()))
            rows = self._fewer_rows(rows, error)
        yield from finished
        return rows

    def _advance(
        self,
        slots: Slots,
        growing: dict[int, _Growing],
        waiting: deque[Request],
        finished: list[Numbered],
    ) -> None:
        """Fill the idle slots and take one step; what ended on the way is added to `finished`."""
        with torch.inference_mode(), slot_attention(self._model):
            while waiting and (idle := [row for row in range(slots.rows) if row not in growing]):
                chosen = idle[: min(len(waiting), self._read_together)]
                for row in chosen:
                    growing[row] = self._begin(waiting.popleft())
                prompts = [growing[row].request.prompt_ids[slots.shared :] for row in chosen]
                self._take(slots, growing, chosen, slots.fill(chosen, prompts), finished)
            if growing:
                newest = torch.zeros(slots.rows, dtype=torch.long)
                for row, response in growing.items():
                    newest[row] = response.tokens[-1]
                active = list(growing)
                self._take(slots, growing, active, slots.step(newest)[active], finished)

    def _begin(self, request: Request) -> _Growing:
        if not self._sampling.temperature:
            return _Growing(request)
        return _Growing(request, generator=torch.Generator().manual_seed(request.seed))

    def _take(
        self,
        slots: Slots,
        growing: dict[int, _Growing],
        rows: Sequence[int],
        logits: torch.Tensor,
        finished: list[Numbered],
    ) -> None:
        """Give each of `rows` its next token by its line of `logits`; rows whose response ended are freed."""
        tokens = self._choose([growing[row].generator for row in rows], logits)
        for row, token in zip(rows, tokens, strict=True):
            growing[row].tokens.append(token)
            response = self._endings.response(growing[row].tokens)
            if response is not None:
                finished.append((growing.pop(row).request.id, response))
                slots.free(row)

    def _choose(self, generators: Sequence[torch.Generator | None], logits: torch.Tensor) -> list[int]:
        best = logits.float().max(dim=-1)
        _require_numbers(best.values, logits.dtype)
        if not self._sampling.temperature:
            greedy: list[int] = best.indices.tolist()
            return greedy
        return [
            sample(row, self._sampling, generator)
            for row, generator in zip(logits.float().cpu(), generators, strict=True)
            if generator is not None
        ]

    # -- how many at once --------------------------------------------------------------------------

    def _rows(self, prefix: Prefix, capacity: int) -> int:
        if self._wanted is not None:
            return self._wanted
        vocabulary = int(self._model.config.get_text_config().vocab_size)
        each = bytes_per_token(prefix) * capacity + 3 * 4 * vocabulary
        fitting = int(available_bytes(self._model.device) * MEMORY_SHARE) // each
        rows = max(1, min(MAX_BATCH.get(self._kind, 16), fitting))
        self._reporter.note(f"generation: {rows} responses at once, {each / 2**20:.1f} MiB each")
        return rows

    def _fewer_rows(self, rows: int, error: BaseException) -> int:
        if rows == 1:
            raise MathreasonError(
                "memory ran out with a single response at once; lower evaluation.max_new_tokens, use "
                "quantization: nf4 or dtype: bfloat16, or a machine with more memory"
            ) from error
        if self._kind == "cuda":
            torch.cuda.empty_cache()
        self._fall_back(
            f"generation: memory ran out with {rows} responses at once; going on with {rows // 2}"
        )
        return rows // 2

    def _fall_back(self, said: str) -> None:
        if said not in self.facts["fallbacks"]:
            self._reporter.warn(said)
            self.facts["fallbacks"].append(said)

    def _check_positions(self, longest: int) -> None:
        positions = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        if positions is not None and longest > positions:
            self._fall_back(
                f"prompt and response may take {longest} tokens, more than the model's {positions} positions"
            )

    # -- models that slots cannot serve ------------------------------------------------------------

    def _why_not_slots(self, longest: int) -> str | None:
        """Why this model's responses of `longest` tokens would not be exact with slots; None if they are."""
        config = self._model.config.get_text_config()
        window = attention_window(config)
        if window is not None and longest > window:
            return (
                f"prompt and response may take {longest} tokens, more than the attention window of {window}"
            )
        rope = getattr(config, "rope_parameters", None) or {}
        if rope.get("rope_type") in ("dynamic", "longrope"):
            return f"the model's positions ({rope['rope_type']}) depend on the length of the text"
        return self._failed_probe()

    def _failed_probe(self) -> str | None:
        """Whether slots give the logits of a plain forward pass, tried on a few tokens."""
        ids = [*self._tokenizer("Q: Tom has 5 apples and buys 7. A: He has 5 + 7 = 12 apples.")["input_ids"]]
        shared, short = len(ids) // 3, 3
        with torch.inference_mode():
            plain = self._model(
                input_ids=torch.tensor([ids], device=self._model.device), use_cache=False
            ).logits
            try:
                with slot_attention(self._model):
                    slots = Slots(self._model, compute_prefix(self._model, ids[:shared]), 2, len(ids))
                    slots.fill([0, 1], [ids[shared:-1], ids[shared : shared + short]])
                    logits = slots.step(torch.tensor([ids[-1], ids[shared + short]]))
            except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
                return f"the model's attention is its own ({type(error).__name__})"
        expected = plain[0, [len(ids) - 1, shared + short]].float()
        _require_numbers(expected, logits.dtype)
        difference = float((logits.float() - expected).abs().max() / expected.abs().max())
        if not difference <= PROBE_TOLERANCE.get(logits.dtype, 1e-3):
            return f"a probe of the batch differs from a plain forward pass by {difference:.1e}"
        return None

    def _in_batches(self, waiting: deque[Request]) -> Iterator[Numbered]:
        """The requests in left-padded batches, by transformers' `generate`."""
        if self._sampling.temperature:
            raise InputError(
                "sampling needs a model that the batch engine serves; set evaluation.temperature: 0"
            )
        rows = self._wanted or PADDED_BATCH
        self.facts |= {"batch_size": rows, "shared_prefix_tokens": 0}
        while waiting:
            batch = [waiting.popleft() for _ in range(min(rows, len(waiting)))]
            try:
                yield from self._together(batch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                waiting.extendleft(reversed(batch))
                rows = self._fewer_rows(rows, error)

    def _together(self, batch: Sequence[Request]) -> list[Numbered]:
        from transformers import GenerationConfig, StoppingCriteriaList

        longest = max(len(request.prompt_ids) for request in batch)
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (longest - len(r.prompt_ids)) + list(r.prompt_ids) for r in batch])
        mask = torch.tensor([[0] * (longest - len(r.prompt_ids)) + [1] * len(r.prompt_ids) for r in batch])
        config = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=self._sampling.max_new_tokens,
            eos_token_id=sorted(self._endings.eos),
            pad_token_id=pad,
        )
        watch = _Watch(self._endings, longest)
        with torch.inference_mode():
            self._model.generate(
                input_ids=ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                generation_config=config,
                stopping_criteria=StoppingCriteriaList([watch]),
            )
        return [(request.id, watch.ended[row]) for row, request in enumerate(batch)]


class _Watch:
    """Stopping criterion of transformers' `generate` that notes each row's response as it ends."""

    def __init__(self, endings: Endings, prompt_length: int) -> None:
        self._endings = endings
        self._start = prompt_length
        self.ended: dict[int, Response] = {}

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        del scores
        for row, tokens in enumerate(input_ids[:, self._start :].tolist()):
            if row not in self.ended and (response := self._endings.response(tokens)):
                self.ended[row] = response
        return torch.tensor([row in self.ended for row in range(len(input_ids))], device=input_ids.device)


def _require_numbers(logits: torch.Tensor, dtype: torch.dtype) -> None:
    if not torch.isfinite(logits).all():
        raise MathreasonError(
            "the model's logits are not numbers (NaN or infinite); its weights or adapter are damaged, "
            f"or {str(dtype).removeprefix('torch.')} is too narrow for it: set model.dtype"
        )


def shared_prefix_length(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with, leaving each one of its own; 0 when too few to gain by."""
    # In lexicographic order, the first and the last share least.
    first, last = min(map(list, prompts)), max(map(list, prompts))
    shortest = min(len(prompt) for prompt in prompts)
    pairs = enumerate(zip(first, last, strict=False))
    common = next((place for place, (one, other) in pairs if one != other), min(len(first), len(last)))
    common = min(common, shortest - 1)
    return common if common >= SHORTEST_PREFIX else 0


def sample(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """One token from float32 logits (vocabulary,) by temperature and nucleus sampling.

    The nucleus is the smallest set of most likely tokens whose probabilities sum to `top_p` (Holtzman et
    al. 2020, arXiv 1904.09751).
    """
    probabilities = torch.softmax(logits / sampling.temperature, dim=-1)
    if sampling.top_p < 1:
        ordered, places = probabilities.sort(descending=True, stable=True)
        outside = ordered.cumsum(dim=-1) - ordered >= sampling.top_p
        probabilities = probabilities.scatter(0, places[outside], 0.0)
    return int(torch.multinomial(probabilities, 1, generator=generator))
