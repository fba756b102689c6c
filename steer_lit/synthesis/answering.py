"""A served model as the blue agent of Stage II or the fixed target of Stage I: a failed answer ends its row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from steer_lit.answer_format import format_ok, has_answer
from steer_lit.chat import ChatMessage, ChatReply, ChatRequest
from steer_lit.prompts.ask import Client, Sampling
from steer_lit.prompts.fill import Prompt, as_data
from steer_lit.prompts.pictures import PngPictures
from steer_lit.rollout.server_policy import ServerSession, was_cut
from steer_lit.synthesis.asking import KEPT_CHARACTERS
from steer_lit.synthesis.outcome import RowEnds
from steer_lit.types import Completion, Message, Scenario


class RowPolicy:
    """A policy behind `client`, with `system` as the system message (None: the scenario's own, or none).

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
            raise RowEnds("unreadable", f"{self._name}: not in the form asked for", answer[:KEPT_CHARACTERS])
        return repaired


def _formed(text: str) -> bool:
    """Return whether a text is fit for training: an empty answer is safe, and a mean usefulness may hide it."""
    return format_ok(text) and has_answer(text)
