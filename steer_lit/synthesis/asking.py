"""Models asked on behalf of one row, as writers, judges and players: a row that gets no usable answer ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from steer_lit.answer_format import format_ok, has_answer
from steer_lit.attacker.llm import AttackReply, LlmAttacker
from steer_lit.chat import ChatMessage, ChatReply, ChatRequest
from steer_lit.prompts.ask import MAX_QUESTION, Asker, Client, Failed, Question, Sampling
from steer_lit.prompts.fill import Prompt, as_data
from steer_lit.prompts.pictures import PngPictures
from steer_lit.prompts.reply import Shape
from steer_lit.rollout.server_policy import ServerSession, was_cut
from steer_lit.synthesis.outcome import RowEnds
from steer_lit.tutor.clauses import normalised, read_clauses
from steer_lit.tutor.llm import LlmTutor
from steer_lit.types import Completion, ImageRef, Message, Scenario, SoFar

_KEPT_CHARACTERS = 2000  # of a reply that could not be read


@dataclass(frozen=True, slots=True)
class RowAsker:
    """Asks `client` on behalf of rows, which share their `pictures`."""

    client: Client
    pictures: PngPictures
    sampling: Sampling

    def ask(
        self,
        step: str,
        shape: type[Shape],
        text: str,
        seed: int,
        pictures: Sequence[ImageRef] = (),
        shown: str = "",
    ) -> Shape:
        """Return the model's answer, sampled by the row's `seed`. `step` names the question in reasons; `shown` is the
        untrusted text within `text`.

        Raises RowEnds if there is no answer, as `_end_of_row` says.
        """
        system = Prompt.load("synthesis_system").fill()
        asker = Asker(shape, self.client, self.pictures, self.sampling)
        (answer,) = asker.ask([Question(system, text, tuple(pictures), shown, seed)])
        if isinstance(answer, Failed):
            raise _end_of_row(step, answer)
        return answer


class RowAttacker(LlmAttacker):
    """The red agent of Stage II, which rewrites each scripted turn after the opening (SaFeR-Steer, Eq. 12).

    If it cannot rewrite a turn, `attack` raises RowEnds: a turn asked as scripted would pass for a rewritten one.
    """

    def unwritten(self, dialogue: SoFar, answer: AttackReply | Failed) -> NoReturn:
        if isinstance(answer, Failed):
            raise _end_of_row("red agent", answer)
        question = answer.question.strip()
        message = f"{len(question):,} characters, want 1..{MAX_QUESTION}\n{question[:_KEPT_CHARACTERS]}"
        raise RowEnds("unreadable", "red agent: no message that can be asked", message)


class RowTutor(LlmTutor):
    """The tutor of Stage II. If a turn cannot be scored, `score` raises RowEnds."""

    def unscored(self, failed: Failed) -> NoReturn:
        raise _end_of_row("tutor", failed)


def _end_of_row(step: str, failed: Failed) -> RowEnds:
    """Return how a row without an answer ends: `failed` if the server gave none, `rejected` if the picture cannot be
    opened or the model declined, `unreadable` if two replies were not in the shape asked for.
    """
    if (reply := failed.reply) is None:
        return RowEnds("rejected", "its picture cannot be used", failed.reason)
    if not reply.answered:
        return RowEnds("failed", f"{step}: no answer from the server", failed.reason)
    text = (reply.text or reply.failed or "")[:_KEPT_CHARACTERS]
    if reply.declined or declines(text):
        return RowEnds("rejected", f"{step}: the model declined", text)
    return RowEnds("unreadable", f"{step}: unreadable", f"{failed.problem}\n{text}")


def declines(reply: str) -> bool:
    """Return whether a reply declines and has no object in it."""
    return "{" not in reply and any(
        clause.type == "declines" for clause in read_clauses(normalised(reply), "", frozenset())
    )


class RowPolicy:
    """The blue agent of Stage II or the fixed target of Stage I, behind `client`, with `system` as the system message
    (None: the scenario's own, or none).

    With `in_form`, an answer that is not one <thinking> block and one <answer> block with words in it is asked for
    once more. A row ends if an answer is missing or cannot be used: see RowEnds.
    """

    def __init__(
        self, name: str, client: Client, pictures: PngPictures, system: str | None, in_form: bool, sampling: Sampling
    ) -> None:
        self._client = _StrictClient(name, client, in_form)
        self._pictures = pictures
        self._system = system
        self._sampling = sampling

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> _StrictSession:
        systems = [scenario.system if self._system is None else self._system for scenario in scenarios]
        return _StrictSession(self._client, self._pictures, systems, seeds, self._sampling)


class _StrictSession(ServerSession):
    """A session whose client ends rows that it cannot answer, so that only a picture can still fail a completion."""

    def reply(self, asked: Mapping[int, Message]) -> dict[int, Completion]:
        completions = super().reply(asked)
        for completion in completions.values():
            if completion.failed is not None:
                raise RowEnds("rejected", "its picture cannot be used", completion.failed)
        return completions


class _StrictClient:
    """A client whose replies may all serve as answers of the policy `name`. Otherwise it raises RowEnds."""

    def __init__(self, name: str, client: Client, in_form: bool) -> None:
        self._name, self._client, self._in_form = name, client, in_form

    def ask(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        replies = self._answered(requests)
        return [
            reply
            if not self._in_form or was_cut(request, reply) or _formed(reply.text or "")
            else self._once_more(request, reply.text or "")
            for request, reply in zip(requests, replies, strict=True)
        ]

    def _answered(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """Return the replies, if all are answers. A target that declines has answered: no attack gains by that."""
        replies = self._client.ask(requests)
        for reply in replies:
            if not reply.answered:
                raise RowEnds("failed", f"{self._name}: no answer from the server", reply.failed or "")
            if reply.declined and self._in_form:
                raise RowEnds("rejected", f"{self._name}: the model declined", reply.failed or "")
        return replies

    def _once_more(self, request: ChatRequest, text: str) -> ChatReply:
        repair = Prompt.load("synthesis_form").fill()
        again = (*request.messages, ChatMessage("assistant", as_data(text)), ChatMessage("user", repair))
        (repaired,) = self._answered([replace(request, messages=again)])
        if not _formed(answer := repaired.text or ""):
            raise RowEnds("unreadable", f"{self._name}: not in the form asked for", answer[:_KEPT_CHARACTERS])
        return repaired


def _formed(text: str) -> bool:
    """Return whether a text is fit for training: an empty answer is safe, and a mean usefulness may hide it."""
    return format_ok(text) and has_answer(text)
