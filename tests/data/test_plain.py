"""Rows in common formats, and the choice of reader by a row's keys."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from steer_lit.data.plain import ANSWERS, QUESTIONS, read_answered, read_turns
from steer_lit.data.shapes import read_dialogue, read_scenario
from steer_lit.errors import RowError
from steer_lit.types import Dialogue, ImageRef, Message, Scenario

A = ImageRef("a.png")
HI = {"role": "user", "content": "Hi"}
HELLO = {"role": "assistant", "content": "Hello"}
PAIRS = [{"user": "One?", "bot": "1"}, {"user": "Two?", "bot": "2"}]
BESIDE = {"question": "Three?", "history": PAIRS}
TO_PLAY = "a row to play (data.source.rl), not to learn from"


def contents(scenario: Scenario) -> list[tuple[object, ...]]:
    return [attack.message.parts for attack in scenario.attacks]


def test_a_prompt_is_one_turn_with_its_picture_first() -> None:
    row = {"question_id": 3, "image": "a.png", "text": "What is this?", "category": "conv"}
    scenario = read_turns(row, "f", 1, "red_team")
    assert contents(scenario) == [(A, "What is this?")]
    assert (scenario.id, scenario.kind, scenario.subset) == ("3", "red_team", "conv")


@pytest.mark.parametrize(("label", "kind"), [("safe", "benign"), ("unsafe", "red_team"), (None, "obfuscated")])
def test_a_prompts_label_decides_its_kind_and_the_default_applies_without_one(label: str, kind: str) -> None:
    row = {"id": "1", "prompt": "How can I kill a Python process?", "type": "homonyms", "label": label}
    scenario = read_scenario(row, "f", 1, "obfuscated")
    assert (scenario.kind, scenario.subset) == (kind, "homonyms")


@pytest.mark.parametrize("label", ["safe", "unsafe", "Safe"])
@pytest.mark.parametrize("name", ["label", "category", "source_category"])
@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "How is this opened?", "response": "Like this."},
        {"prompt": "How is this opened?", "image": "a.png"},
        {"prompt": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "And this?"}]},
        {"turns": ["What is this?", "How is it opened?"]},
        {"history": [["Hi", "Hello"]], "question": "How is this opened?"},
        {"messages": [HI, HELLO]},
        {"question": [HI], "images": ["a.png"]},
        {"question_id": 1, "messages_fixed": [HI]},
        {"question_id": 1, "multiturn_qa": [HI]},
    ],
)
def test_safe_is_said_of_the_request_only_by_a_prompts_label(row: dict[str, object], name: str, label: str) -> None:
    """Elsewhere it may be said of an answer or a picture, and a known benign request overrides tutor and judge."""
    scenario = read_scenario({**row, name: label}, "f", 1, "obfuscated")
    assert (scenario.kind, scenario.metadata.get(name, label)) == ("obfuscated", label)
    assert read_scenario({**row, name: label, "kind": label}, "f", 1).kind in ("benign", "red_team")


def test_turns_are_played_in_order() -> None:
    row = {"question_id": 81, "category": "writing", "turns": ["Write.", "Again, <image> in view."], "image": "a.png"}
    assert contents(read_turns(row, "f", 1, "red_team")) == [("Write.",), ("Again, ", A, " in view.")]


@pytest.mark.parametrize("name", ["turns", "prompt", "instruction", "question"])
def test_a_list_of_prompts_is_played_turn_by_turn(name: str) -> None:
    """As in HuggingFaceH4/mt_bench_prompts: put together, the turns would be one question."""
    assert contents(read_scenario({name: ["Write.", "Again."]}, "f", 1)) == [("Write.",), ("Again.",)]
    mixed = [{"type": "text", "text": "Write."}, "Again."]
    assert contents(read_scenario({"prompt": mixed}, "f", 1)) == [("Write.", "Again.")]


@pytest.mark.parametrize(
    ("empty", "read"), [("history", read_dialogue), ("messages", read_dialogue), ("turns", read_scenario)]
)
def test_an_empty_list_hides_nothing(empty: str, read: Callable[[object, str, int], Dialogue | Scenario]) -> None:
    """Alpaca's rows may have an empty `history`."""
    row = {empty: [], "instruction": "", "input": "Hi", "output": "Ho"}
    record = read(row, "f", 1)
    asked = record.turns[0][0] if isinstance(record, Dialogue) else record.opening.message
    assert asked.parts == ("Hi",)


def test_an_empty_list_of_messages_hides_no_conversations() -> None:
    talk = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]
    assert read_dialogue({"messages": [], "conversations": talk}, "f", 1).answers == ("Ho",)
    assert contents(read_scenario({"messages": [], "conversations": talk}, "f", 1)) == [("Hi",)]


def test_user_and_bot_pairs_can_be_learned_from_or_played() -> None:
    row = {"task": "GR", "id": 1, "history": PAIRS}
    dialogue = read_answered(row, "f", 1)
    assert dialogue.messages == (
        Message.of("user", "One?"),
        Message.of("assistant", "1"),
        Message.of("user", "Two?"),
        Message.of("assistant", "2"),
    )
    assert (dialogue.id, dialogue.subset) == ("1", "GR")
    assert contents(read_scenario(row, "f", 1)) == [("One?",), ("Two?",)]


@pytest.mark.parametrize("history", [PAIRS, [["One?", "1"], ["Two?", "2"]]])
@pytest.mark.parametrize(("question", "answer"), [*((name, "output") for name in QUESTIONS), ("query", "response")])
def test_a_question_beside_a_history_is_the_turn_after_it(history: object, question: str, answer: str) -> None:
    """It used to be lost: a red-team row was played without its attack, an Alpaca row learned without its answer."""
    row = {question: "Three?", answer: "3", "history": history}
    assert read_dialogue(row, "f", 1).turns[2] == (Message.of("user", "Three?"), Message.of("assistant", "3"))
    assert contents(read_scenario(row, "f", 1)) == [("One?",), ("Two?",), ("Three?",)]


@pytest.mark.parametrize(
    ("row", "opening"),
    [
        ({"question_id": 1, "messages_fixed": [HI], "text": "not this"}, "Hi"),
        ({"multiturn_qa": [HI], "prompt": "not this"}, "Hi"),
        ({"question": [HI], "text": "not this"}, "Hi"),
        ({"question": "Hi", "instruction": "not this"}, "Hi"),
        ({"question": "not this", "messages": [HI, HELLO, HI]}, "Hi"),  # learned from and played alike
        ({"messages": [HI, {"role": "assistant", "content": 5}]}, "Hi"),  # assistant messages are not read
        ({"conversations": [{"from": "human", "value": "Hi"}], "chosen": {}}, "Hi"),
        ({"history": [{"user": "Hi"}]}, "Hi"),
        ({"turns": ["Hi"], "messages": None}, "Hi"),
        ({"prompt_text": "Hi"}, "Hi"),
        ({"question": [HI], "answer": "Hello"}, "Hi"),
    ],
)
def test_a_rows_keys_decide_how_it_is_played(row: dict[str, object], opening: str) -> None:
    assert read_scenario(row, "f", 1).opening.message.text == opening


def test_a_question_in_text_is_followed_by_the_rest_of_its_dialogue() -> None:
    """It used to be played alone, whatever followed it."""
    row = {"question": "<image>One?", "images": ["a.png"], "metadata": {"rest_messages": [HI, HELLO, HI]}}
    assert contents(read_scenario(row, "f", 1)) == [(A, "One?"), ("Hi",), ("Hi",)]


@pytest.mark.parametrize("row", [{"messages": [HI, HELLO]}, {"history": PAIRS}, {"prompt": "Hi", "output": "Hello"}])
def test_a_rows_system_prompt_is_the_same_played_as_learned_from(row: dict[str, object]) -> None:
    row = {**row, "system": "Be brief."}
    assert read_dialogue(row, "f", 1).messages[0] == Message.of("system", "Be brief.")
    assert read_scenario(row, "f", 1).system == "Be brief."


def test_a_rows_keys_decide_how_it_is_learned_from() -> None:
    conversations = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    rows = ({"messages": [HI, HELLO]}, {"conversations": conversations}, {"history": [{"user": "Hi", "bot": "Hello"}]})
    assert {read_dialogue(row, "f", 1).messages for row in rows} == {
        (Message.of("user", "Hi"), Message.of("assistant", "Hello"))
    }


# The keys of VQA data, BeaverTails-V, Geometry3K, R1-V, ms-swift, TRL, BeaverTails and Alpaca.
ANSWERED: list[dict[str, object]] = [
    {"image": "a.png", "question": "What is this?", "answer": "A cat."},
    {
        "image": "a.png",
        "question": "What is this?",
        "response": "A cat.",
        "is_response_safe": "yes",
        "category": "pets",
    },
    {"images": ["a.png"], "problem": "<image>What is this?", "answer": "A cat."},
    {"image": "a.png", "problem": "What is this?", "solution": "A cat.", "choices": None},
    {"images": ["a.png"], "query": "<image>What is this?", "response": "A cat.", "is_safe": True},
    {"images": ["a.png"], "prompt": "<image>What is this?", "completion": "A cat."},
    {"images": ["a.png"], "prompt": "What is this?", "response": "A cat."},
    {"images": ["a.png"], "instruction": "<image>What is this?", "input": "", "output": "A cat."},
]


@pytest.mark.parametrize("row", ANSWERED)
def test_a_question_with_an_answer_can_be_learned_from_or_played(row: dict[str, object]) -> None:
    dialogue, scenario = read_dialogue(row, "f", 1), read_scenario(row, "f", 1)
    assert dialogue.messages == (Message("user", (A, "What is this?")), Message.of("assistant", "A cat."))
    assert contents(scenario) == [(A, "What is this?")]
    assert dialogue.subset == scenario.subset == row.get("category", "")


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"prompt": "Translate.", "input": "chat"}, "input"),
        ({"prompt": "Look.", "metadata": {"rest_messages": [{"role": "user", "content": "And?"}]}}, "metadata.rest"),
        ({"messages": [{"role": "user", "content": "Look.", "images": ["a.png"]}]}, r"messages\[0\].images"),
        ({"messages": [{"role": "user", "content": "Look.", "image": "a.png"}]}, r"messages\[0\].image'"),
        ({"turns": ["Translate."], "input": "chat"}, "input"),
        ({"prompt": "Look.", "metadata": {"image": {"bytes": "..", "path": "a.png"}}}, "metadata.image"),
    ],
)
def test_what_a_row_says_or_shows_is_read_or_refused(row: dict[str, object], field: str) -> None:
    """Else a dialogue would be played without its picture, or another one than the row's."""
    with pytest.raises(RowError, match=field):
        read_scenario(row, "f", 1)


def test_a_message_may_repeat_the_pictures_of_its_row() -> None:
    row = {"messages": [{"role": "user", "content": "<image>Look.", "images": ["a.png"]}], "images": ["a.png"]}
    assert read_scenario(row, "f", 1).opening.message.images == (ImageRef("a.png"),)


@pytest.mark.parametrize("fact", [3, True, {"width": 8}])
def test_other_facts_called_image_are_no_pictures(fact: object) -> None:
    assert not read_scenario({"prompt": "Hi.", "metadata": {"image": fact}}, "f", 1).opening.message.images


def test_a_label_beside_a_picture_names_no_kind() -> None:
    """It may be said of the picture."""
    for named in ({"image": "a.png"}, {"metadata": {"image": "a.png"}}, {"unsafe_image_id": "a.png"}):
        assert read_scenario({"prompt": "Look.", "label": "safe", **named}, "f", 1).kind == "red_team"


@pytest.mark.parametrize("place", ["images", "image", "metadata.image"])
@pytest.mark.parametrize(
    "row",
    [
        {"question_id": "q", "messages_fixed": [{"role": "user", "content": "Look."}]},
        {"question_id": "q", "multiturn_qa": [{"role": "user", "content": "Look."}]},
        {"question": [{"role": "user", "content": "Look."}]},
        {"messages": [{"role": "user", "content": "Look."}]},
        {"turns": ["Look."]},
        {"prompt": "Look."},
    ],
)
def test_a_row_of_any_shape_names_its_pictures_in_any_of_three_places(row: dict[str, object], place: str) -> None:
    named = {"metadata": {"image": "a.png"}} if place == "metadata.image" else {place: ["a.png"]}
    scenario = read_scenario({**row, **named}, "f", 1)
    assert scenario.opening.message.parts == (ImageRef("a.png"), "Look.")
    assert "image" not in scenario.metadata


def test_an_instructions_input_follows_it_on_a_new_line() -> None:
    row = {"instruction": "Translate.", "input": "chat", "output": "cat"}
    asked = Message.of("user", "Translate.\nchat")
    assert read_dialogue(row, "f", 1).messages == (asked, Message.of("assistant", "cat"))
    assert read_scenario(row, "f", 1).opening.message == asked
    refused(read_dialogue, {**row, "input": 5}, "input", "must be text, got a number")


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ({"question": "Hi", "answer": "Hello", "solution": "So"}, "solution", "stands beside answer: keep the one"),
        ({"question": "Hi", "problem": "Ho", "answer": "Hello"}, "problem", "stands beside question: keep the one"),
        ({"question": "Hi", "answer": 0}, "answer", "must be text, got a number"),
        ({"question": "Hi", "answer": ["a", "b"]}, "answer", "must be text, got a list"),
        ({"question": "Hi", "answer": " "}, "answer", "is empty"),
        ({"question": "Hi", "answer": "<image>", "image": "a.png"}, "answer", "only user messages hold pictures"),
        (
            {"question": "Hi", "answers": ["a"]},
            "",
            "is no dialogue: it has 'question', 'answers'. Did you mean answer?",
        ),
    ],
)
def test_answers_that_are_not_learned_from_are_named_with_the_reason(row: object, field: str, reason: str) -> None:
    refused(read_dialogue, row, field, reason)
    assert contents(read_scenario(row, "f", 1)) == [(*([A] if "image" in row else []), "Hi")]  # type: ignore[operator]


def test_a_question_without_its_choices_is_neither_learned_from_nor_played() -> None:
    row = {"question": "Which?", "answer": "b", "options": ["a", "b"]}
    for read in (read_dialogue, read_scenario):
        refused(read, row, "options", "are not read: write them into the question")


# One row of each format that can be learned from.
LEARNED: list[dict[str, object]] = [
    {"messages": [HI, HELLO]},
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
    {"history": [{"user": "Hi", "bot": "Hello"}]},
    {"question": "Hi", "answer": "Hello"},
]


@pytest.mark.parametrize("said", [False, "false", "No", 0, 0.0, "0"])
@pytest.mark.parametrize("name", ["is_safe", "is_response_safe"])
@pytest.mark.parametrize("row", LEARNED)
def test_an_answer_labelled_unsafe_is_played_and_not_learned_from(
    row: dict[str, object], name: str, said: object
) -> None:
    reason = f"is {said!r}: an answer that is not safe is not learned from"
    for unsafe, field in (({name: said}, name), ({"metadata": {name: said}}, f"metadata.{name}")):
        refused(read_dialogue, {**row, **unsafe}, field, reason)
        assert contents(read_scenario({**row, **unsafe}, "f", 1)) == [("Hi",)]


@pytest.mark.parametrize("said", [True, "Yes", "true", 1, 1.0, None, float("nan")])
@pytest.mark.parametrize("row", LEARNED)
def test_an_answer_labelled_safe_or_not_at_all_is_learned_from(row: dict[str, object], said: object) -> None:
    assert read_dialogue({**row, "is_safe": said, "metadata": {"is_response_safe": said}}, "f", 1).messages


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ({}, "", "it has no keys, and none of messages"),
        ({"q": 1, "turns": [3]}, "", "is no dialogue: it has 'q', 'turns', and none of"),
        ({"q": 1, "turns": ["Hi"]}, "", f"is no dialogue: it holds questions without answers, {TO_PLAY}"),
        ({"prompt": "Hi", "reply": "Hello"}, "", f"without answers (none of {', '.join(ANSWERS)}), {TO_PLAY}"),
        ({"history": []}, "history", "got no message"),
        ({"history": ["Hi"]}, "history[0]", "an object with user and bot, or a list of the two texts"),
        ({"history": [["Hi"]]}, "history[0]", "an object with user and bot"),
        ({"history": [{"user": "Hi"}]}, "history[0].bot", "must be text or a list of parts, got null"),
        ({"history": [{"user": " ", "bot": "x"}]}, "history[0].user", "is empty"),
        ({"messages": [HI, HELLO], "video": "v.mp4"}, "video", "only text and pictures"),
        # A question beside a history is read as strictly as one alone.
        ({**BESIDE}, "", "is no dialogue: it has a question and none of answer, solution"),
        ({**BESIDE, "answer": "3", "output": "4"}, "output", "stands beside answer"),
        ({**BESIDE, "answer": "3", "choices": ["3", "4"]}, "choices", "write them into the question"),
        ({**BESIDE, "answer": "3", "problem": "Four?"}, "problem", "stands beside question"),
        ([HI], "", "must be an object, got a list"),
    ],
)
def test_rows_that_are_no_dialogue_are_named_with_the_reason(row: object, field: str, reason: str) -> None:
    refused(read_dialogue, row, field, reason)


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        (dict.fromkeys("abcdefgh", 1), "", "it has 'a', 'b', 'c', 'd', 'e', 'f', ..., and none of mess"),
        ({"turns": []}, "turns", "holds no user message"),
        ({"turns": ["Hi", 2]}, "turns[1]", "must be text or a list of parts, got a number"),
        ({"prompt": ""}, "prompt", "is empty"),
        ({"text": "Look: <image>"}, "images", "0 pictures for 1 <image> mark:"),
    ],
)
def test_rows_that_cannot_be_played_are_named_with_the_reason(row: object, field: str, reason: str) -> None:
    refused(read_scenario, row, field, reason)


def refused(reader: object, row: object, field: str, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        reader(row, "rows.csv", 9)  # type: ignore[operator]
    assert (caught.value.source, caught.value.row, caught.value.field) == ("rows.csv", 9, field)
    assert reason in caught.value.reason
