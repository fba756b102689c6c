"""Clients for the chat tests. They are closed at the end and do not see this machine's environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from steer_lit.chat import ChatClient, ChatMessage, ChatRequest, ChatSettings

MakeClient = Callable[..., ChatClient]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove keys and proxies: requests to loopback must not go through a proxy."""
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    for name in ("OPENAI_API_KEY", *proxies, *map(str.lower, proxies)):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def client_of() -> Iterator[MakeClient]:
    """`client_of(base_url, **settings)`: a client with a short wait before a retry and a long enough time-out."""
    with ExitStack() as stack:

        def make(base_url: str, **settings: Any) -> ChatClient:
            quick = {"model": "chaos", "connect_timeout": 10.0, "read_timeout": 10.0, "backoff": 0.01, "retries": 0}
            return stack.enter_context(closing(ChatClient(ChatSettings(base_url, **{**quick, **settings}))))

        yield make


@pytest.fixture(scope="session")
def question() -> Callable[..., ChatRequest]:
    """`question(text, **fields)`: a request with one user message."""
    return lambda text="Hello?", **fields: ChatRequest((ChatMessage("user", text),), **fields)
