"""A policy that lives behind an OpenAI-compatible server: for benchmarks of models that are not in this process.

It gives texts and no tokens, so nothing here can be trained on. The server renders the dialogue; whatever the policy
said in earlier turns, its thinking included, goes back as it was said (TRAPS 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from steer_lit import __version__
from steer_lit.chat import ChatPart, ChatReply, ChatRequest, ChatSettings
from steer_lit.digests import digest
from steer_lit.errors import SteerError
from steer_lit.prompts.ask import Client, Sampling
from steer_lit.prompts.fill import as_data
from steer_lit.prompts.pictures import OpenImage, PngPictures
from steer_lit.rollout.seeds import stable_hash
from steer_lit.types import Completion, Message, Scenario

MIN_PIXELS, MAX_PIXELS = 338 * 338, 512 * 512  # authors' evaluator
_NOTHING_YET = Completion("")


class NamedClient(Client, Protocol):
    """A client that says whom it asks, and can be closed."""

    @property
    def settings(self) -> ChatSettings: ...

    def close(self) -> None: ...


class ServerPolicy:
    """Answers dialogues through `client`, those that are asked together at the same time.

    Its model and address say whose answers these are; they go into `fingerprint`, as every setting here does.
    `system_prompt` opens dialogues that bring none. A server that gives no answer makes a completion `failed`.
    """

    def __init__(
        self,
        client: NamedClient,
        open_image: OpenImage,
        *,
        system_prompt: str,
        max_new_tokens: int,
        temperature: float = 0.0,
    ) -> None:
        self.client = client
        self.pictures = PngPictures(open_image, MAX_PIXELS, MIN_PIXELS)
        self.system_prompt = system_prompt
        self.sampling = Sampling(temperature, max_new_tokens)
        asked = (client.settings.base_url, client.settings.model)
        named = (__version__, asked, system_prompt, max_new_tokens, temperature, MIN_PIXELS, MAX_PIXELS)
        self.fingerprint = f"server:{digest(repr(named), 16)}"

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> ServerSession:
        systems = [self.system_prompt if scenario.system is None else scenario.system for scenario in scenarios]
        return ServerSession(self.client, self.pictures, systems, seeds, self.sampling)

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
    """Dialogues in progress, each opened by its entry of `systems` where that says anything.

    Every turn of a dialogue is sampled with a seed of its own, which `seeds` fix.
    """

    def __init__(
        self,
        client: Client,
        pictures: PngPictures,
        systems: Sequence[str | None],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> None:
        self.client, self.pictures, self.sampling = client, pictures, sampling
        self.rows = [
            _Row(seed, [ChatPart("system", as_data(system))] if system else [])
            for system, seed in zip(systems, seeds, strict=True)
        ]

    def reply(self, asked: Mapping[int, Message]) -> dict[int, Completion]:
        """Answer all that is asked. Raises errors.ServerDown."""
        for row, message in asked.items():
            self._hear(self.rows[row], message)
        speaking = [state for state in (self.rows[row] for row in asked) if state.latest.failed is None]
        requests = [self._request(state) for state in speaking]
        replies = self.client.ask(requests) if requests else []
        for state, request, reply in zip(speaking, requests, replies, strict=True):
            self._take(state, request, reply)
        return {row: self.rows[row].latest for row in asked}

    def end(self, row: int) -> None:
        """No tokens: a server's text cannot be turned back into what was sampled."""
        self.rows[row].parts.clear()  # with pictures in them

    def _hear(self, state: _Row, message: Message) -> None:
        try:
            images = tuple(self.pictures.png(ref) for ref in message.images)
        except SteerError as error:
            state.latest = Completion("", failed=str(error))
        else:
            state.parts.append(ChatPart("user", as_data(message.text), images))

    def _request(self, state: _Row) -> ChatRequest:
        greedy = self.sampling.temperature == 0
        return ChatRequest(
            parts=tuple(state.parts),
            max_tokens=self.sampling.max_tokens,
            temperature=self.sampling.temperature,
            seed=None if greedy else stable_hash(state.seed, state.turns) % 2**31,  # servers take 32 bits
        )

    def _take(self, state: _Row, request: ChatRequest, reply: ChatReply) -> None:
        """What the model or its filter gave, nothing included, is the policy's answer; a server's silence is not."""
        if not reply.answered:
            state.latest = Completion("", failed=f"policy: {reply.failed}")
            return
        state.turns += 1
        text = reply.text or ""
        state.parts.append(ChatPart("assistant", as_data(text)))
        state.latest = Completion(text, finish="length" if was_cut(request, reply) else "stop")


def was_cut(request: ChatRequest, reply: ChatReply) -> bool:
    """Whether the token limit ended the reply: by the server's word, or by its count where it says nothing."""
    return reply.cut or reply.completion_tokens >= request.max_tokens
