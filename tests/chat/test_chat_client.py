"""The client and a server that works: what is sent, what is kept, and how many requests run at once."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
import logging
import os
import re
import socket
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest

from steer_lit.chat import ChatClient, ChatMessage, ChatRequest, ChatSettings, greet_all
from steer_lit.chat.connection import Connection
from steer_lit.errors import ConfigError, ServerDown
from tests.chat.chaos_server import Body, ChaosServer

MakeClient = Callable[..., ChatClient]
Question = Callable[..., ChatRequest]
SCHEMA = {"type": "object", "properties": {"score": {"type": "integer"}}, "required": ["score"]}


@contextlib.contextmanager
def nobody_accepts() -> Iterator[str]:
    """Return an address that never answers, not even the request for a connection."""
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # more than the queue holds, so that the next gets no answer
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield f"http://127.0.0.1:{full.getsockname()[1]}/v1"


def echo(body: Body) -> str:
    return f"to {body['messages'][-1]['content']}"


def test_replies_come_in_the_order_of_the_requests(client_of: MakeClient, question: Question) -> None:
    """The server answers the first requests last, because it sends them slowly."""
    with ChaosServer(lambda body, _: "drip" if body["messages"][0]["content"] in "012" else None, echo) as server:
        client = client_of(server.base_url, concurrency=8)
        replies = client.ask([question(str(n)) for n in range(9)])
    assert [reply.text for reply in replies] == [f"to {n}" for n in range(9)]
    assert all(reply.seconds > 0 and not reply.cached for reply in replies)


def test_no_requests_give_no_replies(client_of: MakeClient) -> None:
    with ChaosServer() as server:
        assert client_of(server.base_url).ask([]) == []
    assert server.bodies == []


def test_what_is_sent(client_of: MakeClient) -> None:
    pictures = (b"\x89PNG one", b"\x89PNG two")
    question = ChatMessage("user", "Which?", pictures)
    messages = (ChatMessage("system", "Be brief."), question, ChatMessage("assistant", "Both."))
    request = ChatRequest(messages, SCHEMA, "verdict", max_tokens=9, temperature=0.5, seed=3)
    with ChaosServer() as server:
        client_of(server.base_url).ask([request])
    urls = [f"data:image/png;base64,{base64.b64encode(picture).decode()}" for picture in pictures]
    assert server.bodies == [
        {
            "model": "chaos",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {
                    "role": "user",
                    "content": [
                        *({"type": "image_url", "image_url": {"url": url}} for url in urls),
                        {"type": "text", "text": "Which?"},
                    ],
                },
                {"role": "assistant", "content": "Both."},
            ],
            "max_tokens": 9,
            "temperature": 0.5,
            "seed": 3,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "verdict", "schema": SCHEMA, "strict": True},
            },
        }
    ]


def test_usage_counts_requests_and_tokens(client_of: MakeClient, question: Question, tmp_path: Path) -> None:
    """The server counts 7 prompt and 3 completion tokens per reply. A stored reply costs none."""
    plan = lambda body, earlier: {"2": "no content", "3": "400"}.get(body["messages"][0]["content"])  # noqa: E731
    with ChaosServer(plan) as server:
        client = client_of(server.base_url, cache_dir=str(tmp_path))
        client.ask([question(str(n)) for n in range(4)])
        [again] = client.ask([question("0")])
    usage = client.usage
    assert (usage.requests, usage.failed, usage.cached, usage.retries) == (4, 1, 1, 0)  # blank answers are answers
    assert (usage.prompt_tokens, usage.completion_tokens) == (21, 9)
    assert usage.seconds > 0
    said = r"4 requests \(1 failed, 0 retries\), \d\.\d\d s each; 1 stored reply; 21 prompt and 9 completion tokens"
    assert re.fullmatch(said, str(usage))
    assert (again.cached, again.seconds, again.prompt_tokens, again.completion_tokens) == (True, 0.0, 7, 3)


def test_the_reason_of_the_first_retry_is_said_and_the_others_are_counted(
    client_of: MakeClient, question: Question, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "steer_lit")
    with ChaosServer(lambda body, earlier: ("429", "503", None)[earlier]) as server:
        client = client_of(server.base_url, retries=2)
        client.ask([question()])
    told = [record.message for record in caplog.records if "tried again" in record.message]
    assert told == [
        f"{server.base_url}: a request is tried again (later retries are only counted): HTTP 429: slow down"
    ]
    assert client.usage.retries == 2


def test_a_second_model_behind_one_name_is_reported_and_an_alias_is_not(
    client_of: MakeClient, question: Question, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`gpt` is answered by a dated `gpt`, as is usual. Then a router passes requests to other models."""
    with ChaosServer(model=lambda body: "gpt-2026-01-01") as server:
        client = client_of(server.base_url, model="gpt", cache_dir=str(tmp_path))
        assert [reply.model for reply in client.ask([question("1"), question("2")])] == ["gpt-2026-01-01"] * 2
        assert not caplog.records
        server.model = lambda body: {"3": "small", "4": "smaller"}[body["messages"][0]["content"]]
        for text in ("3", "4"):
            client.ask([question(text)])
        [record] = caplog.records
        assert "server.model=gpt is answered by more than one model: gpt-2026-01-01, small" in record.message
        again = client_of(server.base_url, model="gpt", cache_dir=str(tmp_path))
        assert [reply.model for reply in again.ask([question("2"), question("3")])] == ["gpt-2026-01-01", "small"]
    assert len(caplog.records) == 2  # the stored replies come from two models as well


# ---- how many at once


def test_trap_37_the_pool_is_as_large_as_the_limit(client_of: MakeClient, question: Question) -> None:
    """20 requests over 5 slots: at most 5 run at once, and none fails for lack of a connection."""
    with ChaosServer(lambda body, earlier: "drip") as server:
        client = client_of(server.base_url, concurrency=5)
        client.ask([question("connect first")])
        started = time.monotonic()
        replies = client.ask([question(str(n)) for n in range(20)])
        passed = time.monotonic() - started
    assert all(reply.failed is None for reply in replies)
    assert server.most_at_once == 5
    # Waiting for a slot does not count as a request's time: 5 slots are busy for at most 5 times the total time.
    assert sum(reply.seconds for reply in replies) <= 5 * passed


def test_trap_37_the_default_connect_time_out_is_at_least_30_seconds() -> None:
    """A server that accepts no connection for a while must not fail all requests. The default waits at least 30 s."""
    assert ChatSettings("http://localhost:1/v1", "any").connect_timeout >= 30


def test_several_threads_share_one_limit(client_of: MakeClient, question: Question) -> None:
    with ChaosServer(lambda body, earlier: "drip", echo) as server:
        client = client_of(server.base_url, concurrency=3)
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(client.ask, [question(f"{thread}{n}") for n in range(3)]) for thread in "abcd"]
            texts = [[reply.text for reply in future.result()] for future in asked]
    assert texts == [[f"to {thread}{n}" for n in range(3)] for thread in "abcd"]
    assert server.most_at_once == 3


def test_closing_ends_running_requests(client_of: MakeClient, question: Question) -> None:
    """Threads wait for a server that never answers. close() frees them and leaves no thread behind."""
    with ChaosServer(lambda body, earlier: "hang") as server:
        client = client_of(server.base_url, read_timeout=60.0)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(client.ask, [question()])
            while not server.bodies:
                time.sleep(0.01)
            client.close()
            assert waiting.exception(timeout=10) is not None
    assert "steer-lit-chat" not in {thread.name for thread in threading.enumerate()}


def test_a_request_during_closing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop stops after cancelling what was running. A request that came later would never have ended."""
    ending, go_on, end = threading.Event(), threading.Event(), Connection._end

    async def slow(connection: Connection) -> None:
        await end(connection)
        ending.set()
        await asyncio.to_thread(go_on.wait, 10)

    monkeypatch.setattr(Connection, "_end", slow)
    connection = Connection(
        ChatSettings(base_url="http://127.0.0.1:9/v1", model="m", cache_dir=None), "server.{}".format
    )
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(connection.close)
        assert ending.wait(10)
        with pytest.raises(CancelledError):
            connection.start(asyncio.sleep(60)).result(timeout=10)
        go_on.set()
        closing.result(timeout=10)


def test_what_a_cancelled_request_begins_is_cancelled_too() -> None:
    """A task left behind is told as one "never awaited" after the run's last lines."""
    begun, ended = threading.Event(), threading.Event()

    async def begins_another() -> None:
        try:
            begun.set()
            await asyncio.sleep(60)
        finally:
            asyncio.create_task(last()).add_done_callback(lambda task: ended.set())

    async def last() -> None:
        await asyncio.sleep(60)

    settings = ChatSettings(base_url="http://127.0.0.1:9/v1", model="m", cache_dir=None)
    connection = Connection(settings, "server.{}".format)
    connection.start(begins_another())
    assert begun.wait(10)
    connection.close()
    assert ended.is_set()


def test_what_a_request_had_only_just_begun_is_not_left_unawaited(recwarn: pytest.WarningsRecorder) -> None:
    """As when a client closes while a request looks for the server: anyio wraps what it is to run beside others."""
    settings = ChatSettings(base_url="http://127.0.0.1:9/v1", model="m", cache_dir=None)
    connection = Connection(settings, "server.{}".format)

    async def connects() -> None:
        async with anyio.create_task_group() as attempts:
            attempts.start_soon(asyncio.sleep, 60)
            await asyncio.sleep(60)

    async def closes() -> None:
        connecting = asyncio.create_task(connects())
        await asyncio.sleep(0)  # it has begun, and its attempt has not
        await connection._end()
        assert connecting.cancelled()

    connection.start(closes()).result(10)
    connection.close()
    gc.collect()
    assert not [str(warning.message) for warning in recwarn if "never awaited" in str(warning.message)]


def test_a_stopped_client_sends_nothing_more(client_of: MakeClient, question: Question) -> None:
    with ChaosServer() as server:
        client = client_of(server.base_url)
        client.ask([question("before")])
        client.stop()
        with pytest.raises(CancelledError):
            client.ask([question("after")])
        assert len(server.bodies) == 1


def test_a_hanging_server_is_given_up_before_all_attempts_are_used(client_of: MakeClient, question: Question) -> None:
    """With the defaults a request takes 25 minutes to fail, and 64 of them, the number that the share counts, most of a
    day.
    """
    with ChaosServer(lambda body, earlier: "hang") as server:
        client = client_of(server.base_url, concurrency=2, retries=3, read_timeout=0.2)
        with pytest.raises(ServerDown, match="the latest 8 attempts all timed out, and nothing else came: timed out"):
            client.ask([question(str(n)) for n in range(20)])
    assert client.usage.requests < 8


def test_one_answer_in_between_keeps_a_server_alive(client_of: MakeClient, question: Question) -> None:
    with ChaosServer(lambda body, earlier: "hang" if body["messages"][0]["content"] == "long" else None) as server:
        client = client_of(server.base_url, concurrency=1, retries=2, read_timeout=0.2)
        for n in range(3):
            (cut,) = client.ask([question("long")])
            assert "after 3 attempts" in str(cut.failed)
            assert client.ask([question(str(n))])[0].text == "Fine."


def test_an_address_that_never_answers_fails_by_the_connect_time_out(client_of: MakeClient, question: Question) -> None:
    with nobody_accepts() as base_url:
        [reply] = client_of(base_url, connect_timeout=0.2).ask([question()])
    assert reply.failed == "timed out: ConnectTimeout"


# ---- structured output


@pytest.mark.parametrize(
    ("taken", "sent"),
    [
        (("json_schema", "json_object"), ["json_schema"]),
        (("json_object",), ["json_schema", "json_object"]),
        ((), ["json_schema", "json_object", None]),
    ],
)
@pytest.mark.parametrize("status", ["400", "422"])
def test_the_strictest_format_a_server_takes_is_found_once(
    client_of: MakeClient, question: Question, taken: tuple[str, ...], sent: list[str | None], status: str
) -> None:
    def plan(body: Body, earlier: int) -> str | None:
        form = body.get("response_format", {}).get("type")
        return status if form is not None and form not in taken else None

    with ChaosServer(plan) as server:
        client = client_of(server.base_url, retries=4)
        for n in range(3):
            assert client.ask([question(str(n), schema=SCHEMA)])[0].text == "Fine."
    assert [body.get("response_format", {}).get("type") for body in server.bodies] == [*sent, sent[-1], sent[-1]]
    assert client.usage.retries == 0  # a refused format is not a fault of the server


def test_a_bad_request_changes_nothing_about_formats(client_of: MakeClient, question: Question) -> None:
    """A request that is refused in every format was itself wrong. The next one starts again with the
    strictest format.
    """
    with ChaosServer(lambda body, _: "400" if body["messages"][0]["content"] == "too long" else None) as server:
        client = client_of(server.base_url)
        [refused] = client.ask([question("too long", schema=SCHEMA)])
        [reply] = client.ask([question("fine", schema=SCHEMA)])
    assert refused.failed == "HTTP 400: as told"
    assert reply.text == "Fine."
    assert server.bodies[-1]["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize(("structured", "form"), [("json_schema",) * 2, ("json_object",) * 2, ("off", None)])
def test_a_format_that_was_chosen_is_kept(
    client_of: MakeClient, question: Question, structured: str, form: str | None
) -> None:
    with ChaosServer(lambda body, earlier: "400" if form else None) as server:
        [reply] = client_of(server.base_url, structured=structured).ask([question(schema=SCHEMA)])
    assert [body.get("response_format", {}).get("type") for body in server.bodies] == [form]
    assert (reply.failed is None) is (form is None)


def test_a_reasoning_model_gets_its_own_parameters(
    client_of: MakeClient, question: Question, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenAI's reasoning models need max_completion_tokens and no temperature, and name the wrong parameter."""

    def plan(body: Body, earlier: int) -> str | None:
        return next((f"no {name}" for name in ("max_tokens", "temperature") if name in body), None)

    with ChaosServer(plan) as server, caplog.at_level(logging.WARNING):
        client = client_of(server.base_url)
        replies = [client.ask([question(str(n), max_tokens=9, schema=SCHEMA)])[0] for n in range(2)]
    assert [reply.text for reply in replies] == ["Fine.", "Fine."]
    assert len(server.bodies) == 4  # three to find the parameters, one that uses them
    assert server.bodies[-1]["max_completion_tokens"] == 9
    assert server.bodies[-1]["response_format"]["type"] == "json_schema"
    assert not {"max_tokens", "temperature"} & server.bodies[-1].keys()
    assert "takes no max_tokens, temperature" in caplog.text


@pytest.mark.parametrize("fault", ["no seed, Mistral", "no seed, Gemini"])
def test_a_server_that_refuses_seed_is_asked_without_it(
    client_of: MakeClient, question: Question, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    with ChaosServer(lambda body, earlier: fault if "seed" in body else None) as server:
        client = client_of(server.base_url)
        replies = [client.ask([question(str(n), seed=n, schema=SCHEMA)])[0] for n in range(2)]
    assert [reply.text for reply in replies] == ["Fine.", "Fine."]
    assert [("seed" in body, body["response_format"]["type"]) for body in server.bodies] == [
        (True, "json_schema"), (False, "json_schema"), (False, "json_schema")
    ]  # fmt: skip
    assert [message for message in caplog.messages if "takes no seed" in message] == [
        f"{server.base_url} takes no seed: asked without from now on"
    ]


# ---- the cache


def test_stored_replies_are_not_requested_again(client_of: MakeClient, question: Question, tmp_path: Path) -> None:
    """In an interrupted run half of the requests were answered and one failed. The next run asks only what
    is missing.
    """
    plan = lambda body, earlier: "500" if body["messages"][0]["content"] == "1" and earlier == 0 else None  # noqa: E731
    with ChaosServer(plan, echo) as server:
        first = client_of(server.base_url, cache_dir=str(tmp_path)).ask([question(str(n)) for n in range(3)])
        assert [reply.failed is None for reply in first] == [True, False, True]
        server.bodies.clear()
        server.plan = lambda body, earlier: None
        second = client_of(server.base_url, cache_dir=str(tmp_path)).ask([question(str(n)) for n in range(4)])
    assert [reply.cached for reply in second] == [True, False, True, False]
    assert [reply.text for reply in second] == [f"to {n}" for n in range(4)]
    assert sorted(body["messages"][0]["content"] for body in server.bodies) == ["1", "3"]


@pytest.mark.parametrize("spoilt", [b"", b"{", b"[]", b'{"text": null}', b'{"text": "x"}', b"\xff"])
def test_an_unreadable_cache_entry_is_requested_again(
    client_of: MakeClient, question: Question, tmp_path: Path, spoilt: bytes
) -> None:
    with ChaosServer() as server:
        client = client_of(server.base_url, cache_dir=str(tmp_path))
        client.ask([question()])
        [entry] = tmp_path.rglob("*.json")
        entry.write_bytes(spoilt)
        assert client.ask([question()])[0].cached is False
        assert client.ask([question()])[0].cached is True
    kept = json.loads(entry.read_text())
    assert kept.pop("seconds") > 0
    assert kept == {
        "model": "chaos", "text": "Fine.", "prompt_tokens": 7, "completion_tokens": 3, "cut": False,
        "answered_by": "chaos",
    }  # fmt: skip
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [entry]  # no incomplete files either


def test_an_unreadable_reply_is_not_stored(client_of: MakeClient, question: Question, tmp_path: Path) -> None:
    """A gateway answers with status 200 and `overloaded`. Such a reply stored by an earlier version is
    asked for again.
    """
    unread, read = question(), question(readable=lambda text: text == "Fine.")
    with ChaosServer(answer=lambda body: "overloaded, try later") as server:
        client = client_of(server.base_url, cache_dir=str(tmp_path))
        assert client.ask([read])[0].text == "overloaded, try later"
        assert not list(tmp_path.rglob("*.json"))
        client.ask([unread])
        server.answer = lambda body: "Fine."
        assert [client.ask([read])[0].cached for _ in range(2)] == [False, True]


def test_a_cache_that_cannot_be_written_costs_no_answer(
    client_of: MakeClient, question: Question, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    with ChaosServer() as server:
        replies = client_of(server.base_url, cache_dir=str(tmp_path / "file")).ask([question("one"), question("two")])
    assert [reply.text for reply in replies] == ["Fine.", "Fine."]
    assert caplog.text.count("could not be kept") == 1  # once, not for each of many thousand requests


# ---- the key


def test_the_key_is_sent_and_appears_nowhere_else(
    client_of: MakeClient,
    question: Question,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server answers 500 with the received header in the text, like misconfigured proxies."""
    key = "sk-secret-of-mine"
    monkeypatch.setenv("JUDGE_KEY", f"{key}\n")
    with ChaosServer(lambda body, earlier: None if earlier else "echoes the key") as server, caplog.at_level("DEBUG"):
        client = client_of(server.base_url, api_key_env="JUDGE_KEY", cache_dir=str(tmp_path))
        [refused] = client.ask([question()])
        [reply] = client.ask([question()])
    assert [headers["authorization"] for headers in server.headers] == [f"Bearer {key}"] * 2
    assert refused.failed == "HTTP 500: you sent Bearer ***"
    assert reply.text == "Fine."
    kept = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    for place in (refused.failed, kept, caplog.text, repr(client.settings), str(vars(client))):
        assert key not in place


def test_an_answer_in_utf_16_is_the_same_with_a_key(
    client_of: MakeClient, question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-mine")
    with ChaosServer(lambda body, earlier: "UTF-16", lambda body: "中位† ok") as server:
        [reply] = client_of(server.base_url, retries=0).ask([question()])
    assert (reply.text, reply.failed) == ("中位† ok", None)


@pytest.mark.parametrize("key", ["sk-secret-of-mine", 'sk-"secret\\of-mine'])
@pytest.mark.parametrize("fault", [f"echoes the key {how}" for how in ("in UTF-16", "escaped", "as an encoding")])
def test_a_key_is_hidden_in_any_encoding_and_in_the_name_of_one(
    client_of: MakeClient, question: Question, monkeypatch: pytest.MonkeyPatch, fault: str, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with ChaosServer(lambda body, earlier: fault) as server:
        [refused] = client_of(server.base_url, retries=0).ask([question()])
    assert refused.failed is not None
    assert "***" in refused.failed
    assert "secret" not in refused.failed.replace(" ", "").lower()


def test_a_key_at_the_end_of_a_shortened_message_is_hidden_completely(
    client_of: MakeClient, question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-" + "0123456789" * 30)
    with ChaosServer(lambda body, earlier: "echoes the key") as server:
        [refused] = client_of(server.base_url).ask([question()])
    assert refused.failed is not None
    assert "0123" not in refused.failed


def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(
    client_of: MakeClient, question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-søcret")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY holds characters that no key has") as refused:
        client_of("http://127.0.0.1:1/v1").ask([question()])
    assert "cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("OPENAI_ORG_ID", None),
        ("OPENAI_PROJECT_ID", None),
        ("OPENAI_CUSTOM_HEADERS", None),
        ("OPENAI_CUSTOM_HEADERS", "X-Gäteway: secret"),
        ("OPENAI_ORG_ID", "org\nsecret"),
    ],
)
def test_a_variable_of_openais_that_no_header_can_hold_is_refused_without_showing_it(
    client_of: MakeClient, monkeypatch: pytest.MonkeyPatch, name: str, line: str | None
) -> None:
    monkeypatch.setenv(name, "X-Gateway: søcret" if line is None else line)
    with pytest.raises(ConfigError, match=r"an OPENAI_\* variable .* holds characters that no header has") as refused:
        client_of("http://127.0.0.1:1/v1").greet()
    assert "cret" not in str(refused.value)


def test_without_a_key_a_placeholder_is_sent(client_of: MakeClient, question: Question) -> None:
    assert "OPENAI_API_KEY" not in os.environ
    with ChaosServer() as server:
        client_of(server.base_url).ask([question()])
    assert server.headers[0]["authorization"] == "Bearer none"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://me:hunter2@127.0.0.1:1"),
        ("https_proxy", "http://me:hunter2@host:port"),
        ("HTTP_PROXY", "gopher://me:hunter2@host"),
        ("SSL_CERT_FILE", "/nowhere"),
    ],
)
def test_an_environment_in_which_no_client_can_be_made_is_refused_without_a_proxys_login(
    client_of: MakeClient, question: Question, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "socksio", None)
    with pytest.raises(ConfigError, match=r"server.base_url=.*look at the proxies and SSL_CERT_\*") as refused:
        client_of("http://127.0.0.1:1/v1").ask([question()])
    assert "ter2" not in "".join(traceback.format_exception(refused.value))


def test_a_proxy_that_does_not_answer_is_used_and_its_login_not_shown(
    client_of: MakeClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://me:hunter2@127.0.0.1:1")
    with ChaosServer() as server, caplog.at_level("DEBUG"):
        with pytest.raises(ServerDown, match="nobody answers there") as down:
            client_of(server.base_url).greet()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        client_of(server.base_url).greet()
    assert "hunter2" not in str(down.value) + caplog.text


@pytest.mark.parametrize(("variable", "goes"), [("OPENAI_API_KEY", True), ("JUDGE_KEY", False), (None, False)])
def test_openais_other_variables_are_sent_only_with_its_key(
    client_of: MakeClient, question: Question, monkeypatch: pytest.MonkeyPatch, variable: str | None, goes: bool
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-judge-1234")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1234")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway: sk-other\nAuthorization: Bearer sk-other")
    with ChaosServer() as server:
        client_of(server.base_url, api_key_env=variable).ask([question()])
    sent = server.headers[0]
    assert ("org-1234" in sent.values(), "sk-other" in sent.values()) == (goes, goes)
    assert (sent["authorization"] == f"Bearer {'sk-judge-1234' if variable else 'none'}") == (not goes)


# ---- what it leaves alone


def test_requests_do_not_change_the_runs_random_state(client_of: MakeClient, question: Question) -> None:
    import random

    state = random.getstate()
    with ChaosServer(lambda body, earlier: "500" if earlier == 0 else None) as server:
        client_of(server.base_url, retries=1).ask([question()])
    assert random.getstate() == state


def test_a_client_connects_at_its_first_request() -> None:
    """Creating one is free: a config may have a client that the run never uses."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        threads = set(threading.enumerate())  # some left by earlier tests may end in the meantime
        settings: dict[str, Any] = {"base_url": f"http://127.0.0.1:{nobody.getsockname()[1]}/v1", "model": "any"}
        ChatClient(settings).close()
    assert set(threading.enumerate()) <= threads


@pytest.mark.parametrize(
    ("own", "keys"),
    [
        ({}, ("server.base_url", "server.model", "server.api_key_env")),
        ({"model": "m", "base_url": None}, ("server.base_url", "judge.client.model", "server.api_key_env")),
        ({"base_url": "http://h/v1"}, ("judge.client.base_url", "server.model", "judge.client.api_key_env")),
        ({"base_url": "http://b/v1/"}, ("judge.client.base_url", "server.model", "server.api_key_env")),
    ],
)
def test_settings_are_named_by_the_keys_where_they_were_given(own: dict[str, Any], keys: tuple[str, ...]) -> None:
    shared = {"base_url": "http://b/v1", "model": "s", "api_key_env": "OPENAI_API_KEY", "retries": 2}
    client = ChatClient(shared, **own)
    assert {client.key(name).partition(".")[0] for name in ("base_url", "model", "retries")} == {"server"}
    client.place = "judge.client"
    assert tuple(map(client.key, ("base_url", "model", "api_key_env"))) == keys
    assert client.key("retries") == client.key("min_requests").replace("min_requests", "retries") == "server.retries"


@pytest.mark.parametrize("models", [404, 503, b"", b"<html>", b"[" * 100_000])
def test_a_server_without_a_list_of_models_is_accepted(
    client_of: MakeClient, question: Question, caplog: pytest.LogCaptureFixture, models: bytes | int
) -> None:
    with ChaosServer(models=models) as server, caplog.at_level(logging.WARNING):
        client = client_of(server.base_url)
        client.greet()
        assert (server.bodies, len(server.headers)) == ([], 1)
        assert client.ask([question()])[0].text == "Fine."
    assert caplog.messages == []


def test_a_refused_key_is_found_when_the_server_is_greeted(
    client_of: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-wrong-1234")
    with ChaosServer(models=401) as server:
        for variable, shown in (("JUDGE_KEY", "JUDGE_KEY"), (None, "null")):
            with pytest.raises(ServerDown, match=rf"HTTP 401.*the key in server\.api_key_env={shown}\.$") as down:
                client_of(server.base_url, api_key_env=variable).greet()
            assert "sk-wrong" not in str(down.value)


def test_errors_name_the_keys_of_a_client_with_a_server_of_its_own(question: Question) -> None:
    with ChaosServer(lambda body, earlier: "404") as server:
        client = ChatClient({"base_url": "http://b/v1", "model": "s"}, base_url=server.base_url, model="mine")
        client.place = "policies.mine"
        with contextlib.closing(client), pytest.raises(ServerDown, match=r" policies\.mine\.model=mine,") as stop:
            client.ask([question()])
    assert str(stop.value).startswith(f"policies.mine.base_url={server.base_url}: it refuses every request (HTTP 404: ")


def test_the_usage_says_whose_it_is(question: Question, caplog: pytest.LogCaptureFixture) -> None:
    with ChaosServer() as server, caplog.at_level(logging.INFO):
        for place in ("tutor.client", "policies.mine"):
            client = ChatClient({"base_url": server.base_url, "model": "m"})
            client.place = place
            client.ask([question()])
            client.close()
    told = [message.partition(": 1 request")[0] for message in caplog.messages if "1 request" in message]
    assert told == [f"tutor, {server.base_url}", f"policies.mine, {server.base_url}"]


def test_greeting_reports_a_closed_port_at_once(client_of: MakeClient) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(ServerDown, match=rf"server\.base_url=http://127\.0\.0\.1:{port}/v1: nobody answers there"):
        client_of(f"http://127.0.0.1:{port}/v1", retries=5).greet()


def test_greeting_reports_an_address_that_never_answers(client_of: MakeClient) -> None:
    with nobody_accepts() as base_url, pytest.raises(ServerDown, match="nobody answers there"):
        client_of(base_url, connect_timeout=0.5).greet()


def test_clients_of_one_server_wait_for_it_once(client_of: MakeClient) -> None:
    """Tutor, attacker and judge often share a server. Each would wait out every retry."""
    greeted = Counter[str]()
    clients = [client_of(f"http://127.0.0.1:{port}/v1") for port in (1, 1, 2)]
    for client in clients:
        greet = client.greet
        client.greet = lambda greet=greet, url=client.settings.base_url: (greeted.update([url]), greet())  # type: ignore[method-assign,misc]
    with pytest.raises(ServerDown) as down:
        greet_all(clients)
    assert greeted == {"http://127.0.0.1:1/v1": 1, "http://127.0.0.1:2/v1": 1}
    assert str(down.value).count("nobody answers there") == 2
    assert isinstance(down.value.__cause__, ServerDown)


def test_a_server_that_drops_the_greeting_counts_as_present(client_of: MakeClient) -> None:
    """Some proxies know one path only."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)

        def drop() -> None:
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].close()

        threading.Thread(target=drop, daemon=True).start()
        client_of(f"http://127.0.0.1:{server.getsockname()[1]}/v1").greet()
        server.shutdown(socket.SHUT_RDWR)


def test_a_server_that_is_starting_is_waited_for(client_of: MakeClient) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))  # refuses connections until it listens

        def begin() -> None:
            server.listen(8)
            server.accept()[0].close()

        client = client_of(f"http://127.0.0.1:{server.getsockname()[1]}/v1", retries=6, backoff=0.1)
        client.ask([])  # its libraries take longer to load than the server to start
        later = threading.Timer(0.3, begin)
        later.daemon = True
        later.start()
        client.greet()
        later.join(10)
