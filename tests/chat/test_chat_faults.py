"""The effect of each fault: a reply or a failed one, and the number of attempts."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from steer_lit.chat import ChatClient, ChatReply, ChatRequest
from steer_lit.chat.connection import Connection
from steer_lit.errors import ServerDown
from tests.chat.chaos_server import REFUSALS, Body, ChaosServer, http_date

MakeClient = Callable[..., ChatClient]
Question = Callable[..., ChatRequest]
SCHEMA = {"type": "object"}
IMPATIENT = {"connect_timeout": 0.3, "read_timeout": 0.3}

# Fault, the failed reply's reason (None: it is an ordinary answer), whether it is tried again.
TABLE = [
    ("429", "HTTP 429: slow down", True),
    ("quota spent", "HTTP 429: pay first", False),
    ("500", "HTTP 500: as told", True),
    ("503", "HTTP 503: as told", True),
    ("400", "HTTP 400: as told", False),
    ("413", "HTTP 413: as told", False),
    ("hang", "timed out: ReadTimeout", True),
    ("reset", "no connection: ReadError", True),
    ("half closed", "no connection: RemoteProtocolError", True),
    ("empty body", "the body is empty", True),
    ("garbage body", "the body is not JSON", True),
    ("deep body", "the body is not JSON", True),
    ("no choices", "the body holds no choices: overloaded", True),
    ("no message", "the first choice holds no message", True),
    ("endless drip", "no answer within 0.6 s", True),  # each single read is in time
    ("redirect", "HTTP 307: a redirect to http://127.0.0.1:", False),
    ("gzip bomb", "the body is compressed (gzip), although an uncompressed one was asked for", False),
    ("gzip bomb of an error", "the body is compressed (gzip)", False),
    ("huge body", "the body is larger than 16 MiB", False),
    ("largest body", None, False),
    ("drip", None, False),
    ("no content", "the answer holds no text", False),
    ("blank content", "the answer holds no text", False),
    ("breaks off", "the answer broke off: provider gone", True),
    ("abort", "the answer broke off: abort", True),
    ("all thoughts", "the answer is all in its reasoning", True),
    ("tool call", "the model called a tool", True),
    ("cut in thought", "cut off at max_tokens=512, which went into thinking", False),
    ("parts", None, False),
    *(
        (fault, "stopped by the server's content filter: HTTP 40", False)
        for fault in REFUSALS
        if "filter" in str(fault)
    ),
    ("content filter", "stopped by the server's content filter", False),
    ("refusal", "the model refused: I'd rather not", False),
    ("long refusal", 'HTTP 400: {"error": {"input": "xxx', False),  # of megabytes only the beginning is read
    ("cut off", "cut off at max_tokens=512", False),
    ("score of 11", None, False),
    ("half a surrogate", None, False),
    ("odd usage", None, False),
]
NAMES = [fault for fault, _, _ in TABLE]


def patience(fault: str) -> dict[str, float]:
    """Return short time-outs for faults that end by a time-out only. A busy machine could exceed them otherwise."""
    return IMPATIENT if fault in ("hang", "endless drip") else {}


@pytest.mark.parametrize(("fault", "reason", "retried"), TABLE, ids=NAMES)
def test_a_permanent_fault(
    client_of: MakeClient, question: Question, fault: str, reason: str | None, retried: bool
) -> None:
    with ChaosServer(lambda body, earlier: fault) as server:
        client = client_of(server.base_url, retries=1, structured="json_schema", **patience(fault))
        [reply] = client.ask([question(schema=SCHEMA)])
    assert len(server.bodies) == (2 if retried else 1)
    if reason is None:
        assert reply.failed is None
        assert reply.text
    else:
        assert reply.text is None
        assert reply.failed is not None
        assert reply.failed.startswith(reason)
        assert reply.failed.endswith(", after 2 attempts") is retried
    assert client.usage.failed == (not reply.answered)


@pytest.mark.parametrize("fault", [fault for fault, _, retried in TABLE if retried])
def test_a_passing_fault(client_of: MakeClient, question: Question, fault: str) -> None:
    with ChaosServer(lambda body, earlier: fault if earlier == 0 else None) as server:
        client = client_of(server.base_url, retries=1, **patience(fault))
        [reply] = client.ask([question()])
    assert reply.text == "Fine."
    assert (client.usage.retries, client.usage.requests, client.usage.failed) == (1, 1, 0)


def test_text_that_cannot_be_encoded_is_repaired(client_of: MakeClient, question: Question) -> None:
    with ChaosServer(lambda body, earlier: "half a surrogate") as server:
        [reply] = client_of(server.base_url).ask([question("And back: \ud83d.")])
    assert reply.text == "Fine ?."
    assert server.bodies[0]["messages"][0]["content"] == "And back: ?."


def test_an_answer_cut_off_without_a_schema_is_an_answer(client_of: MakeClient, question: Question) -> None:
    with ChaosServer(lambda body, earlier: "cut off") as server:
        [reply] = client_of(server.base_url).ask([question()])
    assert reply.text == '{"score": 1'


def test_a_closed_port_gives_failed_replies(client_of: MakeClient, question: Question) -> None:
    with ChaosServer() as server:
        gone = server.base_url
    reason = f"no connection to {gone}: ConnectError('All connection attempts failed')"
    replies = client_of(gone, retries=1).ask([question("one"), question("two")])
    assert [reply.failed for reply in replies] == [f"{reason}, after 2 attempts"] * 2


def test_trap_36_a_second_reply_is_not_taken_for_the_next_ones(client_of: MakeClient, question: Question) -> None:
    """It would shift all that follow: every turn would get the grade of the one before."""
    fault = ["two replies", None, None]
    with ChaosServer(
        lambda body, earlier: fault[len(server.bodies)], lambda body: body["messages"][0]["content"]
    ) as server:
        client = client_of(server.base_url, concurrency=1)
        assert [client.ask([question(text)])[0].text for text in "abc"] == ["a", "b", "c"]


def test_bodies_are_requested_uncompressed(client_of: MakeClient, question: Question) -> None:
    with ChaosServer() as server:
        client_of(server.base_url).ask([question()])
    assert server.headers[0]["accept-encoding"] == "identity"


# ---- how long is waited


@pytest.mark.parametrize(("asked", "least"), [("0.3", 0.3), (None, 0.5), ("-1", 0.0), ("soon", 0.0)])
def test_trap_37_retry_after_is_honoured(
    client_of: MakeClient, question: Question, asked: str | None, least: float
) -> None:
    """In seconds, and as a date. A date 2 s ahead, written in whole seconds, is 1 to 2 s ahead."""
    retry_after = asked if asked is not None else http_date(seconds_ahead=2)
    with ChaosServer(lambda body, earlier: "429" if earlier == 0 else None, retry_after=retry_after) as server:
        [reply] = client_of(server.base_url, retries=1).ask([question()])
    assert reply.text == "Fine."
    assert least <= server.times[1] - server.times[0] < 10


def test_a_wait_of_hours_is_not_accepted(client_of: MakeClient, question: Question) -> None:
    with ChaosServer(lambda body, earlier: "429", retry_after="3600") as server:
        [reply] = client_of(server.base_url, retries=4).ask([question()])
    assert reply.failed == "HTTP 429: slow down"
    assert len(server.bodies) == 1


def test_trap_37_waits_double_and_spread(
    client_of: MakeClient, question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the n-th retry a request waits between half and all of 2 s x 2^(n - 1); no two wait equally long."""
    waits: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr("steer_lit.chat.client.asyncio.sleep", noted)
    with ChaosServer(lambda body, earlier: "503") as server:
        client = client_of(server.base_url, retries=3, backoff=2.0, concurrency=1)
        client.ask([question(str(n)) for n in range(5)])
    assert len(waits) == 15
    for n in range(3):
        longest = 2.0 * 2**n
        same = waits[n::3]
        assert all(longest / 2 <= wait <= longest for wait in same)
        assert len(set(same)) == 5


# ---- the circuit breaker


def test_a_server_that_fails_most_requests_stops_the_run(client_of: MakeClient, question: Question, tmp_path) -> None:
    def plan(body: Body, earlier: int) -> str | None:
        return None if body["messages"][0]["content"] in ("0", "1") else "500"

    cache = str(tmp_path / "cache")
    with ChaosServer(plan) as server:
        client = client_of(server.base_url, concurrency=1, min_requests=6, max_failed_share=0.5, cache_dir=cache)
        with pytest.raises(ServerDown) as stop:
            client.ask([question(str(n)) for n in range(20)])
        # More than 3 of the latest 6 requests failed: 0 and 1 were answered, 2 to 5 were not.
        assert len(server.bodies) == 6
        said = str(stop.value)
        assert "4 of the latest 6 requests failed (67%, server.max_failed_share allows 50%)" in said
        assert "The first reason: HTTP 500: as told" in said
        assert f"server.base_url={server.base_url}" in said
        assert f"Replies so far are kept in {cache}." in said
        with pytest.raises(ServerDown):  # at once, without another request
            client.ask([question("another")])
        assert len(server.bodies) == 6
        # Stored answers are still there and are read without the server.
        assert [reply.text for reply in client.ask([question("0"), question("1")])] == ["Fine.", "Fine."]


def test_without_answers_no_stored_replies_are_mentioned(
    client_of: MakeClient, question: Question, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    with ChaosServer(lambda body, earlier: "500") as server:
        client = client_of(server.base_url, min_requests=2, max_failed_share=0.5, cache_dir=str(cache))
        with pytest.raises(ServerDown) as stop:
            client.ask([question(str(n)) for n in range(4)])
    assert "kept" not in str(stop.value)
    assert not cache.exists()


def test_answers_cut_at_the_token_limit_are_no_fault_of_the_server(client_of: MakeClient, question: Question) -> None:
    with ChaosServer(lambda body, earlier: "cut off") as server:
        client = client_of(server.base_url, concurrency=1, min_requests=4, max_failed_share=0.0)
        replies = client.ask([question(str(n), schema=SCHEMA) for n in range(12)])
    assert all(reply.failed is not None and reply.cut and reply.answered for reply in replies)


def test_the_breaker_looks_at_the_latest_requests(client_of: MakeClient, question: Question) -> None:
    """A server that dies after a long time is noticed as soon as one that never worked."""
    with ChaosServer(lambda body, earlier: None if int(body["messages"][0]["content"]) < 40 else "500") as server:
        client = client_of(server.base_url, concurrency=1, min_requests=4, max_failed_share=0.5)
        with pytest.raises(ServerDown):
            client.ask([question(str(n)) for n in range(100)])
    assert len(server.bodies) == 43


def test_the_breaker_stays_closed_at_the_allowed_share(client_of: MakeClient, question: Question) -> None:
    with ChaosServer(lambda body, earlier: "500" if int(body["messages"][0]["content"]) % 2 else None) as server:
        client = client_of(server.base_url, concurrency=1, min_requests=4, max_failed_share=0.5)
        replies = client.ask([question(str(n)) for n in range(20)])
    assert [reply.failed is None for reply in replies] == [True, False] * 10


@pytest.mark.parametrize(
    ("faults", "down"),
    [
        ([None, "500", "500"], True),
        (["500", None, "reset"], True),  # what was under way when the server died
        ([None, "404", "404"], True),
        ([None, "500", None], False),
        ([None, "500", "400"], False),
        ([None, "429", "429"], False),  # busy, not dead
        ([None, "content filter"], False),  # not asked
    ],
)
def test_a_server_that_has_died_a_moment_ago_is_noticed_when_asked_for_a_word(
    client_of: MakeClient, question: Question, faults: list[str | None], down: bool
) -> None:
    with ChaosServer(lambda body, earlier: faults[len(server.bodies)]) as server:
        client = client_of(server.base_url, concurrency=2, retries=0)
        for n in range(2):
            client.ask([question(str(n))])
        with pytest.raises(ServerDown, match="requests failed lately, and") if down else contextlib.nullcontext():
            client.confirm()
    assert len(server.bodies) == len(faults)
    assert client.usage.requests == 2


def test_a_closed_client_starts_again(client_of: MakeClient, question: Question) -> None:
    down = True
    with ChaosServer(lambda body, earlier: "500" if down else None) as server:
        client = client_of(server.base_url, min_requests=1)
        with pytest.raises(ServerDown):
            client.ask([question()])
        client.close()
        down = False
        assert client.ask([question()])[0].text == "Fine."


def test_a_client_closed_while_its_server_hung_starts_its_count_again(
    client_of: MakeClient, question: Question
) -> None:
    with ChaosServer(lambda body, earlier: "hang") as server:
        client = client_of(server.base_url, concurrency=1, read_timeout=0.2)
        with pytest.raises(ServerDown, match="the latest 3 attempts all timed out"):
            client.ask([question(str(n)) for n in range(5)])
        client.close()
        assert client.ask([question("again")])[0].failed == "timed out: ReadTimeout"


def test_what_ends_while_a_client_closes_does_not_count_for_its_next_connection(
    client_of: MakeClient, question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ChaosServer() as server:
        client = client_of(server.base_url, min_requests=1)
        client.ask([question()])
        close = Connection.close

        def closes(connection: Connection) -> None:
            with pytest.raises(ServerDown):  # a request of this connection fails at the last moment
                client._health.replied(ChatReply(failed="late"))
            close(connection)

        with monkeypatch.context() as patched:
            patched.setattr(Connection, "close", closes)
            client.close()
        assert client.ask([question("next")])[0].text == "Fine."


@pytest.mark.parametrize("status", ["401", "402", "403", "404"])
def test_a_lasting_refusal_before_any_answer_stops_the_run_with_the_servers_words(
    client_of: MakeClient, question: Question, status: str
) -> None:
    with ChaosServer(lambda body, earlier: status) as server:
        with pytest.raises(ServerDown, match=rf"it refuses every request \(HTTP {status}: as told\): correct") as stop:
            client_of(server.base_url, retries=4, concurrency=1).ask([question(str(n)) for n in range(10)])
        assert len(server.bodies) == 1
    assert "server.model=chaos, or the key in server.api_key_env=OPENAI_API_KEY" in str(stop.value)


def test_a_lasting_refusal_after_an_answer_is_a_failed_reply(client_of: MakeClient, question: Question) -> None:
    with ChaosServer(lambda body, earlier: "404" if len(server.bodies) else None) as server:
        replies = client_of(server.base_url, concurrency=1).ask([question(str(n)) for n in range(3)])
    assert [reply.failed for reply in replies] == [None, "HTTP 404: as told", "HTTP 404: as told"]


# ---- all at once


def test_many_requests_through_seeded_chaos(client_of: MakeClient, question: Question) -> None:
    """Three in ten requests meet a fault. 200 requests give 200 replies in order, the failed ones with a reason."""
    chance = random.Random(4)
    transient = [fault for fault, _, retried in TABLE if retried and fault != "endless drip"]
    lasting = ["no content", "content filter", "refusal", "400"]

    def plan(body: Body, earlier: int) -> str | None:
        drawn = random.Random(f"{body['messages'][0]['content']}")
        if drawn.random() < 0.1:
            return drawn.choice(lasting)
        return chance.choice(transient) if chance.random() < 0.3 else None

    with ChaosServer(plan, answer=lambda body: f"to {body['messages'][0]['content']}") as server:
        client = client_of(server.base_url, retries=4, concurrency=16, read_timeout=2.0)
        replies: list[ChatReply] = client.ask([question(f"question {n}") for n in range(200)])
    outcome = Counter("answered" if reply.failed is None else reply.failed for reply in replies)
    assert all(reply.text in (None, f"to question {n}") for n, reply in enumerate(replies))
    assert outcome["answered"] > 150
    assert client.usage.retries > 40
    # Five attempts in a row meet a passing fault once in 400 requests, so nearly all failures are permanent faults.
    doomed = {n for n in range(200) if random.Random(f"question {n}").random() < 0.1}
    assert {n for n, reply in enumerate(replies) if reply.failed is not None} >= doomed
    assert len(replies) - outcome["answered"] - len(doomed) <= 5


def test_a_model_that_declines_does_not_make_a_server_down(client_of: MakeClient, question: Question) -> None:
    """With a content filter a red-team run gets many refusals. Stopping would stop at the same place every time."""
    filters = ["content filter", *(fault for fault in REFUSALS if "filter" in str(fault))]
    with ChaosServer(lambda body, earlier: filters[len(server.bodies) % len(filters)]) as server:
        client = client_of(server.base_url, concurrency=1, min_requests=4, max_failed_share=0.5)
        replies = client.ask([question(str(n), schema=SCHEMA) for n in range(10)])
    assert len(server.bodies) == 10  # another format would not help
    assert all(reply.declined and "content filter" in (reply.failed or "") for reply in replies)
    assert str(client.usage).startswith("10 requests (0 failed, 0 retries)")
