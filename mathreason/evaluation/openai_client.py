"""JSON over HTTP to one server that may be slow, busy, restarting or gone for a while.

    client = ServerClient("http://127.0.0.1:8000/v1", "OPENAI_API_KEY", 16, 600.0, 600.0, reporter)
    body = {"model": "mistral", "prompt": "2 + 2 ="}
    text = client.request("POST", "completions", body, read=lambda reply: reply.body["choices"][0]["text"])

                       what happened                           what follows
    200 with what was asked for                                the reply
    no connection, timeout, 408 409 425 429, 5xx but 501       tried again until `retry_seconds` are over
    200 with something else (cut off, no JSON, no choices)     tried again a few times
    any other status                                           `Refusal`: the same request would get it again

Many threads may call one client. They share one clock: it starts with the first failure after an answer,
so a long evaluation survives any number of restarts, each of up to `retry_seconds`.
"""

from __future__ import annotations

import email.utils
import json
import os
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from mathreason.errors import InputError, MathreasonError
from mathreason.progress import Reporter

PASSING_STATUS = frozenset({408, 409, 425, 429})
NOT_IMPLEMENTED = 501
CONNECT_SECONDS = 10.0
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 15.0
SAY_AFTER_SECONDS = 3.0
SAY_EVERY_SECONDS = 30.0
UNUSABLE_TRIES = 5
"""Times one request is answered with something unusable before it is given up: a web page stays one."""
MESSAGE_LENGTH = 400
LOOPBACK = ("localhost", "127.0.0.1", "::1")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Reply:
    """A JSON object with status 200, and the headers that came with it."""

    body: dict[str, Any]
    headers: Mapping[str, str]


class Refusal(Exception):
    """The server understood and refuses; `message` is its own, without the API key."""

    def __init__(self, url: str, status: int, message: str) -> None:
        super().__init__(f"{url} answers {status}: {message}")
        self.url = url
        self.status = status
        self.message = message


class Unusable(Exception):
    """An answer that is none: no JSON object, or not the fields that were asked for."""


class Stopped(Exception):
    """The caller's `stop` was set while a request waited for its next try."""


class _Passing(Exception):
    """A failure that may pass; `retry_after` is what the server asks to wait, in seconds."""

    def __init__(self, why: str, retry_after: float = 0.0) -> None:
        super().__init__(why)
        self.retry_after = retry_after


class ServerClient:
    """Requests to one server.

    `url` is the base address (`…/v1`), `key_variable` names the environment variable with the API key (it
    may be unset), `timeout` is what one request may take and `retry_seconds` how long the server may give
    no answer, both in seconds. Raises InputError when the address or the key can never work.
    """

    def __init__(
        self,
        url: str,
        key_variable: str,
        connections: int,
        timeout: float,
        retry_seconds: float,
        reporter: Reporter,
    ) -> None:
        import httpx2

        try:
            address = httpx2.URL(url)
        except httpx2.InvalidURL as error:
            raise InputError(f"evaluation.server.url {url!r} is no address: {error}") from error
        self.url = str(address.copy_with(username=None, password=None)).rstrip("/")
        self._base = url.rstrip("/")
        self._key = _api_key(key_variable)
        self._timeout = timeout
        self._patience = _Patience(self.url, retry_seconds, reporter)
        self._http = httpx2.Client(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx2.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS), pool=None),
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            trust_env=address.host not in LOOPBACK,  # a proxy of the environment cannot reach this machine
        )

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        *,
        read: Callable[[Reply], Result],
        final: Collection[int] = (),
        stop: threading.Event | None = None,
    ) -> Result:
        """What `read` makes of the reply to one request, tried again as the table above says.

        `read` raises Unusable when the reply lacks what it needs; `final` are further statuses that count as
        a refusal here. Raises Refusal, Stopped, or MathreasonError when the time is over.
        """
        stop = stop or threading.Event()
        unusable = failures = 0
        while True:
            if stop.is_set():
                raise Stopped
            try:
                result = read(self._once(method, path, body, final))
            except Unusable as error:
                unusable += 1
                if unusable == UNUSABLE_TRIES:
                    raise MathreasonError(
                        f"{self.url}/{path} gave {UNUSABLE_TRIES} answers that cannot be used ({error}); "
                        "is evaluation.server.url the address of an OpenAI-compatible server, with /v1?"
                    ) from error
                self._wait(failures, str(error), 0.0, stop)
            except _Passing as error:
                self._wait(failures, str(error), error.retry_after, stop)
            else:
                self._patience.answered()
                return result
            failures += 1

    def _wait(self, failures: int, why: str, retry_after: float, stop: threading.Event) -> None:
        """Exponential back-off with jitter, or longer when the server asks for it."""
        delay = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(failures, 10))
        stop.wait(self._patience.failed(why, delay * random.uniform(0.75, 1.25), retry_after))

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None, final: Collection[int]) -> Reply:
        import httpx2

        deadline = time.monotonic() + self._timeout
        try:
            with self._http.stream(method, f"{self._base}/{path}", json=body) as response:
                content = bytearray()
                for chunk in response.iter_bytes():
                    content += chunk
                    if time.monotonic() > deadline:
                        raise _Passing(f"no whole answer within {self._timeout:g} s")
        except httpx2.TimeoutException as error:
            raise _Passing(f"no answer within {self._timeout:g} s") from error
        except httpx2.TransportError as error:
            raise _Passing(str(error) or type(error).__name__) from error
        except httpx2.DecodingError as error:
            raise Unusable(f"a body that cannot be decoded: {error}") from error
        status = response.status_code
        if status != 200:
            message = self._message(bytes(content))
            refused = status < 500 and status not in PASSING_STATUS
            if refused or status == NOT_IMPLEMENTED or status in final:
                raise Refusal(f"{self.url}/{path}", status, message)
            raise _Passing(f"status {status}: {message}", _retry_after(response.headers))
        return Reply(_json_object(bytes(content)), response.headers)

    def _message(self, content: bytes) -> str:
        text = " ".join(_error_text(content).split())
        if self._key:
            text = text.replace(self._key, "[the API key]")
        return text[:MESSAGE_LENGTH] or "no message"


class _Patience:
    """How long the server has not answered, and what the user is told of it."""

    def __init__(self, url: str, seconds: float, reporter: Reporter) -> None:
        self._url = url
        self._seconds = seconds
        self._reporter = reporter
        self._lock = threading.Lock()
        self._trouble_since: float | None = None
        self._said_at: float | None = None

    def answered(self) -> None:
        with self._lock:
            if self._trouble_since is not None and self._said_at is not None:
                silent = time.monotonic() - self._trouble_since
                self._reporter.say(f"{self._url} answers again after {silent:.0f} s")
            self._trouble_since = self._said_at = None

    def failed(self, why: str, delay: float, retry_after: float) -> float:
        """Seconds to wait before the next try: `delay`, or longer when the server asks for it.

        Raises MathreasonError when the time is over, or would be before the server wants to be asked again.
        """
        with self._lock:
            now = time.monotonic()
            self._trouble_since = now if self._trouble_since is None else self._trouble_since
            left = self._trouble_since + self._seconds - now
            if left <= 0:
                raise MathreasonError(
                    f"{self._url} has given no answer for {self._seconds:g} s ({why}); start it again or "
                    "raise evaluation.server.retry_seconds, then run the same command: what is done is kept"
                )
            if retry_after > left:
                raise MathreasonError(
                    f"{self._url} asks to wait {retry_after:.0f} s ({why}), longer than "
                    "evaluation.server.retry_seconds allows; raise it or run the same command later: "
                    "what is done is kept"
                )
            wait = max(min(delay, left), retry_after)
            if now + wait - self._trouble_since >= SAY_AFTER_SECONDS and (
                self._said_at is None or now - self._said_at >= SAY_EVERY_SECONDS
            ):
                self._said_at = now
                self._reporter.say(f"{self._url}: {why}; trying again for up to {left:.0f} s")
            return wait


def _api_key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError(f"the environment variable {variable} holds characters that no API key has")
    return key


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3: seconds or a date), 0 without one."""
    value = headers.get("Retry-After", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, (when.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def _json_object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        start = content[:60].decode(errors="replace")
        raise Unusable(f"{len(content)} bytes that are no JSON, starting {start!r}") from error
    if not isinstance(value, dict):
        raise Unusable(f"JSON that is a {type(value).__name__}, not an object")
    return value


def _error_text(content: bytes) -> str:
    """The message in an error body: {"error": {"message": …}}, {"error": …}, {"detail": …} or plain text."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return content.decode(errors="replace")
    for key in ("error", "message", "detail"):
        while isinstance(value, dict) and key in value:
            value = value[key]
    return value if isinstance(value, str) else json.dumps(value)
