"""A policy that lives behind an OpenAI-compatible server: for benchmarks of models that are not in this process.

It gives texts and no tokens, so nothing here can be trained on. The server renders the dialogue; whatever the policy
said in earlier turns, its thinking included, goes back as it was said (TRAPS 4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from steer_lit import __version__
from steer_lit.chat import ChatPart, ChatReply, ChatRequest, ChatSettings
from steer_lit.errors import SteerError
from steer_lit.prompts.fill import as_data
from steer_lit.prompts.pictures import OpenImage, Pictures
from steer_lit.rollout.seeds import stable_hash
from steer_lit.types import Completion, Message, Scenario

MAX_PIXELS = 512 * 512  # authors' evaluator
_NOTHING_YET = Completion("")


class Client(Protocol):
    """What of `chat.ChatClient` is needed here: whom it asks, and one reply per request, in order, failed ones too."""

    @property
    def settings(self) -> ChatSettings: ...

    def ask(self, requests: Sequence[ChatRequest]) -> list[ChatReply]: ...

    def close(self) -> None: ...


class ServerPolicy:
    """Answers dialogues through `client`, those of one batch at the same time.

    Its model and address say whose answers these are; they go into `fingerprint`, as every setting here does.
    `system_prompt` opens dialogues that bring none. A server that gives no answer makes a completion `failed`.
    """

    def __init__(
        self,
        client: Client,
        open_image: OpenImage,
        *,
        system_prompt: str,
        max_new_tokens: int,
        temperature: float = 0.0,
    ) -> None:
        self.client = client
        self.pictures = Pictures(open_image, MAX_PIXELS)
        self.system_prompt = system_prompt
        self.max_new_tokens, self.temperature = max_new_tokens, temperature
        asked = (client.settings.base_url, client.settings.model)
        named = (__version__, asked, system_prompt, max_new_tokens, temperature, MAX_PIXELS)
        self.fingerprint = f"server:{hashlib.sha256(repr(named).encode()).hexdigest()[:16]}"

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> ServerSession:
        return ServerSession(self, scenarios, seeds)

    def close(self) -> None:
        """Give the client's connections back."""
        self.client.close()


@dataclass(slots=True)
class _Row:
    """One dialogue in progress and its latest completion. Once that failed, nothing is asked any more."""

    seed: int
    parts: list[ChatPart] = field(default_factory=list)
    turns: int = 0
    latest: Completion = _NOTHING_YET


class ServerSession:
    """A batch of dialogues in progress."""

    def __init__(self, policy: ServerPolicy, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> None:
        self.policy = policy
        self.rows: list[_Row] = []
        for scenario, seed in zip(scenarios, seeds, strict=True):
            system = policy.system_prompt if scenario.system is None else scenario.system
            self.rows.append(_Row(seed, [ChatPart("system", as_data(system))] if system else []))

    def reply(self, rows: Sequence[int], messages: Sequence[Message]) -> list[Completion]:
        """Answer `messages[i]` in dialogue `rows[i]`. Raises errors.ServerDown."""
        states = [self.rows[row] for row in rows]
        for state, message in zip(states, messages, strict=True):
            self._hear(state, message)
        asked = [state for state in states if state.latest.failed is None]
        replies = self.policy.client.ask([self._request(state) for state in asked]) if asked else []
        for state, reply in zip(asked, replies, strict=True):
            self._take(state, reply)
        return [state.latest for state in states]

    def trace(self, row: int) -> None:
        """No tokens: a server's text cannot be turned back into what was sampled."""

    def _hear(self, state: _Row, message: Message) -> None:
        try:
            images = tuple(self.policy.pictures.png(ref) for ref in message.images)
        except SteerError as error:
            state.latest = Completion("", failed=str(error))
        else:
            state.parts.append(ChatPart("user", as_data(message.text), images))

    def _request(self, state: _Row) -> ChatRequest:
        greedy = self.policy.temperature == 0
        return ChatRequest(
            parts=tuple(state.parts),
            max_tokens=self.policy.max_new_tokens,
            temperature=self.policy.temperature,
            seed=None if greedy else stable_hash(state.seed, state.turns) % 2**31,  # servers take 32 bits
        )

    def _take(self, state: _Row, reply: ChatReply) -> None:
        """What the model or its filter gave, nothing included, is the policy's answer; a server's silence is not."""
        if not reply.answered:
            state.latest = Completion("", failed=f"policy: {reply.failed}")
            return
        state.turns += 1
        text = reply.text or ""
        state.parts.append(ChatPart("assistant", as_data(text)))
        cut = reply.cut or reply.completion_tokens >= self.policy.max_new_tokens
        state.latest = Completion(text, finish="length" if cut else "stop")
