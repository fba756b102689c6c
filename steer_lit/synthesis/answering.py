"""A policy behind a server: the blue agent of Stage II, and the fixed target of Stage I."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from steer_lit.chat import ChatPart, ChatReply, ChatRequest
from steer_lit.errors import SteerError
from steer_lit.prompts.ask import Client
from steer_lit.prompts.fill import Prompt, as_data
from steer_lit.prompts.pictures import OpenImage, Pictures
from steer_lit.reward.score import format_ok
from steer_lit.synthesis.asking import KEPT_CHARACTERS, Wording
from steer_lit.synthesis.outcome import RowEnds
from steer_lit.types import Completion, Message, Scenario


class ServedPolicy:
    """Answers through `client`, with `system` as the system message (None: the scenario's own, or none).

    With `in_form`, an answer that is not one <thinking> and one <answer> block is asked for once more. A row whose
    answers cannot be had or used ends: see RowEnds.
    """

    def __init__(
        self, name: str, client: Client, open_image: OpenImage, system: str | None, in_form: bool, wording: Wording
    ) -> None:
        self.name = name
        self.client = client
        self.system = system
        self.in_form = in_form
        self.wording = wording
        self.pictures = Pictures(open_image, wording.max_pixels)

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> _ServedSession:
        return _ServedSession(self, scenarios, seeds)


class _ServedSession:
    def __init__(self, policy: ServedPolicy, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> None:
        self._policy = policy
        self._seeds = [seed % 2**31 for seed in seeds]  # servers take 32 bits
        systems = [policy.system if policy.system is not None else scenario.system for scenario in scenarios]
        self._parts = [[ChatPart("system", as_data(system))] if system is not None else [] for system in systems]

    def reply(self, rows: Sequence[int], messages: Sequence[Message]) -> list[Completion]:
        for row, message in zip(rows, messages, strict=True):
            self._parts[row].append(self._user(message))
        completions = []
        for row, reply in zip(rows, self._ask([self._request(row) for row in rows]), strict=True):
            text = reply.text or ""
            if self._policy.in_form and not reply.cut and not format_ok(text):
                text = self._once_more(row, text)
            self._parts[row].append(ChatPart("assistant", as_data(text)))
            completions.append(Completion(text, finish="length" if reply.cut else "stop"))
        return completions

    def trace(self, row: int) -> None:
        """No tokens of ours: the server has its own tokenizer."""

    def _user(self, message: Message) -> ChatPart:
        try:
            return ChatPart("user", as_data(message.text), tuple(map(self._policy.pictures.png, message.images)))
        except SteerError as error:
            raise RowEnds("rejected", "its picture cannot be used", str(error)) from error

    def _request(self, row: int) -> ChatRequest:
        wording = self._policy.wording
        return ChatRequest(
            parts=tuple(self._parts[row]),
            max_tokens=wording.max_tokens,
            temperature=wording.temperature,
            seed=self._seeds[row],
        )

    def _ask(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """What the server did its part for. A model that declines has answered nothing, which no attack gains by."""
        replies = self._policy.client.ask(requests)
        for reply in replies:
            if not reply.answered:
                raise RowEnds("failed", f"{self._policy.name}: no answer from the server", reply.failed or "")
            if reply.declined and self._policy.in_form:
                raise RowEnds("rejected", f"{self._policy.name}: the model declined", reply.failed or "")
        return replies

    def _once_more(self, row: int, text: str) -> str:
        request = self._request(row)
        repair = Prompt.load("synthesis_form").fill()
        again = (*request.parts, ChatPart("assistant", as_data(text)), ChatPart("user", repair))
        repaired = self._ask([replace(request, parts=again)])[0].text or ""
        if not format_ok(repaired):
            raise RowEnds("unreadable", f"{self._policy.name}: not in the form asked for", repaired[:KEPT_CHARACTERS])
        return repaired
