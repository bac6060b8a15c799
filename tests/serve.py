"""A small OpenAI-compatible server in a process of its own: the embedded model behind `http.server`.

    with Server() as server:                            # starts `python tests/serve.py` and waits for it
        server.behave(faults=[{"status": 500}], key="secret")
        ... requests to server.url ...
        server.requests()                               # the bodies of what was generated, in order

What it can be told over POST /behave, each as servers in the field do it: a list of `faults`, used up one by
one by requests for a response; an API `key`; a `context` length; the `models` it lists, and whether it takes
`any_name`; sampling fields or token ids it does not take (`strict`, `text_only`); a stop text it ignores; a
second BOS token; no `usage`; a `finish_reason` of its own.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Self

START_SECONDS = 120.0
MODEL = "embedded"
USUAL: dict[str, Any] = {
    "faults": [],
    "key": None,
    "context": 512,
    "models": [{"id": MODEL, "object": "model", "owned_by": "tests"}],
    "any_name": False,
    "strict": False,
    "text_only": False,
    "ignores_stop": False,
    "second_bos": False,
    "usage": True,
    "finish_reason": None,
}
STANDARD = {"model", "prompt", "messages", "max_tokens", "temperature", "top_p", "seed", "stop"} | {
    "presence_penalty",
    "frequency_penalty",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """The server as a process; usable as a context manager, and started again after `kill`."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self, wait: bool = True) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self.port)],
            env=environment,
            cwd=Path(__file__).resolve().parent.parent,
        )
        deadline = time.monotonic() + START_SECONDS
        while wait:
            assert self._process.poll() is None, "the server ended at once"
            assert time.monotonic() < deadline, "the server did not start"
            try:
                self._call("GET", "/v1/models")
                return
            except OSError:
                time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL, as an out-of-memory killer does it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def behave(self, **changes: Any) -> None:
        """Behave as usual but for `changes`, and forget the requests so far."""
        self._call("POST", "/behave", changes)

    def requests(self) -> list[dict[str, Any]]:
        """Bodies of the requests that were answered with a response."""
        value: list[dict[str, Any]] = self._call("GET", "/requests")["requests"]
        return value

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode() if body is not None else None
        )
        request.method = method
        with urllib.request.urlopen(request, timeout=START_SECONDS) as response:  # noqa: S310
            return json.load(response)


# -- the server's own process ----------------------------------------------------------------------


class _Model:
    """Generates one response at a time with transformers' own `generate`."""

    def __init__(self) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from mathreason.embedded import model_path

        torch.set_num_threads(1)
        self._lock = threading.Lock()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(str(model_path()))
        self._model: Any = AutoModelForCausalLM.from_pretrained(str(model_path()), dtype=torch.float32)

    def ids(self, prompt: str | list[int], second_bos: bool) -> list[int]:
        if isinstance(prompt, list):
            return prompt
        ids: list[int] = self._tokenizer(prompt)["input_ids"]
        return [ids[0], *ids] if second_bos else ids

    def respond(self, ids: list[int], body: dict[str, Any], ignores_stop: bool) -> tuple[str, int, str]:
        """Text, number of tokens and finish reason."""
        import torch

        sampled = body.get("temperature", 1.0) > 0
        options: dict[str, Any] = {"do_sample": False}
        if sampled:
            options = {"do_sample": True, "temperature": body["temperature"], "top_p": body["top_p"]}
        stop = [] if ignores_stop else body.get("stop", [])
        if stop:
            options.update(stop_strings=stop, tokenizer=self._tokenizer)
        with self._lock, torch.inference_mode():
            torch.manual_seed(body.get("seed", 0))
            output = self._model.generate(
                input_ids=torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                max_new_tokens=body["max_tokens"],
                pad_token_id=self._tokenizer.pad_token_id,
                **options,
            )[0, len(ids) :].tolist()
        text: str = self._tokenizer.decode(output, skip_special_tokens=True)
        places = [place for word in stop if (place := text.find(word)) >= 0]
        ended = bool(places) or output[-1] == self._tokenizer.eos_token_id
        return text[: min(places)] if places else text, len(output), "stop" if ended else "length"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behaviour: ClassVar = dict(USUAL)
    answered: ClassVar[list[dict[str, Any]]] = []
    lock = threading.Lock()
    model: _Model

    def do_GET(self) -> None:
        if self.path == "/requests":
            self._reply(200, {"requests": self.answered})
        elif self.path == "/v1/models":
            models = self.behaviour["models"]
            self._reply(200, {"object": "list", "data": models}) if models is not None else self._reply(
                404, {}
            )
        else:
            self._reply(404, {"error": {"message": f"no such path: {self.path}"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/behave":
            with self.lock:
                self.behaviour.update({**USUAL, **body})
                self.answered.clear()
            self._reply(200, {})
        elif self.path in ("/v1/completions", "/v1/chat/completions"):
            with self.lock:
                fault = self.behaviour["faults"].pop(0) if self.behaviour["faults"] else None
            if fault is None:
                self._respond(body)
            else:
                self._fail(fault)
        else:
            self._reply(404, {"error": {"message": f"no such path: {self.path}"}})

    def _fail(self, fault: dict[str, Any]) -> None:
        if "sleep" in fault:
            time.sleep(fault["sleep"])
        if "status" in fault:
            self._reply(
                fault["status"], fault.get("body", {"error": {"message": "fault"}}), fault.get("headers")
            )
            return
        content = fault.get("content", '{"choices": [').encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) + fault.get("missing", 0)))
        self.end_headers()
        for place in range(len(content)):
            self.wfile.write(content[place : place + 1])
            time.sleep(fault.get("pause", 0.0))
        self.close_connection = True

    def _respond(self, body: dict[str, Any]) -> None:
        behaviour = self.behaviour
        if behaviour["key"] and self.headers.get("Authorization") != f"Bearer {behaviour['key']}":
            given = self.headers.get("Authorization", "none").removeprefix("Bearer ")
            self._reply(401, {"error": {"message": f"Incorrect API key provided: {given}"}})
            return
        names = [entry["id"] for entry in behaviour["models"] or [{"id": MODEL}]]
        if body["model"] not in names and not behaviour["any_name"]:
            self._reply(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
            return
        if behaviour["strict"] and (unknown := sorted(set(body) - STANDARD)):
            self._reply(422, {"detail": f"Unexpected fields in the request: {unknown}"})
            return
        chat = "messages" in body
        prompt = body["messages"][0]["content"] if chat else body["prompt"]
        if behaviour["text_only"] and not isinstance(prompt, str):
            self._reply(400, {"detail": "prompt must be a string."})
            return
        ids = self.model.ids(prompt, behaviour["second_bos"])
        if len(ids) + body["max_tokens"] > behaviour["context"]:
            said = f"This model's maximum context length is {behaviour['context']} tokens."
            self._reply(400, {"error": {"message": said}})
            return
        text, tokens, reason = self.model.respond(ids, body, behaviour["ignores_stop"])
        choice = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        document = {
            "model": body["model"],
            "choices": [{"index": 0, **choice, "finish_reason": behaviour["finish_reason"] or reason}],
        }
        if behaviour["usage"]:
            document["usage"] = {"prompt_tokens": len(ids), "completion_tokens": tokens}
        with self.lock:
            self.answered.append(body)
        self._reply(200, document)

    def _reply(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing on the screen of the tests."""


def main() -> None:
    _Handler.model = _Model()
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Handler)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
