"""The authors' row formats, with rows written by hand. `test_public_files.py` reads files that others wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from steer_lit.data.formats import read_bench_row, read_rl_row, read_sft_row, read_stage1_row
from steer_lit.data.shapes import read_dialogue, read_scenario
from steer_lit.errors import RowError
from steer_lit.types import ImageRef, Message, PictureGold, TurnGold

Reader = Callable[[object, str, int], object]


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def assistant(content: object) -> dict[str, object]:
    return {"role": "assistant", "content": content}


A, B = ImageRef("a.png"), ImageRef("b.png")


def test_sft_image_marks_are_filled_in_order_and_the_text_around_them_is_kept() -> None:
    row = {
        "messages": [user("<image>\nWho? <image>"), assistant("Two men."), user("And now?<image>"), assistant("None.")],
        "images": ["a.png", "b.png", "a.png"],
    }
    dialogue = read_sft_row(row, "f.jsonl", 7)
    assert dialogue.messages == (
        Message("user", (A, "\nWho? ", B)),
        Message("assistant", ("Two men.",)),
        Message("user", ("And now?", A)),
        Message("assistant", ("None.",)),
    )
    assert (dialogue.id, dialogue.kind, dialogue.subset) == ("row-7", None, "")


def test_sft_reads_from_value_rows_one_image_and_a_system_column() -> None:
    row = {
        "conversations": [{"from": "human", "value": "Yes?\n<image>"}, {"from": "gpt", "value": "Yes."}],
        "image": "a.png",
        "system": "Be kind.",
        "id": 12,
    }
    dialogue = read_sft_row(row, "f.json", 1)
    assert dialogue.messages[0] == Message.of("system", "Be kind.")
    assert dialogue.messages[1] == Message("user", ("Yes?\n", A))
    assert dialogue.id == "12"


def test_nulls_count_as_absent() -> None:
    """Parquet gives every part all keys that any part has."""
    row = {
        "messages": [
            user([{"type": "text", "text": "What?", "image": None}, {"type": "image", "text": None, "image": "a.png"}]),
            assistant([{"type": "text", "text": "A cup.", "image": None}]),
        ],
        "conversations": None,
        "images": None,
        "videos": None,
    }
    assert read_sft_row(row, "f", 1).messages[0].parts == ("What?", A)


def test_an_image_mark_in_a_text_part_stays_text() -> None:
    row = {"messages": [user([{"type": "text", "text": "Say <image>"}]), assistant("No.")]}
    assert read_sft_row(row, "f", 1).messages[0] == Message.of("user", "Say <image>")


def test_bench_rows_replay_user_messages_only() -> None:
    row = {
        "question_id": 41,
        "messages_fixed": [
            {"role": "system", "content": "Be safe."},
            user("What is this?"),
            assistant(""),  # placeholder for the policy's answer
            user([{"type": "text", "text": "And this?"}, {"type": "image", "image": "b.png"}]),
        ],
        "category": "Strong Red-Team",
        "source_category": "MMSafe",
        "risk_trajectory": [0.1, 1],
    }
    scenario = read_bench_row(row, "f", 1)
    assert scenario.system == "Be safe."
    assert [attack.message.parts for attack in scenario.attacks] == [("What is this?",), ("And this?", B)]
    assert (scenario.id, scenario.kind, scenario.subset) == ("41", "red_team", "steer-mmsafe")
    assert scenario.metadata["risk_trajectory"] == (0.1, 1.0)


@pytest.mark.parametrize(("number", "text"), [(41.0, "41"), (0.0, "0"), (-3.0, "-3"), (2.0**53 - 1, str(2**53 - 1))])
def test_a_whole_number_stored_as_a_float_is_an_id(number: float, text: str) -> None:
    row = {**GOOD_BENCH, "question_id": number}
    scenario = read_bench_row(row, "f", 1)
    assert scenario.id == text


@pytest.mark.parametrize(
    ("contents", "opening", "later"),
    [
        (["Look.", "Go on."], (A, "Look."), ("Go on.",)),  # no mark: the picture comes first in the dialogue
        (["Look.", "Here: <image>"], ("Look.",), ("Here: ", A)),  # a mark gives the place
        (["Look.", [{"type": "image"}]], ("Look.",), (A,)),  # so does a part without a path
        (["Look.", [{"type": "image", "image": "/there/a.png"}]], ("Look.",), (ImageRef("/there/a.png"),)),  # only once
        (["Look.", [{"type": "image", "image": "b.png"}]], (A, "Look."), (B,)),  # another picture
    ],
)
def test_a_bench_picture_is_shown_once_at_the_place_the_row_names(
    contents: list[object], opening: tuple[object, ...], later: tuple[object, ...]
) -> None:
    row = {"question_id": "q", "messages_fixed": [user(content) for content in contents], "image": "a.png"}
    assert [attack.message.parts for attack in read_bench_row(row, "f", 1).attacks] == [opening, later]


@pytest.mark.parametrize(
    ("image", "named", "same"),
    [
        ("a/1.png", "b/1.png", False),
        ("/x/a/1.png", "a/1.png", True),
        ("a/1.png", "C:\\x\\a\\1.png", True),
        ("./a/1.png", "a/1.png", True),
        ("ba/1.png", "a/1.png", False),
        ("1.png", "11.png", False),
    ],
)
def test_equal_names_in_two_folders_are_two_pictures(image: str, named: str, same: bool) -> None:
    contents = ["Look.", [{"type": "image", "image": named}]]
    row = {"question_id": "q", "messages_fixed": [user(content) for content in contents], "image": image}
    first, second = (attack.message.parts for attack in read_bench_row(row, "f", 1).attacks)
    assert first == (("Look.",) if same else (ImageRef(image), "Look."))
    assert second == (ImageRef(named),)


@pytest.mark.parametrize(
    ("named", "kind", "subset"),
    [
        ({}, "red_team", ""),
        ({"category": "benign"}, "benign", ""),
        ({"category": "obfuscated_risk", "source_category": "steer-vls"}, "obfuscated", "steer-vls"),
        ({"category": "steer_dys"}, "red_team", "steer-dys"),
        ({"category": "Physical harm", "source_category": "beaver"}, "red_team", "steer-beaver"),
        ({"category": "Privacy"}, "red_team", "Privacy"),
        ({"category": "BENIGN request"}, "benign", ""),
        ({"category": "RedTeam attack"}, "red_team", ""),
        ({"category": "not benign"}, "red_team", "not benign"),
        ({"category": "non-benign"}, "red_team", "non-benign"),
        ({"category": "nonbenign"}, "red_team", "nonbenign"),
        ({"category": "unobfuscated"}, "red_team", "unobfuscated"),
        ({"category": "strong red team"}, "red_team", ""),
        ({"category": "Benign queries."}, "benign", ""),
        ({"category": "Obfuscated Risk (prompts)"}, "obfuscated", ""),
        ({"category": "Benign image, harmful text"}, "red_team", "Benign image, harmful text"),
        ({"category": "benign-to-harmful escalation"}, "red_team", "benign-to-harmful escalation"),
        ({"category": "obfuscated, not benign"}, "red_team", "obfuscated, not benign"),
    ],
)
def test_kind_and_subset_come_from_the_categories(named: dict[str, str], kind: str, subset: str) -> None:
    scenario = read_bench_row({"question_id": "q", "messages_fixed": [user("Hi.")], **named}, "f", 1)
    assert (scenario.kind, scenario.subset) == (kind, subset)
    assert dict(scenario.metadata) == named


def test_rl_rows_drop_incomplete_messages_and_script_the_rest() -> None:
    row = {
        "question": [{"role": "system", "content": "S"}, user("<image>One?"), assistant("ignored"), {"role": "user"}],
        "images": [],
        "label": "benign",
        "metadata": {
            "question_id": "steer-1",
            "image": "a.png",
            "rest_messages": [user("Two?"), {"content": "lost"}, user(""), assistant("ignored"), user("Three?")],
        },
    }
    scenario = read_rl_row(row, "f", 1)
    assert [attack.message.parts for attack in scenario.attacks] == [(A, "One?"), ("Two?",), ("Three?",)]
    assert (scenario.id, scenario.kind, scenario.system) == ("steer-1", "benign", "S")
    assert scenario.metadata == {"label": "benign"}


def test_rl_images_of_the_row_come_before_those_of_its_metadata() -> None:
    row = {"question": [user("One?")], "images": ["b.png"], "metadata": {"image": "a.png"}}
    assert read_rl_row(row, "f", 3).opening.message.parts == (B, "One?")


def test_stage_1_rows_keep_their_scores() -> None:
    row = {
        "question_id": "s1",
        "intent": "How is this opened?",
        "image": "a.png",
        "multiturn_qa": [
            {"role": "user", "content": [{"type": "text", "text": "What is this?"}], "score": 1},
            {"role": "assistant", "content": "not looked at"},
            {"role": "user", "content": [{"type": "text", "text": "And open?"}], "score": 4},
        ],
        "max_score": 4,
        "strategy": "yes-ladder",
    }
    scenario = read_stage1_row(row, "f", 1)
    assert [attack.message.parts for attack in scenario.attacks] == [(A, "What is this?"), ("And open?",)]
    assert (scenario.id, scenario.kind) == ("s1", "red_team")
    facts = {"intent": "How is this opened?", "strategy": "yes-ladder", "max_score": 4, "scores": (1, 4)}
    assert scenario.metadata == facts
    unjudged = {"question_id": "s2", "multiturn_qa": [user("Hi")], "max_score": None, "strategy": None}
    assert read_stage1_row(unjudged, "f", 2, "benign").kind == "benign"
    assert read_stage1_row(unjudged, "f", 2).metadata == {}


def test_a_rows_explicit_kind_counts_before_its_categories() -> None:
    row = {"question_id": "q", "messages_fixed": [user("Hi")], "category": "steer-vls", "kind": "benign", "subset": ""}
    scenario = read_bench_row(row, "f", 1)
    assert (scenario.kind, scenario.subset) == ("benign", "")
    for kind in ("Red-Team", "red team", "RED_TEAM", "redTeam", "redteam", "unsafe"):
        assert read_bench_row({**row, "kind": kind, "category": "obfuscated"}, "f", 1).kind == "red_team"
    for nothing in (None, float("nan")):
        assert read_bench_row({**row, "kind": nothing, "category": "obfuscated"}, "f", 1).kind == "obfuscated"
    assert read_bench_row({**row, "kind": "", "category": "obfuscated"}, "f", 1, "benign").kind == "benign"


def test_a_number_that_pandas_writes_for_nothing_is_absent_whatever_the_key() -> None:
    """`to_dict` gives NaN for each cell of a text column that a row leaves empty, and `json.dumps` writes it."""
    nothing = dict.fromkeys(
        ("id", "question_id", "prompt", "messages", "system", "image", "videos", "metadata"), float("nan")
    )
    turns = [{"role": float("nan"), "from": "user", "content": float("nan"), "value": "Hi"}]
    row = {**nothing, "conversations": [*turns, {"role": "assistant", "content": "Ho"}]}
    assert read_dialogue(row, "f", 7) == read_dialogue({"conversations": row["conversations"]}, "f", 7)
    assert read_scenario(row, "f", 7).opening.message == Message.of("user", "Hi")


def test_other_facts_of_a_row_are_kept_and_missing_ones_left_out() -> None:
    metadata = {"source": {"from": ["a", 1]}, "score": float("nan"), "note": None, "question_id": "q"}
    dialogue = read_sft_row({"messages": [user("Hi"), assistant("Hello")], "metadata": metadata}, "f", 1)
    assert dialogue.metadata == {"source": {"from": ("a", 1)}}


@pytest.mark.parametrize("system", ["", "  \n", None, [], [{"type": "text", "text": " "}]])
def test_a_blank_system_message_is_none(system: object) -> None:
    turns = [{"role": "system", "content": system}, user("Hi"), assistant("Hello")]
    assert [message.role for message in read_sft_row({"messages": turns}, "f", 1).messages] == ["user", "assistant"]
    assert read_bench_row({"question_id": 1, "messages_fixed": turns}, "f", 1).system is None
    column = system if isinstance(system, str) else ""
    assert read_sft_row({"messages": turns[1:], "system": column}, "f", 1).messages[0].role == "user"


GOOD_SFT = {"messages": [user("Hi"), assistant("Hello")]}
GOOD_BENCH = {"question_id": "q", "messages_fixed": [user("Hi")]}


@pytest.mark.parametrize(
    ("reader", "row", "field", "reason"),
    [
        (read_sft_row, ["no object"], "", "must be an object, got a list"),
        (read_sft_row, {}, "conversations", "must be a list, got null"),
        (read_sft_row, {"messages": ["Hi"]}, "messages[0]", "must be an object, got text"),
        (read_sft_row, {"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "is 'tool', must be one"),
        (read_sft_row, {"messages": [user(5), assistant("x")]}, "messages[0].content", "text or a list of parts"),
        (read_bench_row, {**GOOD_BENCH, "messages_fixed": [user(None)]}, "messages_fixed[0].content", "got null"),
        (read_sft_row, {"messages": [user("  "), assistant("x")]}, "messages[0].content", "is empty"),
        (read_sft_row, {"messages": [user("Hi"), user("Hi")]}, "messages", "must alternate"),
        (read_sft_row, {"messages": [user("Hi")]}, "messages", "the assistant last; got user"),
        (read_sft_row, {"messages": []}, "messages", "got no message"),
        (read_sft_row, {**GOOD_SFT, "images": ["a.png"]}, "images", "1 picture for 0 <image> marks"),
        (
            read_sft_row,
            {"messages": [user("<image><image>"), assistant("x")], "image": "a.png"},
            "image",
            "1 picture for 2 <image> marks",
        ),
        (
            read_sft_row,
            {"messages": [user("Hi"), assistant("<image>")], "images": ["a.png"]},
            "messages[1]",
            "only user messages hold pictures",
        ),
        (read_sft_row, {**GOOD_SFT, "images": [{"bytes": "..."}]}, "images[0]", "is a picture inside the row"),
        (read_sft_row, {**GOOD_SFT, "images": [{"file": "..."}]}, "images[0]", "must be text, got an object"),
        (read_sft_row, {**GOOD_SFT, "videos": ["v.mp4"]}, "videos", "only text and pictures are read"),
        (read_sft_row, {**GOOD_SFT, "audios": ["a.mp3"]}, "audios", "only text and pictures are read"),
        (read_sft_row, {**GOOD_SFT, "rejected": assistant("x")}, "rejected", "is not a dialogue to learn from"),
        (read_sft_row, {**GOOD_SFT, "kto_tag": False}, "kto_tag", "is not a dialogue to learn from"),
        (read_sft_row, {**GOOD_SFT, "metadata": {"of": {"a": ["\ud83d"]}}}, "metadata.of.a", "surrogate"),
        (read_sft_row, {**GOOD_SFT, "metadata": {"when": b"?"}}, "metadata.when", "a list or an object, got bytes"),
        (
            read_sft_row,
            {"messages": [user([{"type": "video", "video": "v"}])]},
            "messages[0].content[0].type",
            "'video'",
        ),
        (read_sft_row, {"messages": [user("cut \ud83d"), assistant("x")]}, "messages[0].content", "surrogate"),
        (read_sft_row, {"messages": [user("a" + 65 * "\u0315"), assistant("x")]}, "messages[0].content", "accents"),
        (read_bench_row, {"messages_fixed": [user("Hi")]}, "question_id", "is missing"),
        (read_bench_row, {"question_id": "q"}, "messages_fixed", "must be a list, got null"),
        (read_bench_row, {"question_id": "q", "messages_fixed": [assistant("x")]}, "messages_fixed", "no user message"),
        *(
            (read_bench_row, {**GOOD_BENCH, "kind": kind, "category": "benign"}, "kind", "benign, obfuscated, red_team")
            for kind in ("redd team", "not benign", "vegetable", " ", 5, False, ["benign"], {"benign": 1})
        ),
        (read_sft_row, {**GOOD_SFT, "kind": "bening"}, "kind", "is 'bening', must be one of benign, obfuscated"),
        (read_bench_row, {**GOOD_BENCH, "image": 3}, "image", "must be a list, got a number"),
        (read_bench_row, {**GOOD_BENCH, "question_id": 1.5}, "question_id", "must be text or a whole number, got 1.5"),
        (read_sft_row, {**GOOD_SFT, "id": 1.5}, "id", "must be text or a whole number, got 1.5"),
        (read_sft_row, {**GOOD_SFT, "id": 2.0**53}, "id", "must be text or a whole number"),  # or the one after it
        (read_sft_row, {**GOOD_SFT, "id": ["a"]}, "id", "must be text or a whole number, got ['a']"),
        (read_sft_row, {**GOOD_SFT, "id": "\ud83d"}, "id", "surrogate"),
        (read_rl_row, {"question": [user("Hi")], "metadata": {"question_id": 1.5}}, "metadata.question_id", "got 1.5"),
        (read_stage1_row, {"multiturn_qa": [{**user("Hi"), "score": b"5"}]}, "multiturn_qa[0].score", "got bytes"),
        (read_rl_row, {"question": [{**user("Hi"), "gold": {"intent": "bad"}}]}, "question[0].gold.intent", "harmful"),
        (read_rl_row, {"question": [user("Hi")], "picture": {"object": "cup"}}, "picture.hazardous", "true or false"),
        (read_rl_row, {"question": [{"role": "user"}]}, "question", "holds no user message"),
        (read_rl_row, {"question": [user("Hi")], "metadata": "m"}, "metadata", "must be an object, got text"),
        (
            read_rl_row,
            {"question": [user("Hi")], "metadata": {"rest_messages": 2}},
            "metadata.rest_messages",
            "a list",
        ),
    ],
)
def test_each_bad_row_is_named_by_file_row_and_field(reader: Reader, row: object, field: str, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        reader(row, "rows.jsonl", 12)
    assert (caught.value.source, caught.value.row, caught.value.field) == ("rows.jsonl", 12, field)
    assert reason in caught.value.reason


def test_the_guides_rows_are_read_with_all_that_they_say(repository: Path) -> None:
    page = (repository / "docs/rows.md").read_text(encoding="utf-8")
    learned, *played = [json.loads(line) for line in page.splitlines() if line.startswith("{")]
    assert len(read_dialogue(learned, "f.jsonl", 1).messages) == 2
    turns, gold = (read_scenario(row, "f.jsonl", 1) for row in played)
    assert len(turns.attacks) == 2
    assert gold.opening.gold == TurnGold("harmless", "none", "It is a red match.", keywords=("match",))
    assert (gold.picture, gold.subset) == (PictureGold("match", "red", hazardous=True), "mine")
