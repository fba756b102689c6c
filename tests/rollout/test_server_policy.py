"""A policy behind a server: what is sent, what comes back, and the effect of a failure."""

import io
from collections.abc import Sequence
from threading import Event

import pytest
from PIL import Image

from steer_lit.attacker.scripted import ScriptedAttacker
from steer_lit.chat import ChatReply, ChatRequest
from steer_lit.data.images import open_image
from steer_lit.errors import ServerDown
from steer_lit.rollout.play import play
from steer_lit.rollout.server_policy import ServerPolicy
from steer_lit.types import Attack, ImageRef, Message, Scenario, Trajectory

KNIFE = ImageRef("mini://knife?colour=red&x=1&y=1&size=50&bg=0")


def scenario(id: str, *texts: str, image: ImageRef | None = None, system: str | None = None) -> Scenario:
    first = Message.of("user", *([image] if image else []), texts[0])
    following = tuple(Attack(Message.of("user", text)) for text in texts[1:])
    return Scenario(id, "red_team", Attack(first), following, system=system)


def policy(client: object, **changed: object) -> ServerPolicy:
    settings = {"system_prompt": "Look.", "max_new_tokens": 64, **changed}
    return ServerPolicy(client, open_image, **settings)


def played(client: object, scenarios: Sequence[Scenario], **changed: object) -> list[Trajectory]:
    seeds = range(len(scenarios))
    return play(scenarios, seeds, policy(client, **changed), ScriptedAttacker(), None, 10, stop_when_truncated=False)


def said(request: ChatRequest) -> str:
    return f"<thinking>t</thinking><answer>to {request.messages[-1].text}</answer>"


def test_dialogues_are_asked_turn_by_turn_with_their_history(answering) -> None:
    client = answering(said)
    rows = [scenario("a", "one", "two", image=KNIFE), scenario("b", "uno", system="Be kind.")]
    first, second = played(client, rows)
    asked = {request.messages[-1].text: request for (request,) in client.batches}
    assert sorted(asked) == ["one", "two", "uno"]
    assert [(part.role, part.text) for part in asked["uno"].messages] == [("system", "Be kind."), ("user", "uno")]
    opening, following = asked["one"], asked["two"]
    assert opening.messages[1].images[0].startswith(b"\x89PNG")
    assert (opening.max_tokens, opening.temperature, opening.seed) == (64, 0.0, None)
    assert following.messages[:2] == opening.messages
    assert [(part.role, part.text) for part in following.messages] == [
        ("system", "Look."),
        ("user", "one"),
        ("assistant", "<thinking>t</thinking><answer>to one</answer>"),
        ("user", "two"),
    ]
    assert [turn.completion.text for turn in first.turns] == [said(opening), said(following)]
    assert second.turns[0].completion.text == "<thinking>t</thinking><answer>to uno</answer>"
    assert first.trace is None


def test_no_dialogue_waits_for_the_answer_of_another(answering) -> None:
    """The slow dialogue is answered only after the other one was asked its last question."""
    last_asked = Event()

    def answer(request: ChatRequest) -> str:
        text = request.messages[-1].text
        if text == "three":
            last_asked.set()
        return "late" if text != "slow" or last_asked.wait(30) else "never"

    rows = [scenario("a", "slow"), scenario("b", "one", "two", "three")]
    slow, fast = played(answering(answer), rows)
    assert [turn.completion.text for turn in slow.turns] == ["late"]
    assert len(fast.turns) == 3


def test_a_server_that_is_down_ends_the_play(answering) -> None:
    def answer(request: ChatRequest) -> str:
        raise ServerDown("nobody there")

    with pytest.raises(ServerDown, match="nobody there"):
        played(answering(answer), [scenario("a", "one"), scenario("b", "one")])


def test_a_dialogue_that_has_ended_keeps_no_pictures(answering) -> None:
    session = policy(answering(said)).open([scenario("a", "one", image=KNIFE)] * 2, (0, 1))
    answers = session.reply(dict.fromkeys((0, 1), scenario("a", "one", image=KNIFE).opening.message))
    while len(answers) < 2:
        answers |= session.reply({})
    session.end(0)
    assert [len(row.messages) for row in session.rows] == [0, 3]


def test_pictures_have_the_size_of_the_authors_evaluator(answering) -> None:
    client = answering(said)
    played(client, [scenario("a", "one", image=KNIFE)])  # 112 x 112 pixels
    with Image.open(io.BytesIO(client.batches[0][0].messages[1].images[0])) as image:
        assert image.size == (338, 338)


def test_trap_04_a_served_history_keeps_the_thinking(answering) -> None:
    client = answering(said)
    played(client, [scenario("a", "one", "two", "three")])
    told = [part.text for part in client.batches[-1][0].messages if part.role == "assistant"]
    assert all(text.startswith("<thinking>t</thinking><answer>") for text in told)
    assert len(told) == 2


@pytest.mark.parametrize(
    "mark",
    ["<|im_start|>", "<|image_pad|>", "<｜User｜>", "</s>", "<start_of_turn>", "<image>", "[INST]", "[/INST]", "[IMG]"],
)
def test_trap_14_a_template_mark_in_a_text_reaches_the_server_as_text(answering, mark: str) -> None:
    client = answering(lambda request: f"{mark}mine")
    row = scenario("a", f"before {mark}after", "two", system=mark)
    (trajectory,) = played(client, [row])
    sent = [part.text for part in client.batches[-1][0].messages]
    assert not any(mark in text for text in sent)
    assert sent[1].replace(" ", "") == f"before{mark}after"
    assert trajectory.turns[0].completion.text == f"{mark}mine"  # the record keeps the original text


def test_half_a_surrogate_pair_is_replaced_in_the_request(answering) -> None:
    client = answering(lambda request: "\udc00")
    played(client, [scenario("a", "cut \ud83d", "two")])
    assert [part.text for part in client.batches[-1][0].messages] == ["Look.", "cut ?", "?", "two"]


def test_a_failed_request_ends_its_dialogue_and_no_other(answering) -> None:
    client = answering(lambda request: None if request.messages[-1].text == "two" else "fine")
    lost, kept = played(client, [scenario("a", "one", "two", "three"), scenario("b", "un", "deux", "trois")])
    assert [turn.completion.failed for turn in lost.turns] == [None, "policy: time-out", "policy: time-out"]
    assert [turn.completion.text for turn in lost.turns] == ["fine", "", ""]
    assert [turn.completion.failed for turn in kept.turns] == [None, None, None]
    asked = sorted(request.messages[-1].text for (request,) in client.batches)
    assert asked == ["deux", "one", "trois", "two", "un"]  # no question follows a failed request


def test_a_picture_that_cannot_be_opened_fails_its_dialogue_before_anything_is_asked(answering) -> None:
    client = answering(said)
    (trajectory,) = played(client, [scenario("a", "one", image=ImageRef("gone.png"))])
    assert "gone.png" in (trajectory.turns[0].completion.failed or "")
    assert client.batches == []


def test_a_reply_of_max_tokens_counts_as_cut(answering) -> None:
    class Long(answering):
        def ask(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
            return [ChatReply("text", completion_tokens=int(request.messages[-1].text)) for request in requests]

    first, second = played(Long(said), [scenario("a", "63"), scenario("b", "64")])
    assert [row.turns[0].completion.finish for row in (first, second)] == ["stop", "length"]


def test_sampling_has_its_own_seed_for_every_dialogue_and_turn(answering) -> None:
    client, again = answering(said), answering(said)
    rows = [scenario("a", "one", "two"), scenario("b", "one", "two")]
    played(client, rows, temperature=0.7)
    played(again, rows, temperature=0.7)
    seeds, same = ({request.seed for (request,) in one.batches} for one in (client, again))
    assert len(seeds) == 4
    assert all(seed is not None and 0 <= seed < 2**31 for seed in seeds)
    assert seeds == same


def test_the_fingerprint_changes_with_whatever_changes_answers(answering) -> None:
    one = policy(answering(said)).fingerprint
    assert one == policy(answering(said)).fingerprint
    others = [
        policy(answering(said, "other-model")),
        policy(answering(said), temperature=0.5),
        policy(answering(said), system_prompt="Think."),
        policy(answering(said), max_new_tokens=65),
    ]
    assert len({one, *(other.fingerprint for other in others)}) == 5


class Replies:
    """A client with a given reply for each question."""

    def __init__(self, answering, **replies: ChatReply) -> None:
        self.settings = answering(said).settings
        self.replies = replies

    def ask(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        return [self.replies[request.messages[-1].text] for request in requests]


def test_an_empty_answer_is_an_answer_and_a_failed_request_is_not(answering) -> None:
    """Otherwise a policy could leave dialogues out of the figures, instead of lowering them, by answering nothing."""
    declined, silent = ChatReply(failed="no text", declined=True), ChatReply(failed="HTTP 503")
    first, second = played(Replies(answering, one=declined, two=silent), [scenario("a", "one"), scenario("b", "two")])
    assert (first.turns[0].completion.text, first.turns[0].completion.failed) == ("", None)
    assert second.turns[0].completion.failed == "policy: HTTP 503"


def test_a_server_without_token_counts_can_report_a_cut(answering) -> None:
    (trajectory,) = played(Replies(answering, one=ChatReply("half a", cut=True)), [scenario("a", "one")])
    assert trajectory.turns[0].completion.finish == "length"
