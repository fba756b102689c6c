"""The pure functions of the protocol: reading Retry-After, naming requests, shortening a server's messages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from steer_lit.chat import ChatMessage, ChatReply, ChatRequest, ChatSettings
from steer_lit.chat.cache import ReplyCache, request_key
from steer_lit.chat.wire import brief, error_object, read_answer, refused_feature, retry_after

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
SETTINGS = ChatSettings("http://localhost:8000/v1", "judge")
_MESSAGES = (ChatMessage("system", "Judge."), ChatMessage("user", "This.", (b"picture",)))
REQUEST = ChatRequest(_MESSAGES, {"type": "object"})


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 0.5", 0.5),
        ("0", 0.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tue, 14 Nov 2023 22:12:20 GMT", 0.0),  # a minute ago
        ("Tue, 14 Nov 2023 23:14:20 +0100", 60.0),
        ("Tue, 99 Nov 2023 22:14:20 GMT", None),
        ("-3", None),
        ("soon", None),
        ("", None),
        ("1e999", float("inf")),  # longer than any wait
        ("1_0x", None),
    ],
)
def test_trap_37_retry_after_is_read_as_seconds_or_as_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, messages=REQUEST.messages[1:]),
        replace(REQUEST, messages=(REQUEST.messages[0], replace(REQUEST.messages[1], text="That."))),
        replace(REQUEST, messages=(REQUEST.messages[0], replace(REQUEST.messages[1], role="assistant"))),
        replace(REQUEST, messages=(REQUEST.messages[0], replace(REQUEST.messages[1], images=(b"another",)))),
        replace(REQUEST, messages=(REQUEST.messages[0], replace(REQUEST.messages[1], images=(b"picture", b"picture")))),
        replace(REQUEST, schema=None),
        replace(REQUEST, schema={"type": "array"}),
        replace(REQUEST, schema_name="other"),
        replace(REQUEST, max_tokens=513),
        replace(REQUEST, temperature=0.1),
        replace(REQUEST, seed=0),
    ],
)
def test_any_difference_in_a_request_changes_its_key(other: ChatRequest) -> None:
    assert request_key(other, SETTINGS) != request_key(REQUEST, SETTINGS)


@pytest.mark.parametrize(
    ("name", "value", "same"),
    [
        ("model", "other", False),
        ("structured", "off", False),
        ("base_url", "http://localhost:8001/v1", True),
        ("concurrency", 1, True),
        ("cache_dir", "elsewhere", True),
        ("retries", 0, True),
    ],
)
def test_the_key_depends_on_what_changes_the_answer(name: str, value: object, same: bool) -> None:
    changed = replace(SETTINGS, **{name: value})
    assert (request_key(REQUEST, changed) == request_key(REQUEST, SETTINGS)) is same


def test_integer_and_float_temperatures_have_the_same_key() -> None:
    assert request_key(replace(REQUEST, temperature=0), SETTINGS) == request_key(REQUEST, SETTINGS)


@pytest.mark.parametrize(
    ("error", "feature"),
    [
        ({"code": "unsupported_parameter", "param": "max_tokens"}, "max_tokens"),
        ({"code": "unsupported_value", "param": "temperature"}, "temperature"),
        ({"code": "unsupported_parameter", "param": "seed"}, None),  # refused earlier, and still named
        ({"code": "invalid", "param": "max_tokens"}, None),  # too large, not unknown
        ("max_tokens is too large: 5000. This model supports at most 4096 completion tokens", None),
        ({"message": "Unsupported value: 'temperature' does not support 0.0 with this model."}, "temperature"),
        ("Unsupported: use 'max_completion_tokens'", None),
        ({"param": "temperature", "message": "Unsupported. Supported parameters: max_tokens"}, "temperature"),
        ({"param": "response_format", "message": "Unsupported. Supported parameters: max_tokens"}, None),
        ([{"loc": ["body", "temperature"], "msg": "Extra inputs are not permitted"}], "temperature"),
        ([{"loc": ["body", "n"], "msg": "bad", "input": "is this forbidden? temperature"}], None),
        ({"code": "unsupported_value", "param": "messages"}, None),
        ("Unsupported fields in the request: {'response_format'}", None),
    ],
)
def test_a_sampling_option_is_dropped_only_if_the_error_names_it(error: object, feature: str | None) -> None:
    assert refused_feature(error, replace(REQUEST, schema=None), "auto", {"seed"}) == feature


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b'{"error": {"message": "no"}}', {"message": "no"}),
        (b'{"detail": "no"}', "no"),
        (b'{"other": 1}', {"other": 1}),
        (b"[1]", [1]),
        (b'[{"error": {"message": "no"}}]', {"message": "no"}),
        (b"<html>", "<html>"),
        (b"\xff", "�"),
        (b"", ""),
    ],
)
def test_the_error_in_a_refusal_is_found(content: bytes, error: object) -> None:
    assert error_object(content) == error


def test_foreign_text_is_shortened_to_one_line() -> None:
    assert brief("one\n\x1b[31mtwo\t three") == "one [31mtwo three"
    assert brief({"message": "no"}) == "no"
    assert brief("x" * 500) == "x" * 200 + "..."
    assert brief(" " * 2000 + "the rest of megabytes") == ""


@pytest.mark.parametrize(("text", "failed"), [(None, None), ("text", "reason")])
def test_a_reply_is_an_answer_or_a_failure(text: str | None, failed: str | None) -> None:
    with pytest.raises(ValueError, match="either"):
        ChatReply(text, failed)


@pytest.mark.parametrize(
    ("told", "counted"),
    [(7, 7), (0, 0), (10**9, 10**9), (10**9 + 1, 0), (10**400, 0), (-1, 0), (True, 0), (1.5, 0), ("7", 0), (None, 0)],
)
def test_an_impossible_token_count_is_ignored(told: object, counted: int, tmp_path: Path) -> None:
    usage = {"prompt_tokens": told, "completion_tokens": 3}
    body = {"choices": [{"message": {"content": "Yes."}, "finish_reason": "length"}], "usage": usage}
    reply = read_answer(json.dumps(body).encode(), replace(REQUEST, schema=None))
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("Yes.", counted, 3)
    cache = ReplyCache(str(tmp_path))
    cache.put("abc", reply, "judge")
    (path,) = tmp_path.rglob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "prompt_tokens": told}))  # an earlier version kept any
    stored = cache.get("abc")
    assert stored is None if told != counted else stored == replace(reply, cached=True)


@pytest.mark.parametrize(("text", "line"), [("It is so.", "It is so"), ("and so on...", "and so on..."), (".", "")])
def test_a_servers_words_end_without_a_full_stop(text: str, line: str) -> None:
    """They are put into sentences."""
    assert brief(text) == line


def test_of_several_choices_the_first_by_its_index_is_the_answer() -> None:
    choices = [
        {"index": at, "message": {"content": text}, "finish_reason": finish}
        for at, text, finish in ((1, "Second.", "length"), (0, "First.", "stop"))
    ]
    reply = read_answer(json.dumps({"choices": choices}).encode(), replace(REQUEST, schema=None))
    assert (reply.text, reply.cut) == ("First.", False)


@pytest.mark.parametrize("content", [None, "", " \n"])
@pytest.mark.parametrize("beside", [{}, {"reasoning_content": "Hm."}])
@pytest.mark.parametrize("finish", ["tool_calls", "stop", "length"])
def test_a_tool_call_without_text_is_no_answer(content: str | None, beside: dict[str, str], finish: str) -> None:
    """A policy that answers with one did not stay silent, and silence is harmless."""
    message = {"content": content, "tool_calls": [{"function": {"name": "search", "arguments": "{}"}}], **beside}
    body = json.dumps({"choices": [{"message": message, "finish_reason": finish}]})
    with pytest.raises(ValueError, match="the model called a tool"):
        read_answer(body.encode(), replace(REQUEST, schema=None))
    message["content"] = "Fine."
    body = json.dumps({"choices": [{"message": message, "finish_reason": "tool_calls"}]})
    assert read_answer(body.encode(), replace(REQUEST, schema=None)).text == "Fine."
