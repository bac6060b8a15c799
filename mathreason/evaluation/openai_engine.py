"""The engine that asks an OpenAI-compatible server: vLLM, SGLang, llama.cpp, transformers serve, OpenAI.

    engine = OpenAIEngine(
        url="http://127.0.0.1:8000/v1", endpoint="completions", model="mistral", tuned_model="mistral-math",
        variant="tuned", sampling=Sampling(512, stop=("Question:",)), concurrency=16,
        api_key_env="OPENAI_API_KEY", timeout=600.0, retry_seconds=600.0, reporter=reporter,
    )
    for id, response in engine.generate(requests):
        ...

How a prompt reaches the model. Endpoint `completions` sends the rendered prompt as text; the server
tokenizes it and puts its BOS token before it. Where it then counts other tokens than there are here (a chat
template that wrote a BOS token itself would get a second one), the token ids are sent instead; a server that
takes no ids keeps the text, and that is said. Endpoint `chat` sends `Request.messages`, which the server
renders with the template it has.

Every sample is a request of its own with its own seed. What a server replaces or ignores is in
`facts["fallbacks"]`, with the number of responses it touched.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from mathreason.errors import InputError
from mathreason.evaluation.engine import Request, Response, Sampling
from mathreason.evaluation.openai_client import Refusal, Reply, ServerClient, Unusable
from mathreason.evaluation.openai_messages import (
    NEUTRAL,
    PATHS,
    Answer,
    Endpoint,
    Manner,
    probe_body,
    read_answer,
    request_body,
)
from mathreason.progress import Reporter

NO_LIST = frozenset({404, 405, 500})
"""Answers of servers that cannot list their models (transformers serve without a cache: 500)."""
NO_SUCH_FIELD = frozenset({400, 422})
NO_KEY = frozenset({401, 403})
LISTED_FIELDS = ("id", "owned_by", "root", "parent", "max_model_len")
NO_MODEL = "mathreason-asks-for-a-model-that-does-not-exist"


def served_name(model: str, tuned_model: str | None, variant: str) -> str:
    """The name under which the server holds `variant`; InputError when base and tuned are one."""
    if variant == "base":
        return model
    if tuned_model is None:
        raise InputError(
            "evaluation.server.tuned_model is missing: the name under which the server holds the adapter "
            "(vLLM: --lora-modules NAME=FOLDER)"
        )
    if tuned_model == model:
        raise InputError(
            f"evaluation.server.tuned_model and the base model are both '{model}': the tuned model would be "
            "given the base model's responses; serve the adapter under a name of its own"
        )
    return tuned_model


def identity(model: str, tuned_model: str | None, variant: str, endpoint: str) -> dict[str, str]:
    """What of the server decides a response, for an evaluation's key; where it runs is no part of it."""
    return {"served_model": served_name(model, tuned_model, variant), "endpoint": endpoint}


class OpenAIEngine:
    """Responses of one variant, base or tuned, from a server.

    `model` and `tuned_model` are the served names of both; `timeout` is what one request may take and
    `retry_seconds` how long the server may give no answer, in seconds. The constructor waits for the server
    and checks that the model is served. Raises InputError for what no retry would change (key, model name,
    fields, a prompt too long), MathreasonError when the server stays away.
    """

    def __init__(
        self,
        *,
        url: str,
        endpoint: Endpoint,
        model: str,
        tuned_model: str | None,
        variant: str,
        sampling: Sampling,
        concurrency: int,
        api_key_env: str,
        timeout: float,
        retry_seconds: float,
        reporter: Reporter,
    ) -> None:
        self.identity = identity(model, tuned_model, variant, endpoint)
        self._manner = Manner(endpoint, served_name(model, tuned_model, variant))
        self._settled = False
        self._sampling = sampling
        self._concurrency = concurrency
        self._key_variable = api_key_env
        self._reporter = reporter
        self._client = ServerClient(url, api_key_env, concurrency, timeout, retry_seconds, reporter)
        self._fixed: list[str] = []
        self._counted: Counter[str] = Counter()
        self.facts: dict[str, Any] = {"name": self._manner.model, "endpoint": endpoint, "fallbacks": []}
        self._models = self._listed_models()
        if self._manner.model in self._models:
            self._check_listed(model if variant == "tuned" else None)
        else:
            self._check_unlisted()

    def generate(
        self, requests: Sequence[Request], done: Collection[int] = ()
    ) -> Iterator[tuple[int, Response]]:
        """Responses to the requests that are not in `done`, up to `concurrency` of them asked for at once."""
        waiting = deque(request for request in requests if request.id not in done)
        total = len(waiting)
        if not total:
            return
        if not self._settled:
            # The first of all requests, not of those that wait: what is settled is then the same every time.
            self._settle(requests[0])
        answers: queue.SimpleQueue[tuple[Request, Answer] | Exception] = queue.SimpleQueue()
        stop = threading.Event()
        for number in range(min(self._concurrency, total)):
            work = (waiting, answers, stop)
            threading.Thread(target=self._work, args=work, name=f"request {number}", daemon=True).start()
        try:
            for _ in range(total):
                answer = answers.get()
                if isinstance(answer, Exception):
                    raise answer
                self._take_notes(*answer)
                yield answer[0].id, answer[1].response
        finally:
            stop.set()

    def _work(
        self,
        waiting: deque[Request],
        answers: queue.SimpleQueue[tuple[Request, Answer] | Exception],
        stop: threading.Event,
    ) -> None:
        """What each thread does: one request after the other; what goes wrong is raised by `generate`."""
        while not stop.is_set():
            try:
                request = waiting.popleft()
            except IndexError:
                return
            try:
                answers.put((request, self._ask(request, stop)))
            except Exception as error:
                answers.put(error)
                return

    def _ask(self, request: Request, stop: threading.Event) -> Answer:
        body = request_body(request, self._sampling, self._manner)
        try:
            return self._client.request("POST", self._path, body, read=self._read, stop=stop)
        except Refusal as refusal:
            raise self._explained(refusal, request) from refusal

    def _read(self, reply: Reply) -> Answer:
        return read_answer(reply.body, self._sampling.stop, self._manner.model)

    @property
    def _path(self) -> str:
        return PATHS[self._manner.endpoint]

    # -- is the model there ------------------------------------------------------------------------

    def _listed_models(self) -> dict[str, dict[str, Any]]:
        """What `/models` lists, by name; empty when the server has no list."""

        def read(reply: Reply) -> dict[str, dict[str, Any]]:
            self.facts["server"] = reply.headers.get("server")
            entries = reply.body.get("data")
            if not isinstance(entries, list):
                raise Unusable("a list of models without 'data'")
            return {str(entry.get("id")): entry for entry in entries if isinstance(entry, dict)}

        try:
            return self._client.request("GET", "models", None, read=read, final=NO_LIST)
        except Refusal as refusal:
            if refusal.status in NO_LIST:
                return {}
            raise self._explained(refusal) from refusal

    def _check_listed(self, base: str | None) -> None:
        """vLLM lists the weights behind a name as `root`: two names may be one model."""
        entry = self._models[self._manner.model]
        self.facts["served"] = {name: entry[name] for name in LISTED_FIELDS if entry.get(name) is not None}
        root = entry.get("root")
        if root is not None and base is not None and self._models.get(base, {}).get("root") == root:
            raise InputError(
                f"the server holds '{self._manner.model}' and '{base}' from the same weights ({root}): the "
                "tuned model would be given the base model's responses; serve the adapter (vLLM: "
                "--enable-lora --lora-modules NAME=FOLDER)"
            )

    def _check_unlisted(self) -> None:
        """A name that is not in the list will do only where wrong names are refused."""
        name = self._manner.model
        if self._answers_to(NO_MODEL):
            raise InputError(
                f"the server does not list the model '{name}' and answers to any name, so nobody knows which "
                f"model would answer; use a listed name: {self._names()}"
            )
        try:
            self._client.request("POST", self._path, probe_body(self._manner), read=self._read)
        except Refusal as refusal:
            raise self._explained(refusal) from refusal
        self._say(f"server: its list of models does not name '{name}', but it answers to that name")

    def _answers_to(self, name: str) -> bool:
        body = probe_body(replace(self._manner, model=name))
        try:
            self._client.request("POST", self._path, body, read=lambda reply: reply, final=range(400, 600))
        except Refusal as refusal:
            if refusal.status in NO_KEY:
                raise self._explained(refusal) from refusal
            return False
        return True

    # -- what it takes -----------------------------------------------------------------------------

    def _settle(self, request: Request) -> None:
        """Find out with one token each what the server takes, and say what it does not."""
        try:
            answer = self._first_token(request)
        except Refusal as refusal:
            if refusal.status not in NO_SUCH_FIELD:
                raise self._explained(refusal, request) from refusal
            self._manner = replace(self._manner, neutral=False)
            answer = self._first_plain_token(request)
            self._say(
                f"sampling: the server takes no {', '.join(NEUTRAL)}, so its own defaults hold "
                f"(it says: {refusal.message})"
            )
        self.facts["prompts"] = "messages" if self._manner.endpoint == "chat" else "text"
        if not self._read_as_meant(request, answer):
            self._try_ids(request, answer.prompt_tokens)
        self._settled = True

    def _first_token(self, request: Request) -> Answer:
        body = request_body(request, replace(self._sampling, max_new_tokens=1), self._manner)
        return self._client.request("POST", self._path, body, read=self._read)

    def _first_plain_token(self, request: Request) -> Answer:
        try:
            return self._first_token(request)
        except Refusal as refusal:
            raise self._explained(refusal, request) from refusal

    def _read_as_meant(self, request: Request, answer: Answer) -> bool:
        """Whether the server counts the tokens of the prompt as they are here, as far as can be known."""
        return self._manner.endpoint == "chat" or answer.prompt_tokens in (None, len(request.prompt_ids))

    def _try_ids(self, request: Request, counted: int | None) -> None:
        """Token ids instead of a text that the server reads as other tokens, where it takes them."""
        text_manner = self._manner
        self._manner = replace(text_manner, ids=True)
        try:
            answer = self._first_token(request)
            if self._read_as_meant(request, answer):
                self.facts["prompts"] = "token ids"
                return
            why = f"given token ids it counts {answer.prompt_tokens}"
        except Refusal as refusal:
            why = f"it takes no token ids: {refusal.message}"
        self._manner = text_manner
        self._say(
            f"prompt: the server reads one as {counted} tokens that has {len(request.prompt_ids)} here "
            f"({why}); the model sees other prompts than with engine transformers"
        )

    # -- what is said ------------------------------------------------------------------------------

    def _take_notes(self, request: Request, answer: Answer) -> None:
        notes = list(answer.notes)
        if not self._read_as_meant(request, answer):
            notes.append("prompt: the server counts other tokens than there are here")
        for note in notes:
            if not self._counted[note]:
                self._reporter.warn(f"{note} (request {request.id})")
            self._counted[note] += 1
        if notes:
            counts = [f"{note} ({count} responses)" for note, count in sorted(self._counted.items())]
            self.facts["fallbacks"][:] = [*self._fixed, *counts]

    def _say(self, fallback: str) -> None:
        self._reporter.warn(fallback)
        self._fixed.append(fallback)
        self.facts["fallbacks"].append(fallback)

    def _names(self) -> str:
        return ", ".join(sorted(self._models)) or "none (the server gives no list)"

    def _explained(self, refusal: Refusal, request: Request | None = None) -> InputError:
        """A refusal as one sentence with what to do about it."""
        text = refusal.message.lower()
        if refusal.status in NO_KEY:
            hint = f"the API key is read from the environment variable {self._key_variable}"
        elif any(word in text for word in ("context", "too long", "maximum", "exceed")):
            hint = "serve a longer context, or lower evaluation.max_new_tokens or evaluation.few_shot"
        else:
            hint = f"asked for model '{self._manner.model}'; the server lists: {self._names()}"
        which = f" to request {request.id} ({len(request.prompt_ids)} prompt tokens)" if request else ""
        return InputError(f"{refusal.url} answers {refusal.status}{which}: {refusal.message} ({hint})")
