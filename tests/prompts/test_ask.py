import io
import json

import pytest
from PIL import Image

from steer_lit.chat import ChatRequest
from steer_lit.data.images import open_image
from steer_lit.prompts.ask import Asker, Failed, Question, Sampling
from steer_lit.prompts.pictures import PngPictures
from steer_lit.prompts.reply import Reply
from steer_lit.types import ImageRef

KNIFE = ImageRef("mini://knife?colour=red&x=1&y=1&size=50&bg=0")


class Word(Reply):
    word: str


def word(text: str) -> str:
    return json.dumps({"word": text})


def asker(client: object, open_image: object = open_image) -> Asker[Word]:
    return Asker(Word, client, PngPictures(open_image, 2500), Sampling(temperature=0.5, max_tokens=40))  # type: ignore[arg-type]


def test_a_batch_is_asked_in_one_go_and_answered_in_order(answering) -> None:
    client = answering(lambda request: word(request.messages[1].text))
    answers = asker(client).ask([Question("be brief", str(number)) for number in range(5)])
    assert [answer.word for answer in answers] == ["0", "1", "2", "3", "4"]
    (batch,) = client.batches
    assert len(batch) == 5
    first = batch[0]
    assert [(part.role, part.text) for part in first.messages] == [("system", "be brief"), ("user", "0")]
    assert (first.max_tokens, first.temperature, first.schema_name) == (40, 0.5, "Word")
    assert first.schema["required"] == ["word"]


def test_a_seed_goes_along_in_32_bits_and_with_the_repair(answering) -> None:
    client = answering(lambda request: "odd")
    asker(client).ask([Question("s", "u", seed=2**40 + 5), Question("s", "u")])
    assert [[request.seed for request in batch] for batch in client.batches] == [[5, None]] * 2


def test_an_unreadable_reply_is_asked_for_once_more_with_the_reason(answering) -> None:
    def answer(request: ChatRequest) -> str:
        if len(request.messages) == 4:
            return word("second")
        return "odd" if request.messages[1].text == "1" else word("first")

    client = answering(answer)
    answers = asker(client).ask([Question("s", str(number)) for number in range(3)])
    assert [answer.word for answer in answers] == ["first", "second", "first"]
    again = client.batches[1]
    assert [part.role for part in again[0].messages] == ["system", "user", "assistant", "user"]
    assert again[0].messages[2].text == "odd"
    assert "| there is no JSON object in the reply" in again[0].messages[3].text
    assert len(client.batches) == 2


def test_trap_36_a_reply_that_is_unreadable_twice_has_failed(answering) -> None:
    client = answering(lambda request: "score: 10")
    reason = "unreadable twice: there is no JSON object in the reply; the reply begins 'score: 10'"
    assert asker(client).ask([Question("s", "u")]) == [Failed(reason)]
    assert [len(batch) for batch in client.batches] == [1, 1]


def test_what_is_quoted_of_an_unreadable_reply_is_short_and_shows_its_controls(answering) -> None:
    client = answering(lambda request: f"\x1b[2J\u202eno\n{'x' * 500}")
    (failed,) = asker(client).ask([Question("s", "u")])
    assert isinstance(failed, Failed)
    assert failed.reason.endswith(rf"; the reply begins '\x1b[2J\u202eno\n{'x' * 72}'...")
    assert failed.reason.isprintable()


def test_a_request_says_which_reply_can_be_read(answering) -> None:
    client = answering(lambda request: "odd")
    asker(client).ask([Question("s", "u", shown=word("theirs"))])
    for (request,) in client.batches:  # the repair as well
        said = {text: request.readable(text) for text in (word("own"), word("theirs"), "overloaded, try later")}
        assert list(said.values()) == [True, False, False]


def test_a_request_the_server_did_not_answer_is_not_repaired(answering) -> None:
    client = answering(lambda request: None)
    assert asker(client).ask([Question("s", "u")]) == [Failed("time-out")]
    assert len(client.batches) == 1


def test_a_server_that_goes_away_during_the_repair_gives_its_reason(answering) -> None:
    client = answering(lambda request: "odd" if len(request.messages) == 2 else None)
    assert asker(client).ask([Question("s", "u")]) == [Failed("time-out")]


def test_nothing_to_ask_asks_nothing(answering) -> None:
    client = answering(lambda request: word("x"))
    assert asker(client).ask([]) == []
    assert client.batches == []


def test_pictures_go_along_as_png_of_a_bounded_size(answering) -> None:
    client = answering(lambda request: word("x"))
    asker(client).ask([Question("s", "u", (KNIFE, KNIFE))])
    system, user = client.batches[0][0].messages
    assert system.images == ()
    assert len(user.images) == 2
    with Image.open(io.BytesIO(user.images[0])) as image:
        assert image.format == "PNG"
        # drawn at 112 x 112, at most 2500 pixels allowed
        assert image.size == (50, 50)


def test_a_picture_within_the_bound_keeps_its_pixels() -> None:
    with Image.open(io.BytesIO(PngPictures(open_image, 112 * 112).png(KNIFE))) as image:
        assert image.tobytes() == open_image(KNIFE).tobytes()


@pytest.mark.parametrize(
    ("size", "most", "least", "sent"),
    [
        ((51, 49), 2500, 1, (51, 49)),
        ((51, 50), 2500, 1, (50, 49)),  # not 51 x 50, which is more than the bound
        ((51, 50), 5000, 2500, (51, 50)),
        ((51, 49), 5000, 2500, (52, 50)),  # not 51 x 49, which is less than the bound
    ],
)
def test_a_picture_is_scaled_to_within_the_bounds(
    size: tuple[int, int], most: int, least: int, sent: tuple[int, int]
) -> None:
    pictures = PngPictures(lambda _: Image.new("RGB", size), most, least)
    with Image.open(io.BytesIO(pictures.png(KNIFE))) as image:
        assert image.size == sent


def test_a_picture_is_encoded_once() -> None:
    opened: list[ImageRef] = []

    def counting(ref: ImageRef) -> Image.Image:
        opened.append(ref)
        return open_image(ref)

    pictures = PngPictures(counting, 100)
    assert pictures.png(KNIFE) == pictures.png(KNIFE)
    assert opened == [KNIFE]


def test_a_broken_picture_fails_its_own_question_alone(answering) -> None:
    client = answering(lambda request: word("x"))
    broken = ImageRef("mini://nothing")
    first, second = asker(client).ask([Question("s", "u", (broken,)), Question("s", "u", (KNIFE,))])
    assert isinstance(first, Failed)
    assert "mini://nothing" in first.reason
    assert second.word == "x"
    assert [len(batch) for batch in client.batches] == [1]
