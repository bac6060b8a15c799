"""The engine against real servers on this machine: its responses are the transformers engine's own.

Most servers here are `tests/serve.py`, which can be told to fail the way servers do; `transformers serve`
is there to meet one that others wrote.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from serve import MODEL, Server, free_port

from mathreason.config import PromptConfig
from mathreason.data.generator import generate
from mathreason.data.prompts import Prompter
from mathreason.embedded import model_path
from mathreason.errors import InputError, MathreasonError
from mathreason.evaluation.engine import Request, Response, Sampling, cut_at_stop
from mathreason.evaluation.openai_engine import OpenAIEngine, identity, served_name
from mathreason.evaluation.transformers_engine import TransformersEngine
from mathreason.models import load_model
from mathreason.progress import Reporter

LIMIT = 24
STOP = ("\nOne", "10 *")
GREEDY = Sampling(LIMIT, STOP)
KEY = "sk-that-nobody-may-see"
BUDGET = 60.0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def usual(server: Server) -> Server:
    server.behave()
    return server


@pytest.fixture(scope="module")
def requests(tokenizer: Any) -> list[Request]:
    """The stories of problems without their questions: the embedded model goes on with them."""
    prompter = Prompter(PromptConfig(), tokenizer)
    texts = [problem.question.rsplit(". ", 1)[0] + "." for problem in generate("test", count=12, seed=77)]
    return [
        Request(id, text, prompter.prompt_ids(text), 100 + id, [{"role": "user", "content": text}])
        for id, text in enumerate(texts)
    ]


@pytest.fixture(scope="module")
def expected(requests: list[Request]) -> dict[int, Response]:
    """What the transformers engine says, greedily, in float32."""
    from mathreason.config import ModelConfig

    config = ModelConfig(name="embedded", quantization="none", dtype="float32")
    quiet = Reporter(quiet=True)
    found = dict(TransformersEngine(load_model(config, quiet), GREEDY, 4, quiet).generate(requests))
    assert len({response.text for response in found.values()}) > 6  # the model is not degenerate
    assert {response.finish_reason for response in found.values()} == {"stop", "length"}
    return found


def engine_for(url: str, log: Path | None = None, **changes: Any) -> OpenAIEngine:
    settings: dict[str, Any] = {
        "endpoint": "completions",
        "model": MODEL,
        "tuned_model": None,
        "variant": "base",
        "sampling": GREEDY,
        "concurrency": 4,
        "api_key_env": "MATHREASON_TEST_KEY",
        "timeout": BUDGET,
        "retry_seconds": BUDGET,
    }
    return OpenAIEngine(url=url, **{**settings, **changes}, reporter=Reporter(log, quiet=True))


def answers(engine: OpenAIEngine, requests: Sequence[Request]) -> dict[int, Response]:
    pairs = list(engine.generate(requests))
    assert len(dict(pairs)) == len(pairs), "a request was answered twice"
    return dict(pairs)


def same_but_token_counts(found: dict[int, Response], expected: dict[int, Response]) -> bool:
    plain = [{id: replace(answer, tokens=0) for id, answer in each.items()} for each in (found, expected)]
    return plain[0] == plain[1]


# -- what comes back -------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 5, 64])
def test_greedy_responses_are_those_of_the_transformers_engine(
    usual: Server, requests: list[Request], expected: dict[int, Response], concurrency: int
) -> None:
    engine = engine_for(usual.url, concurrency=concurrency)
    assert answers(engine, requests) == expected
    assert engine.facts == {
        "name": MODEL,
        "endpoint": "completions",
        "server": engine.facts["server"],
        "served": {"id": MODEL, "owned_by": "tests"},
        "prompts": "text",
        "fallbacks": [],
    }
    [first, *rest] = usual.requests()
    assert first["max_tokens"] == 1  # what the server takes is found out with one token
    assert sorted(body["prompt"] for body in rest) == sorted(request.prompt for request in requests)
    assert all(body["stop"] == list(STOP) and "seed" not in body for body in rest)


def test_what_is_done_is_not_asked_again(
    usual: Server, requests: list[Request], expected: dict[int, Response]
) -> None:
    done = {0, 3, 11}
    found = dict(engine_for(usual.url).generate(requests, done))
    assert found == {id: response for id, response in expected.items() if id not in done}
    usual.behave()
    assert dict(engine_for(usual.url).generate(requests, range(len(requests)))) == {}
    assert usual.requests() == []


def test_nothing_more_is_asked_when_the_responses_are_not_wanted_any_more(
    usual: Server, requests: list[Request]
) -> None:
    coming = engine_for(usual.url, concurrency=2).generate(requests)
    next(coming)
    coming.close()
    for thread in threading.enumerate():
        if thread.name.startswith("request"):
            thread.join()
    assert len(usual.requests()) < len(requests)


def test_proxy_of_the_environment_is_not_asked_for_this_machine(
    usual: Server, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert len(answers(engine_for(usual.url, retry_seconds=0.0), requests[:1])) == 1


def test_chat_sends_messages_and_reads_them(
    usual: Server, requests: list[Request], expected: dict[int, Response]
) -> None:
    engine = engine_for(usual.url, endpoint="chat")
    assert answers(engine, requests[:3]) == {id: expected[id] for id in range(3)}
    assert [body["messages"] for body in usual.requests()[:1]] == [list(requests[0].messages)]


def test_samples_of_one_prompt_have_their_own_seeds(usual: Server, requests: list[Request]) -> None:
    sampling = replace(GREEDY, temperature=1.0, top_p=0.9)
    samples = [replace(requests[0], id=id, seed=2**40 + id) for id in range(6)]
    found = answers(engine_for(usual.url, sampling=sampling), samples)
    assert len({response.text for response in found.values()}) > 3
    assert answers(engine_for(usual.url, sampling=sampling, concurrency=1), samples) == found
    sent = {body["seed"] for body in usual.requests()}
    assert len(sent) == 6
    assert max(sent) < 2**31


def test_stop_texts_end_a_response_though_the_server_ignores_them(
    server: Server, requests: list[Request], expected: dict[int, Response]
) -> None:
    server.behave(ignores_stop=True)
    whole = answers(engine_for(server.url, sampling=Sampling(LIMIT)), requests)
    assert any(cut_at_stop(response.text, STOP) is not None for response in whole.values())
    assert same_but_token_counts(answers(engine_for(server.url), requests), expected)


# -- what the server takes -------------------------------------------------------------------------


def test_server_with_standard_fields_only_gets_those_and_it_is_said(
    server: Server, requests: list[Request], expected: dict[int, Response]
) -> None:
    server.behave(strict=True)
    engine = engine_for(server.url)
    assert answers(engine, requests[:2]) == {id: expected[id] for id in range(2)}
    [said] = engine.facts["fallbacks"]
    assert "takes no top_k, min_p" in said
    assert "Unexpected fields" in said


def test_server_that_takes_more_is_told_not_to_penalize_or_cut(
    usual: Server, requests: list[Request]
) -> None:
    answers(engine_for(usual.url), requests[:1])
    off = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0}
    assert all(off.items() <= body.items() for body in usual.requests())


def test_token_ids_are_sent_where_the_text_would_get_a_second_bos(
    server: Server, requests: list[Request], expected: dict[int, Response]
) -> None:
    server.behave(second_bos=True)
    engine = engine_for(server.url)
    assert answers(engine, requests) == expected
    assert (engine.facts["prompts"], engine.facts["fallbacks"]) == ("token ids", [])


def test_server_that_reads_other_tokens_and_takes_no_ids_is_marked(
    server: Server, requests: list[Request]
) -> None:
    server.behave(second_bos=True, text_only=True)
    engine = engine_for(server.url)
    assert len(answers(engine, requests[:3])) == 3
    once, counted = engine.facts["fallbacks"]
    assert "it takes no token ids: prompt must be a string" in once
    assert counted == "prompt: the server counts other tokens than there are here (3 responses)"


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (
            {"finish_reason": "content_filter"},
            "finish_reason content_filter: counted as truncated (3 responses)",
        ),
        ({"usage": False}, "tokens: the server gives no usage, so they are counted as 0 (3 responses)"),
    ],
)
def test_odd_answers_are_counted(
    server: Server, requests: list[Request], behaviour: dict[str, Any], said: str
) -> None:
    server.behave(**behaviour)
    engine = engine_for(server.url, sampling=Sampling(2))
    found = answers(engine, requests[:3])
    assert engine.facts["fallbacks"] == [said]
    assert {response.finish_reason for response in found.values()} == {"length"}


# -- failures that pass ----------------------------------------------------------------------------

PASSING = {
    "failing": [{"status": 500}, {"status": 503}, {"status": 502}],
    "busy": [{"status": 408}, {"status": 409}, {"status": 425}, {"status": 429}],
    "slower than the timeout": [{"sleep": 4.0, "status": 500}],
    "dripping beyond the timeout": [{"content": '{"choices": [{"text": "12"}]}', "pause": 0.1}],
    "no JSON": [{"content": "<html>starting</html>"}],
    "no choices": [{"content": "{}"}, {"content": '{"choices": []}'}, {"content": "[]"}],
    "cut off": [{"content": '{"choices": [{"text": "12', "missing": 500}] * 2,
    "broken off": [{"content": '{"choices": [{"text": "12", "finish_reason": "abort"}]}'}],
}


@pytest.mark.parametrize("faults", PASSING.values(), ids=PASSING)
def test_passing_failures_change_nothing(
    usual: Server, requests: list[Request], expected: dict[int, Response], faults: list[dict[str, Any]]
) -> None:
    engine = engine_for(usual.url, timeout=2.0)
    assert answers(engine, requests[:1])
    usual.behave(faults=faults)
    assert answers(engine, requests[:6]) == {id: expected[id] for id in range(6)}
    assert engine.facts["fallbacks"] == []


def test_passing_failures_do_not_decide_what_the_server_takes(
    usual: Server, requests: list[Request], expected: dict[int, Response]
) -> None:
    usual.behave(faults=[{"status": 500}, {"content": "{}"}])
    engine = engine_for(usual.url)
    assert answers(engine, requests[:1]) == {0: expected[0]}
    assert engine.facts["fallbacks"] == []
    assert all("top_k" in body for body in usual.requests())


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_kept(usual: Server, requests: list[Request], form: str) -> None:
    engine = engine_for(usual.url, concurrency=1)
    assert answers(engine, requests[:1])
    wait = 3.0
    until = datetime.now(UTC) + timedelta(seconds=wait + 1)
    value = "3" if form == "seconds" else format_datetime(until, usegmt=True)
    usual.behave(faults=[{"status": 429, "headers": {"Retry-After": value}}])
    started = time.monotonic()
    assert answers(engine, requests[:1])
    assert time.monotonic() - started >= wait - 1


def test_wait_that_is_longer_than_allowed_is_refused_at_once(usual: Server, requests: list[Request]) -> None:
    usual.behave(faults=[{"status": 429, "headers": {"Retry-After": "86400"}}])
    with pytest.raises(MathreasonError, match=r"asks to wait 86400 s .*retry_seconds"):
        answers(engine_for(usual.url), requests)


@pytest.mark.slow
def test_server_that_starts_late_and_is_killed_in_the_middle(
    requests: list[Request], expected: dict[int, Response], tmp_path: Path
) -> None:
    server = Server()
    log = tmp_path / "log.txt"
    starting = threading.Timer(0.5, server.start)
    starting.start()
    found: list[tuple[int, Response]] = []
    try:
        engine = engine_for(server.url, log, retry_seconds=120.0)
        for pair in engine.generate(requests):
            found.append(pair)
            if len(found) == 3:
                server.kill()
                server.start(wait=False)
    finally:
        starting.join()
        server.kill()
    assert len(found) == len(requests)
    assert dict(found) == expected
    assert engine.facts["fallbacks"] == []
    assert log.read_text().count("; trying again for up to") == 2
    assert log.read_text().count("answers again after") == 2
    assert "Connection refused; trying again" in log.read_text()


# -- failures that stay ----------------------------------------------------------------------------


def test_server_that_never_comes_is_given_up() -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(MathreasonError, match=r"no answer for 2 s \(.*Connection refused\)") as raised:
        engine_for(url, retry_seconds=2.0)
    assert url in str(raised.value)
    assert not isinstance(raised.value, InputError)


def test_server_that_goes_for_good_keeps_what_came_before(
    server: Server, requests: list[Request], expected: dict[int, Response]
) -> None:
    engine = engine_for(server.url, retry_seconds=1.0, concurrency=1)
    assert answers(engine, requests[:1])
    server.behave(faults=[None] * 3 + [{"status": 500, "body": {"error": "out of memory"}}] * 99)
    coming = engine.generate(requests)
    found = dict(next(coming) for _ in range(3))
    with pytest.raises(MathreasonError, match=r"no answer for 1 s \(status 500: out of memory\)"):
        next(coming)
    assert found == {id: expected[id] for id in range(3)}


def test_web_page_at_the_address_is_given_up_soon(usual: Server, requests: list[Request]) -> None:
    usual.behave(faults=[{"content": "<html>welcome</html>"}] * 99)
    with pytest.raises(MathreasonError, match=r"5 answers that cannot be used .* with /v1"):
        answers(engine_for(usual.url, retry_seconds=600.0), requests[:1])


def test_wrong_key_names_the_variable_and_never_the_key(
    server: Server, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.behave(key="another")
    monkeypatch.setenv("MATHREASON_TEST_KEY", KEY)
    with pytest.raises(InputError, match=r"401.*environment variable MATHREASON_TEST_KEY") as raised:
        answers(engine_for(server.url), requests)
    assert KEY not in str(raised.value)
    server.behave(key=KEY)
    engine = engine_for(server.url, retry_seconds=0.0)
    assert len(answers(engine, requests[:2])) == 2
    server.behave(key=KEY, faults=[{"status": 500, "body": f"key {KEY} is busy"}])
    with pytest.raises(MathreasonError, match=r"key \[the API key\] is busy"):
        answers(engine, requests[:1])
    assert KEY not in json.dumps([engine.facts, engine.identity])
    monkeypatch.setenv("MATHREASON_TEST_KEY", "a\u00e9")
    with pytest.raises(InputError, match="MATHREASON_TEST_KEY holds characters"):
        engine_for(server.url)


def test_wrong_model_name_lists_what_is_served(usual: Server) -> None:
    with pytest.raises(InputError, match=rf"404.*`mistral` does not exist.*lists: {MODEL}"):
        engine_for(usual.url, model="mistral")


def test_name_that_is_not_listed_will_do_only_where_wrong_names_are_refused(
    server: Server, requests: list[Request], expected: dict[int, Response]
) -> None:
    server.behave(models=None)
    engine = engine_for(server.url)
    assert answers(engine, requests[:2]) == {id: expected[id] for id in range(2)}
    assert engine.facts["fallbacks"] == [
        f"server: its list of models does not name '{MODEL}', but it answers to that name"
    ]
    server.behave(any_name=True)
    with pytest.raises(InputError, match="answers to any name"):
        engine_for(server.url, model="mistral")


def test_tuned_model_is_asked_by_its_own_name(usual: Server, requests: list[Request]) -> None:
    models = [{"id": MODEL, "root": "/m"}, {"id": "math", "root": "/adapter", "parent": MODEL}]
    usual.behave(models=models)
    engine = engine_for(usual.url, variant="tuned", tuned_model="math")
    answers(engine, requests[:2])
    assert {body["model"] for body in usual.requests()} == {"math"}
    assert engine.facts["served"] == models[1]
    assert engine.identity == {"served_model": "math", "endpoint": "completions"}


def test_tuned_model_that_is_the_base_model_is_refused(server: Server) -> None:
    with pytest.raises(InputError, match="tuned_model and the base model are both 'm'"):
        served_name("m", "m", "tuned")
    with pytest.raises(InputError, match="tuned_model is missing"):
        identity("m", None, "tuned", "chat")
    server.behave(models=[{"id": MODEL, "root": "/m"}, {"id": "math", "root": "/m"}])
    with pytest.raises(InputError, match=r"from the same weights \(/m\)"):
        engine_for(server.url, variant="tuned", tuned_model="math")


def test_prompt_that_is_too_long_names_the_request(server: Server, requests: list[Request]) -> None:
    *others, longest = sorted(requests, key=lambda request: len(request.prompt_ids))
    length = len(longest.prompt_ids) + 1
    server.behave(context=length + LIMIT - 1)
    requests = [*others, replace(longest, prompt=f"{longest.prompt} a", prompt_ids=[*longest.prompt_ids, 5])]
    said = rf"400 to request {longest.id} \({length} prompt tokens\).*context.*max_new_tokens"
    with pytest.raises(InputError, match=said):
        answers(engine_for(server.url), requests)


# -- a server that others wrote --------------------------------------------------------------------

TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.fixture(scope="module")
def transformers_serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address of `transformers serve` with the embedded model, and the model's name there."""
    from transformers.utils.import_utils import is_serve_available

    if not is_serve_available():
        pytest.skip("transformers serve needs transformers[serving]")
    folder = tmp_path_factory.mktemp("served") / "model"
    shutil.copytree(model_path(), folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    port = free_port()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    with (folder.parent / "log.txt").open("wb") as log:
        process = subprocess.Popen([*command, *options], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, (folder.parent / "log.txt").read_text()
            assert time.monotonic() < deadline, "transformers serve did not start"
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except urllib.error.URLError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", str(folder)
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_transformers_serve_gives_the_same_responses(
    transformers_serve: tuple[str, str],
    requests: list[Request],
    expected: dict[int, Response],
    endpoint: str,
) -> None:
    url, model = transformers_serve
    engine = engine_for(url, model=model, endpoint=endpoint)
    assert answers(engine, requests) == expected
    unlisted, standard_only = engine.facts["fallbacks"]
    assert unlisted.startswith("server: its list of models does not name")
    assert "Unexpected fields in the request" in standard_only
    with pytest.raises(InputError, match=r"400.*Server is pinned to"):
        engine_for(url, model="mistral", endpoint=endpoint)
