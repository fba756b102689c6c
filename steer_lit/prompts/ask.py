"""Batches of questions to a model: each asks for a JSON object, and once more if the reply is unreadable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, Protocol

from steer_lit.chat import ChatMessage, ChatReply, ChatRequest, ChatSettings, ChatUsage
from steer_lit.digests import digest
from steer_lit.errors import SteerError
from steer_lit.prompts.fill import Prompt, as_data, fence
from steer_lit.prompts.pictures import PngPictures
from steer_lit.prompts.reply import Shape, Unreadable, read_reply
from steer_lit.prompts.transcript import pictures
from steer_lit.types import ImageRef, OpenImage, Turn

MAX_QUESTION = 600  # characters of a user message that a model writes; a longer one is no chat message
_REPEATED = 2000  # characters of an unreadable reply that its author is shown again
_QUOTED = 80  # characters of it that a user is shown


class Client(Protocol):
    """The part of `chat.ChatClient` needed here: one reply per request, in order, failed ones included."""

    def ask(self, requests: Sequence[ChatRequest]) -> list[ChatReply]: ...


class NamedClient(Client, Protocol):
    """A client that names the server and model it asks, for fingerprints, and what it has used, for `judge_check`."""

    @property
    def settings(self) -> ChatSettings: ...

    @property
    def usage(self) -> ChatUsage: ...


@dataclass(frozen=True, slots=True)
class Question:
    """A question: `system` says how to judge, `text` holds the case. `shown` is all untrusted text in `text`, both as
    written and as shown there. `seed` fixes how the answer is sampled.
    """

    system: str
    text: str
    pictures: tuple[ImageRef, ...] = ()
    shown: str = ""
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How replies are sampled: at `temperature`, with at most `max_tokens` each."""

    temperature: float
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a question has no answer. `reply` is the last one received, None if nothing could be asked; `problem` is what
    is wrong with one that was unreadable, for those who have the reply itself.
    """

    reason: str
    reply: ChatReply | None = field(default=None, compare=False)
    problem: str = field(default="", compare=False)


class Asker(Generic[Shape]):
    """Asks for replies of one `shape` through `client`. Pictures are sent as `pictures` encodes them.

    An unreadable reply is shown to its author once, with what is wrong with it. A question fails if the second reply
    is unreadable too, if the server does not answer, or if a picture cannot be opened.
    """

    def __init__(self, shape: type[Shape], client: Client, pictures: PngPictures, sampling: Sampling) -> None:
        self._shape = shape
        self._client = client
        self._pictures = pictures
        self._sampling = sampling
        self._repair = Prompt.load("repair")

    def ask(self, questions: Sequence[Question]) -> list[Shape | Failed]:
        """Return one answer per question, in order. Raises `errors.ServerDown` if the server has stopped answering."""
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
                    answers[at] = read_reply(reply.text, self._shape, questions[at].shown, reply.model)
                except Unreadable as error:
                    quoted = f"{reply.text[:_QUOTED]!r}{'...' if len(reply.text) > _QUOTED else ''}"
                    reason = f"unreadable twice: {error}; the reply begins {quoted}"
                    answers[at] = Failed(reason, reply, str(error))
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
    """Asks about the last of some turns, with the prompts `<name>_system` and `<name>_user`, of the folder `prompts` if
    it has them.
    """

    def __init__(
        self,
        name: str,
        shape: type[Shape],
        client: NamedClient,
        open_image: OpenImage,
        max_tokens: int,
        temperature: float,
        max_pixels: int,
        prompts: str | None,
    ) -> None:
        super().__init__(shape, client, PngPictures(open_image, max_pixels), Sampling(temperature, max_tokens))
        self._named = client
        self._system, self._user = Prompt.load(f"{name}_system", prompts), Prompt.load(f"{name}_user", prompts)
        prompts_asked = (self._system.digest, self._user.digest, self._repair.digest)
        self._settings = (max_tokens, temperature, max_pixels, prompts_asked)

    def fingerprint(self, own: object) -> str:
        """Return a text that changes with model, prompts and settings, and with `own`, a setting of the caller.

        Grades and dialogues are recorded under it. If it changes, they are made again. How replies are read is not in
        it: whoever changes that also changes `own`.
        """
        asked = self._named.settings
        model = (asked.model, asked.structured)  # by its name: the address may be another for each job of a cluster
        return f"llm:{digest(repr((model, own, *self._settings)), 12)}"

    def question(self, turns: Sequence[Turn], shown: str, **fields: str) -> Question:
        """Return a question with the turns' pictures. `fields` fill the user's prompt; `shown` is untrusted text."""
        return Question(self._system.fill(), self._user.fill(**fields), pictures(turns), shown)
