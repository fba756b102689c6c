"""Requests to a server, and its replies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

MAX_TOKEN_COUNT = 10**9  # more than one request can take: a higher count is not believed


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a dialogue. `images` are PNG bytes and are sent before the text."""

    role: Literal["system", "user", "assistant"]
    text: str
    images: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question to a server. `schema` is a JSON schema that the answer should follow; no server guarantees it.

    Equal requests share one stored reply: for several samples of one prompt, give each its own `seed`. A text that
    `readable` refuses is returned like any other but not stored, or it would come back each time.
    """

    messages: tuple[ChatMessage, ...]
    schema: Mapping[str, Any] | None = None
    schema_name: str = "reply"
    max_tokens: int = 512
    temperature: float = 0.0
    seed: int | None = None
    readable: Callable[[str], bool] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ChatReply:
    """The answer to a request: `text`, not blank, or `failed`, a short reason; exactly one of the two is set.

    `seconds` is the time the request took, with waits for a retry and without the wait for a free connection; 0 for a
    stored reply. Token counts are the server's own, 0 if it gives none. `cut`: the token limit was reached.
    `declined`: the request failed because the model or a filter gave nothing, though the server works. `model`: who
    answered, as the server names it: `gpt-4o-2024-08-06`, say, where `gpt-4o` was asked; "" if it does not say.
    """

    text: str | None = None
    failed: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    cached: bool = False
    cut: bool = False
    declined: bool = False
    model: str = ""

    @property
    def answered(self) -> bool:
        """Whether the server did its part: it gave a text, or its model declined or reached the token limit."""
        return self.failed is None or self.declined or self.cut

    def __post_init__(self) -> None:
        if (self.text is None) == (self.failed is None):
            raise ValueError("a reply has either a text or a reason why it failed")
