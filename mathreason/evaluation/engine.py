"""What every engine is: prompts in, responses out, in any order.

    engine: Engine = ...
    for id, response in engine.generate(requests, done={0, 1}):     # not in the order of the requests
        ...

An engine knows prompts and token ids and nothing about benchmarks or answers. It is given all the requests
of an evaluation, with the ids of those that are already answered: what it works out from the whole (the
prefix all prompts share, the size of a batch) is then the same however often it is stopped and started.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Request:
    """One response that is wanted, with a seed for sampling.

    The prompt is there rendered, as token ids, and as the chat messages (role and content) that a server
    with a template of its own renders.
    """

    id: int
    prompt: str
    prompt_ids: Sequence[int]
    seed: int
    messages: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen and when a response ends. Temperature 0 is greedy; then no seed matters."""

    max_new_tokens: int
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "stop": list(self.stop)}


@dataclass(frozen=True)
class Response:
    """Text after the prompt, without EOS or stop text; `tokens` counts what was generated, with them."""

    text: str
    tokens: int
    finish_reason: FinishReason


class Engine(Protocol):
    """A source of responses.

    `facts` says what answers (for the result's "model"); its "fallbacks" lists what was asked for and
    replaced, and may grow while the engine works.
    """

    facts: dict[str, Any]

    def generate(
        self, requests: Sequence[Request], done: Collection[int] = ()
    ) -> Iterator[tuple[int, Response]]:
        """(id, response) of every request whose id is not in `done`, each as soon as it is there."""
        ...


def cut_at_stop(text: str, stop: Sequence[str]) -> str | None:
    """`text` before the first stop text in it; None when it holds none."""
    places = [place for word in stop if (place := text.find(word)) >= 0]
    return text[: min(places)] if places else None
