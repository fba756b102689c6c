"""Requests to a server, and its replies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

MAX_TOKEN_COUNT = 10**9  # more than one request can take: a server that counts higher does not count


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a dialogue. `images` are PNG bytes and are sent before the text."""

    role: Literal["system", "user", "assistant"]
    text: str
    images: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question to a server. `schema` is a JSON schema the answer shall follow: asked for, never guaranteed.

    Equal requests share one stored reply: whoever wants several samples of one prompt gives each its own `seed`.
    A text for which `readable` is false is returned like any other but not stored: it would come back each time.
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
    """What came back: `text`, not blank, or `failed` with a short reason; exactly one of the two is set.

    `seconds` is the time the request took, waits for a retry included, the wait for a free connection not; 0 for a
    stored reply. Token counts are the server's own, 0 where it gives none. `cut`: the token limit was reached.
    `declined`: it failed because the model or a filter had nothing to give, while the server is well.
    """

    text: str | None = None
    failed: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    cached: bool = False
    cut: bool = False
    declined: bool = False

    @property
    def answered(self) -> bool:
        """Whether the server did its part: it gave a text, or its model declined or reached the token limit."""
        return self.failed is None or self.declined or self.cut

    def __post_init__(self) -> None:
        if (self.text is None) == (self.failed is None):
            raise ValueError("a reply has either a text or a reason why it failed")
