"""Asks a model about dialogues in one batch, a JSON object each; asks once more where a reply is unreadable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, Protocol

from steer_lit.chat import ChatMessage, ChatReply, ChatRequest, ChatSettings
from steer_lit.digests import digest
from steer_lit.errors import SteerError
from steer_lit.prompts.fill import Prompt, as_data, fence
from steer_lit.prompts.pictures import PngPictures
from steer_lit.prompts.reply import Shape, Unreadable, read_reply
from steer_lit.prompts.transcript import pictures
from steer_lit.types import ImageRef, OpenImage, Turn

MAX_QUESTION = 600  # characters of a user message that a model writes; a longer one is no chat message
_REPEATED = 2000  # characters of an unreadable reply that its author is shown again


class Client(Protocol):
    """What of `chat.ChatClient` is needed here: one reply per request, in order, failed ones included."""

    def ask(self, requests: Sequence[ChatRequest]) -> list[ChatReply]: ...


class NamedClient(Client, Protocol):
    """A client that says whom it asks, so that whoever asks through it has a fingerprint."""

    @property
    def settings(self) -> ChatSettings: ...


@dataclass(frozen=True, slots=True)
class Question:
    """`system` says how to judge, `text` holds the case, `shown` is all untrusted text in it, as it was written and
    as it stands there. `seed` fixes how the answer is sampled.
    """

    system: str
    text: str
    pictures: tuple[ImageRef, ...] = ()
    shown: str = ""
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a model is asked to write: sampling `temperature`, `max_tokens` of a reply."""

    temperature: float
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Why no answer could be had. `reply` is the last that came back, None where nothing could be asked."""

    reason: str
    reply: ChatReply | None = field(default=None, compare=False)


class Asker(Generic[Shape]):
    """Asks for one `shape` through `client`. Pictures go along as `pictures` has them.

    An unreadable reply is shown to its author once, with what is wrong with it. A question has failed if the second
    reply is unreadable too, if the server did not answer, or if a picture cannot be opened.
    """

    def __init__(self, shape: type[Shape], client: Client, pictures: PngPictures, sampling: Sampling) -> None:
        self._shape = shape
        self._client = client
        self._pictures = pictures
        self._sampling = sampling
        self._repair = Prompt.load("repair")

    def ask(self, questions: Sequence[Question]) -> list[Shape | Failed]:
        """One answer per question, in order. Raises `errors.ServerDown` where the server has stopped answering."""
        requests = [self._request(question) for question in questions]
        answers: list[Shape | Failed] = [
            request if isinstance(request, Failed) else Failed("not asked") for request in requests
        ]
        waiting = {at: request for at, request in enumerate(requests) if isinstance(request, ChatRequest)}
        for last in (False, True):
            asked = list(waiting)
            replies = self._client.ask([waiting[at] for at in asked]) if asked else []
            for at, reply in zip(asked, replies, strict=True):
                request = waiting.pop(at)
                if reply.text is None:
                    answers[at] = Failed(reply.failed or "the server gave no reason", reply)
                    continue
                try:
                    answers[at] = read_reply(reply.text, self._shape, questions[at].shown)
                except Unreadable as error:
                    answers[at] = Failed(f"unreadable twice: {error}", reply)
                    if not last:
                        waiting[at] = self._once_more(request, reply.text, str(error))
        return answers

    def _request(self, question: Question) -> ChatRequest | Failed:
        try:
            images = tuple(self._pictures.png(ref) for ref in question.pictures)
        except SteerError as error:
            return Failed(str(error))
        return ChatRequest(
            messages=(ChatMessage("system", question.system), ChatMessage("user", question.text, images)),
            schema=self._shape.schema_for_server(),
            schema_name=self._shape.__name__,
            max_tokens=self._sampling.max_tokens,
            temperature=self._sampling.temperature,
            seed=None if question.seed is None else question.seed % 2**31,  # servers take 32 bits
            readable=partial(self._reads, question.shown),
        )

    def _reads(self, shown: str, text: str) -> bool:
        try:
            read_reply(text, self._shape, shown)
        except Unreadable:
            return False
        return True

    def _once_more(self, request: ChatRequest, text: str, problem: str) -> ChatRequest:
        repair = self._repair.fill(problem=fence(problem))
        reply = ChatMessage("assistant", as_data(text[:_REPEATED]))
        return replace(request, messages=(*request.messages, reply, ChatMessage("user", repair)))


class TurnAsker(Asker[Shape]):
    """Asks about the last of some turns in the words of the prompts `<name>_system` and `<name>_user`."""

    def __init__(
        self,
        name: str,
        shape: type[Shape],
        client: NamedClient,
        open_image: OpenImage,
        max_tokens: int,
        temperature: float,
        max_pixels: int,
    ) -> None:
        super().__init__(shape, client, PngPictures(open_image, max_pixels), Sampling(temperature, max_tokens))
        self._named = client
        self._system, self._user = Prompt.load(f"{name}_system"), Prompt.load(f"{name}_user")
        self._settings = (max_tokens, temperature, max_pixels, (self._system.digest, self._user.digest))

    def fingerprint(self, own: object) -> str:
        """A text that changes with server, model, prompts and settings, and with `own`, a setting of whoever asks.

        Grades and dialogues are recorded under it: where it reads otherwise, they are made again.
        """
        server = (self._named.settings.base_url, self._named.settings.model)
        return f"llm:{digest(repr((server, own, *self._settings)), 12)}"

    def question(self, turns: Sequence[Turn], shown: str, **fields: str) -> Question:
        """The question with the turns' pictures; `fields` fill the user's prompt, `shown` is the untrusted text."""
        return Question(self._system.fill(), self._user.fill(**fields), pictures(turns), shown)
