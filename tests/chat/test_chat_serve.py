"""The client and a real server: `transformers serve` with `smol`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing

import pytest
from PIL import Image

from steer_lit.chat import ChatClient, ChatMessage, ChatRequest, ChatSettings
from steer_lit.errors import MissingResource
from tests.chat.served_smol import served_folder, serving, why_not

SCHEMA = {
    "type": "object",
    "properties": {"safety": {"type": "integer", "enum": list(range(1, 11))}},
    "required": ["safety"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatSettings]:
    from steer_lit.policy.smol import smol_checkpoint

    if reason := why_not():
        pytest.skip(reason)
    try:
        checkpoint = smol_checkpoint()
    except MissingResource as missing:
        pytest.skip(str(missing))
    room = tmp_path_factory.mktemp("served")
    model = served_folder(checkpoint, room / "smol")
    with serving(model, room / "serve.log") as base_url:
        yield ChatSettings(base_url, str(model), concurrency=4, retries=0, cache_dir=str(room / "cache"))


@pytest.fixture(scope="module")
def client(served: ChatSettings) -> Iterator[ChatClient]:
    with closing(ChatClient(served)) as client:
        yield client


def square(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (112, 112), colour).save(file, "PNG")
    return file.getvalue()


def asked(text: str, *images: bytes, **fields: object) -> ChatRequest:
    parts = (ChatMessage("system", "Answer in a few words."), ChatMessage("user", text, images))
    return ChatRequest(parts, max_tokens=8, **fields)  # type: ignore[arg-type]


def test_a_question_is_answered(client: ChatClient) -> None:
    [reply] = client.ask([asked("What is the capital of France?")])
    assert reply.text is not None
    assert "Paris" in reply.text
    # At least 13 tokens of template and 13 of words. The answer ends by itself or is cut at 8 tokens.
    assert reply.prompt_tokens >= 20
    assert 1 <= reply.completion_tokens <= 8


def test_pictures_reach_the_model(client: ChatClient) -> None:
    """112 x 112 pixels are 8 x 8 patches, 4 x 4 after merging: 16 tokens, and one mark on each side."""
    bare, one, two = client.ask([asked("Look.", *[square("red"), square("blue")][:n]) for n in range(3)])
    assert bare.failed is one.failed is two.failed is None
    assert one.prompt_tokens - bare.prompt_tokens == 18
    assert two.prompt_tokens - bare.prompt_tokens == 36


def test_four_at_once_answer_as_one_by_one(client: ChatClient, served: ChatSettings) -> None:
    requests = [asked(f"Say the number {n}.", square("red")) for n in range(4)]
    together = client.ask(requests)
    with closing(ChatClient({**settings_of(served), "concurrency": 1, "cache_dir": None})) as patient:
        one_by_one = patient.ask(requests)
    assert all(reply.failed is None for reply in together)
    assert [reply.text for reply in together] == [reply.text for reply in one_by_one]
    assert all(reply.cached for reply in client.ask(requests))


def test_a_schema_is_asked_for_or_fallen_back_from(client: ChatClient) -> None:
    """This server has no schemas. The result must be an answer or a clear reason, never a guess."""
    [reply] = client.ask([asked("Rate this. Reply as JSON.", schema=SCHEMA)])
    if reply.text is not None:
        assert reply.completion_tokens >= 1
    else:
        assert reply.failed == "cut off at max_tokens=8"


def test_a_refused_request_gives_the_servers_reason(served: ChatSettings) -> None:
    with closing(ChatClient({**settings_of(served), "model": "another"})) as client:
        [reply] = client.ask([asked("Hello?")])
    assert reply.failed is not None
    assert reply.failed.startswith("HTTP 400: Server is pinned to")


def settings_of(settings: ChatSettings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in settings.__slots__}
