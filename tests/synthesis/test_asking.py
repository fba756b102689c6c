"""Synthesis with a policy behind a server: the benchmark's session, and rows that end if it gives no answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from steer_lit.chat import ChatReply, ChatRequest
from steer_lit.data.images import open_image
from steer_lit.prompts.ask import Client, Sampling
from steer_lit.prompts.pictures import PngPictures
from steer_lit.rollout.server_policy import ServerPolicy
from steer_lit.synthesis.asking import RowPolicy
from steer_lit.synthesis.outcome import RowEnds
from steer_lit.types import Attack, ImageRef, Message, Scenario
from tests.synthesis.played import SAFE

ASKED = [Message.of("user", "One?"), Message.of("user", "Two?")]
ROW = Scenario("q", "red_team", Attack(ASKED[0]), system="Be brief.")


class Counts:
    """A client that answers `text` and reports `tokens`. Keeps the requests."""

    def __init__(self, text: str = SAFE, tokens: int = 9) -> None:
        self.reply = ChatReply(text, completion_tokens=tokens)
        self.asked: list[ChatRequest] = []

    def ask(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        self.asked += requests
        return [self.reply] * len(requests)


def policy(client: Client, temperature: float = 0.7, in_form: bool = True) -> RowPolicy:
    return RowPolicy("blue agent", client, PngPictures(open_image, 512 * 512), None, in_form, Sampling(temperature, 64))


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_benchmark_and_synthesis_send_the_same_requests_for_the_same_seed(answering: Any, temperature: float) -> None:
    client, named = Counts(), answering(lambda request: SAFE)
    benched = ServerPolicy(named, open_image, system_prompt="", max_new_tokens=64, temperature=temperature)
    for session in (policy(client, temperature).open([ROW], [7]), benched.open([ROW], [7])):
        for message in ASKED:
            session.reply({0: message})
    assert client.asked == [request for batch in named.batches for request in batch]
    seeds = [request.seed for request in client.asked]
    assert seeds == [None, None] if temperature == 0 else len(set(seeds)) == 2


@pytest.mark.parametrize("text", [SAFE, "<thinking>On and on"])
def test_an_answer_of_max_tokens_counts_as_cut_and_is_not_repeated(text: str) -> None:
    client = Counts(text, tokens=64)
    completion = policy(client).open([ROW], [7]).reply({0: ASKED[0]})[0]
    assert (completion.text, completion.finish) == (text, "length")
    assert len(client.asked) == 1


@pytest.mark.parametrize("mumbled", ["Well.", "<thinking>A hat.</thinking><answer> </answer>"])
def test_a_repaired_answer_is_the_recorded_one(mumbled: str) -> None:
    class Mumbles(Counts):
        def ask(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
            first = not self.asked
            return [ChatReply(mumbled)] if super().ask(requests) and first else [self.reply]

    client = Mumbles()
    session = policy(client).open([ROW], [7])
    assert [session.reply({0: message})[0].text for message in ASKED] == [SAFE, SAFE]
    told = [part.text for part in client.asked[-1].messages]
    assert told == ["Be brief.", "One?", SAFE, "Two?"]


def test_a_picture_that_cannot_be_opened_ends_the_row_without_a_request() -> None:
    client = Counts()
    with pytest.raises(RowEnds, match="its picture cannot be used") as caught:
        policy(client).open([ROW], [7]).reply({0: Message.of("user", ImageRef("gone.png"), "What?")})
    assert caught.value.status == "rejected"
    assert "gone.png" in caught.value.detail
    assert client.asked == []
