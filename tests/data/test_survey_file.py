"""What the survey tells of the readable rows of a file, and of their unused keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from PIL import Image

from steer_lit.data.survey import main
from steer_lit.data.survey_file import DATA_MAX_TURNS, survey_rows

ROOT = Path(__file__).resolve().parents[2]


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


ANSWERED = [*asked("Hi"), {"role": "assistant", "content": "<answer>Ho</answer>"}]
ROWS: list[dict[str, object]] = [
    {
        "question": asked("<image>One?"),
        "images": ["a.png"],
        "kind": "red_team",
        "metadata": {"question_id": "1", "rest_mesages": asked("Two?"), "is_saef": True},
    },
    {"question": asked("One?"), "label": "benign", "metadata": {"rest_messages": asked("Two?"), "source": "x"}},
    {"messages": asked("<image>Hi"), "imags": ["a.png"]},
    {"turns": [str(turn) for turn in range(12)], "system": "Be kind.", "note": 5, "\x1b": 1},
    {"turns": ["<image><image>Alike?"], "images": ["a.png", "a.png"], "kind": "obfuscated", "note": "y"},
    {"turns": ["Hi", 4]},
    {"turns": [3]},
    {"messages": asked("Hi"), "videos": ["a.mp4"]},
]
TOLD = """
rows.jsonl:
  readable: 4 of 8 rows; of these:
  turns: 1 to 12, mean 4.0; 1 row cut after 10 (data.max_turns)
  kinds: 1 red_team, 1 obfuscated, 1 benign, 1 none (data.source.kind decides)
  system prompt: in 1 row
  pictures: one in 1 row, several in 1 row, none in 2 rows
  unused keys: metadata.rest_mesages (1 row). Did you mean
    metadata.rest_messages?
  unused keys: note (2 rows), metadata.is_saef, metadata.source, � (1 row)
  * refused, 1 row (3): `images`: 0 pictures for 1 <image> mark: every picture
    has one <image> in a user's text, where it belongs; 'imags' is not read. Did
    you mean images?
  * refused, 1 row (6): `turns[1]`: must be text or a list of parts, got a
    number
  * refused, 1 row (7): `turns[0]`: must be text or a list of parts, got a
    number
  * refused, 1 row (8): `videos`: only text and pictures are read

Every picture that rows name opens (1).
"""


def test_the_report_on_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    assert main([str(tmp_path)]) == 1
    _, _, _, *lines = capsys.readouterr().out.splitlines()
    assert "\n".join(lines) == TOLD.removesuffix("\n")


@pytest.mark.parametrize(
    ("row", "unread"),
    [
        ({"messages": ANSWERED, "is_safe": True, "metadata": {"is_response_safe": "yes"}}, []),
        ({"messages": ANSWERED, "source_category": "x", "metadata": {"risk_trajectory": [1], "scores": [2]}}, []),
        ({"conversations": asked("Hi"), "chosen": {"value": "Ho"}, "rejected": {"value": "No"}}, []),
        ({"instruction": "Say", "input": "it", "output": "It.", "history": []}, []),
        ({"prompt": "Hi", "text": "Ho", "note": "", "more": None, "score": float("nan")}, ["text"]),
        ({"prompt": "Hi", "kind": "Red-Team"}, []),
        ({"prompt": "Hi", "metadata": {"kind": "benign"}}, ["metadata.kind"]),
        ({"text": "Hi", "prompts": "Ho"}, ["prompts"]),
        ({"prompt_text": "Hi", "hazard_category": "a", "hazard_subcategory": "b"}, ["hazard_subcategory"]),
        ({"turns": ["Hi"], "rest_messages": asked("Ho")}, ["rest_messages"]),
        # Which of several is read is not guessed: the others are told.
        ({"question": "Hi", "messages": ANSWERED}, ["question"]),
        ({"question": "Hi", "answer": "Ho", "conversations": ANSWERED}, ["question", "answer"]),
        ({"question": "Hi", "text": "Ho"}, ["question"]),
        ({"question": "Hi", "turns": ["Ho"], "history": [["A", "B"]]}, ["turns"]),
        ({"mesages": ANSWERED, "note": 1}, []),  # refused: the reason lists its keys
        ([1], []),
        (
            {"messages": [{**turn, "loss": 1} for turn in ANSWERED], "turns": ["x"]},
            ["messages[user].loss", "messages[assistant].loss", "turns"],
        ),
    ],
)
def test_unused_keys(tmp_path: Path, row: object, unread: list[str]) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    (found,) = survey_rows(tmp_path / "rows.jsonl").rows
    assert [key for key, _ in found.unused] == unread


@pytest.mark.parametrize(
    ("key", "near"),
    [
        *(("imgaes", "images"), ("image_path", "images"), ("kidn", "kind"), ("sytem", "system")),
        *(("date", ""), ("source", ""), ("prompt_id", "")),
        ("turn", ""),  # the row has turns
    ],
)
def test_a_key_is_told_from_a_misspelt_one(tmp_path: Path, key: str, near: str) -> None:
    """A misspelt `images` plays the dialogue without its picture; a date is only carried along."""
    (tmp_path / "rows.jsonl").write_text(json.dumps({"turns": ["Hi"], key: "x"}))
    *_, told = survey_rows(tmp_path / "rows.jsonl").lines(alone=True, learned=set(), played=set())
    assert told == f"  unused keys: {key} (1 row){near and f'. Did you mean {near}?'}"


def test_keys_beyond_the_first_twelve_are_only_counted(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(
        json.dumps({"prompt": "Hi", **{f"{'k' * 50}{n}": n for n in range(14)}, "": 1})
    )
    *_, told = survey_rows(tmp_path / "rows.jsonl").lines(alone=True, learned=set(), played=set())
    assert told == f"  unused keys: {', '.join(['k' * 40] * 12)} (1 row) and 3 more"


def test_rows_of_any_depth_are_surveyed(tmp_path: Path) -> None:
    """Python's limit is met somewhere: while a row is read, while its kind is, or while its keys are looked at."""
    deep = [f"{'[' * depth}1{']' * depth}" for depth in range(400, 1000)]
    rows = [f'{{"prompt": "Hi", "note": {one}}}\n{{"prompt": "Hi", "metadata": {{"a": {one}}}}}\n' for one in deep]
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    found = survey_rows(tmp_path / "rows.jsonl")
    assert (len(found.rows), found.ended) == (1200, "")


def test_the_number_of_turns_is_that_of_the_configs() -> None:
    for name in ("steer", "steer_mini"):
        assert OmegaConf.load(ROOT / "conf" / "data" / f"{name}.yaml").max_turns == DATA_MAX_TURNS
