"""A policy behind an OpenAI-compatible server: for benchmarks of models that are not in this process.

The server returns text and no tokens, so its answers cannot be trained on. It renders the dialogue; what the policy
said in earlier turns, its thinking included, is sent back as it was said (TRAPS 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from steer_lit import __version__
from steer_lit.chat import ChatMessage, ChatReply, ChatRequest
from steer_lit.digests import digest
from steer_lit.errors import SteerError
from steer_lit.prompts.ask import Client, NamedClient, Sampling
from steer_lit.prompts.fill import as_data
from steer_lit.prompts.pictures import MAX_SENT_PIXELS, PngPictures
from steer_lit.rollout.seeds import stable_hash
from steer_lit.rollout.threads import run_in_thread
from steer_lit.types import Completion, Finish, Message, OpenImage, Scenario
from steer_lit.waiting import first_done

MIN_PIXELS = 338 * 338  # authors' evaluator


class ServerPolicy:
    """A policy that answers dialogues through `client`, all of them at the same time.

    `fingerprint` covers the client's model and address and every setting here. `system_prompt` opens dialogues that
    bring none; `own_prompt`, "" for none, opens all of them. If the server gives no answer, the completion is `failed`.
    """

    def __init__(
        self,
        client: NamedClient,
        open_image: OpenImage,
        *,
        system_prompt: str,
        max_new_tokens: int,
        temperature: float = 0.0,
        own_prompt: str | None = None,
    ) -> None:
        self.client = client
        self.pictures = PngPictures(open_image, MAX_SENT_PIXELS, MIN_PIXELS)
        self._own = own_prompt is not None
        self.system_prompt = system_prompt if own_prompt is None else own_prompt
        self.sampling = Sampling(temperature, max_new_tokens)
        asked = (client.settings.base_url, client.settings.model)
        named = (__version__, asked, self.system_prompt, max_new_tokens, temperature, MIN_PIXELS, MAX_SENT_PIXELS)
        self.fingerprint = f"server:{digest(repr(named), 16)}{':prompted' if self._own else ''}"

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> ServerSession:
        systems = [self.system_prompt if self._own or row.system is None else row.system for row in scenarios]
        return ServerSession(self.client, self.pictures, systems, seeds, self.sampling)


@dataclass(slots=True)
class _Row:
    """One dialogue in progress. Once a completion has failed, all further turns get it and nothing is asked."""

    seed: int
    messages: list[ChatMessage] = field(default_factory=list)
    turns: int = 0
    failed: Completion | None = None


class ServerSession:
    """Dialogues in progress, each opened by its entry of `systems` if that is not empty.

    Every turn of a dialogue is sampled with its own seed, derived from `seeds`. No answer waits for a slower one.
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
            _Row(seed, [ChatMessage("system", as_data(system))] if system else [])
            for system, seed in zip(systems, seeds, strict=True)
        ]
        self._answering: dict[int, Future[tuple[ChatReply, Finish]]] = {}

    def reply(self, asked: Mapping[int, Message]) -> dict[int, Completion]:
        """Ask, and wait until some answers are there. Returns these. Raises errors.ServerDown."""
        answers = {row: failed for row, message in asked.items() if (failed := self._ask(row, message)) is not None}
        if self._answering and not answers:
            first_done(self._answering.values())
        for row in [row for row, reply in self._answering.items() if reply.done()]:
            answers[row] = self._take(self.rows[row], self._answering.pop(row).result())
        return answers

    def end(self, row: int) -> None:
        """Return no tokens: a server's text cannot be turned back into those sampled."""
        self.rows[row].messages.clear()  # they hold pictures

    def _ask(self, row: int, message: Message) -> Completion | None:
        """Start a request to the server. Returns a failed completion if nothing can be asked."""
        state = self.rows[row]
        if state.failed is None:
            try:
                images = tuple(self.pictures.png(ref) for ref in message.images)
            except SteerError as error:
                state.failed = Completion("", failed=str(error))
        if state.failed is not None:
            return state.failed
        state.messages.append(ChatMessage("user", as_data(message.text), images))
        self._answering[row] = run_in_thread(self._replied, self._request(state))
        return None

    def _request(self, state: _Row) -> ChatRequest:
        greedy = self.sampling.temperature == 0
        return ChatRequest(
            messages=tuple(state.messages),
            max_tokens=self.sampling.max_tokens,
            temperature=self.sampling.temperature,
            seed=None if greedy else stable_hash(state.seed, state.turns) % 2**31,  # servers take 32 bits
        )

    def _replied(self, request: ChatRequest) -> tuple[ChatReply, Finish]:
        (reply,) = self.client.ask([request])
        return reply, "length" if was_cut(request, reply) else "stop"

    def _take(self, state: _Row, replied: tuple[ChatReply, Finish]) -> Completion:
        """Take the reply of the model or its filter, even an empty one, as the answer; no reply is a failure."""
        reply, finish = replied
        if not reply.answered:
            state.failed = Completion("", failed=f"policy: {reply.failed}")
            return state.failed
        state.turns += 1
        text = reply.text or ""
        state.messages.append(ChatMessage("assistant", as_data(text)))
        return Completion(text, finish=finish, by=reply.model)


def was_cut(request: ChatRequest, reply: ChatReply) -> bool:
    """Return whether the token limit ended the reply, as the server says or else as its token count shows."""
    return reply.cut or reply.completion_tokens >= request.max_tokens
