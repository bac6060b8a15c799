"""What is sent to an OpenAI-compatible server and what is read from its replies; no network.

    body = request_body(request, Sampling(512, stop=("Question:",)), Manner("completions", "mistral"))
    answer = read_answer(reply.body, ("Question:",), "mistral")

    {"model": "mistral", "prompt": "Question: …", "max_tokens": 512, "temperature": 0.0, …}
    {"choices": [{"text": " 2 + 3 = 5\n#### 5", "finish_reason": "stop"}], "usage": {…}}

Servers fill in what a request leaves out, some from the model's own generation_config.json (vLLM: top_k,
repetition_penalty), some with their own taste (llama.cpp: top_k 40, min_p 0.05). So a body also says that
there are no penalties and no further cuts, in `NEUTRAL` for servers that take more than OpenAI's fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mathreason.evaluation.engine import FinishReason, Request, Response, Sampling, cut_at_stop
from mathreason.evaluation.openai_client import Unusable

Endpoint = Literal["completions", "chat"]
PATHS: Mapping[Endpoint, str] = {"completions": "completions", "chat": "chat/completions"}
NEUTRAL = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "repeat_penalty": 1.0}
"""Sampling fields beyond OpenAI's, off; repeat_penalty is what llama.cpp calls repetition_penalty."""
SEEDS = 2**31
"""Seeds are sent modulo this: some servers take no larger ones."""
FINISHED: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
}
ABORTED = frozenset({"abort", "error"})
"""Reasons of a server that was shut down or failed on the way: such a response is asked for again."""


@dataclass(frozen=True)
class Manner:
    """How one server is asked for one model; `neutral` and `ids` say what it takes."""

    endpoint: Endpoint
    model: str
    neutral: bool = True
    ids: bool = False


@dataclass(frozen=True)
class Answer:
    """A response, how many tokens the server read as its prompt, and what was odd about it."""

    response: Response
    prompt_tokens: int | None
    notes: tuple[str, ...]


def request_body(request: Request, sampling: Sampling, manner: Manner) -> dict[str, Any]:
    """The JSON of one request. A seed is sent only when tokens are sampled."""
    body: dict[str, Any] = {
        "model": manner.model,
        **_prompt(request, manner),
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.temperature > 0:
        body["seed"] = request.seed % SEEDS
    return {**body, **NEUTRAL} if manner.neutral else body


def probe_body(manner: Manner) -> dict[str, Any]:
    """The smallest request there is, to see whether a server answers to a name."""
    content = "1 + 1 ="
    probe = Request(0, content, [], 0, [{"role": "user", "content": content}])
    return {"model": manner.model, **_prompt(probe, manner), "max_tokens": 1, "temperature": 0.0}


def _prompt(request: Request, manner: Manner) -> dict[str, Any]:
    if manner.endpoint == "chat":
        return {"messages": [dict(message) for message in request.messages]}
    return {"prompt": list(request.prompt_ids) if manner.ids else request.prompt}


def read_answer(body: Mapping[str, Any], stop: Sequence[str], model: str) -> Answer:
    """The first choice of a reply; Unusable when there is none or the server broke it off.

    Servers that ignore `stop`, or leave the stop text in, are no different from others: the text is cut here.
    """
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Unusable("a reply without choices")
    text = _text(choices[0])
    reason = choices[0].get("finish_reason")
    if reason in ABORTED:
        raise Unusable(f"a response that the server broke off with '{reason}'")
    notes = []
    finish = FINISHED.get(str(reason))
    if finish is None:
        finish = "length"
        notes.append(f"finish_reason {reason}: counted as truncated")
    tokens = _count(body, "completion_tokens")
    if tokens is None:
        notes.append("tokens: the server gives no usage, so they are counted as 0")
    answered_by = str(body.get("model", model))
    if not answered_by.startswith(model):
        notes.append(f"model: '{model}' was asked and '{answered_by}' answered")
    cut = cut_at_stop(text, stop)
    if cut is not None:
        text, finish = cut, "stop"
    return Answer(Response(text, tokens or 0, finish), _count(body, "prompt_tokens"), tuple(notes))


def _text(choice: Mapping[str, Any]) -> str:
    """The text of a choice; a chat message without any (a refusal, reasoning alone) is an empty one."""
    message = choice.get("message")
    text = (message.get("content") or "") if isinstance(message, dict) else choice.get("text")
    if not isinstance(text, str):
        raise Unusable("a choice without text")
    return text


def _count(body: Mapping[str, Any], field: str) -> int | None:
    usage = body.get("usage")
    value = usage.get(field) if isinstance(usage, dict) else None
    return value if isinstance(value, int) else None
