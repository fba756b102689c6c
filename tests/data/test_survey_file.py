"""What the survey tells of a file, and of its unknown keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from steer_lit.data.survey import main
from steer_lit.data.survey_file import survey_rows


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


ANSWERED = [*asked("Hi"), {"role": "assistant", "content": "<answer>Ho</answer>"}]
ROWS: list[dict[str, object]] = [
    {"question": asked("<image>One?"), "images": ["a.png"], "metadata": {"question_id": "1", "is_saef": True}},
    {"messages": ANSWERED, "images": []},
    {"messages": asked("<image>Hi"), "imags": ["a.png"]},
    {"turns": ["One?"], "system": "Be kind.", "note": 5, "\x1b": 1},
    {"turns": ["<image><image>Alike?"], "images": ["a.png", "a.png"], "note": "y", "imags": 1},
    {"turns": ["Hi", 4]},
    {"turns": [3]},
    {"messages": asked("Hi"), "videos": ["a.mp4"]},
    {"id": "2", "messages": [*asked("Hi"), {"role": "assistant", "content": "Ho"}]},
    {"id": "3", "messages": ANSWERED},
]
TOLD = """
rows.jsonl:
  unknown keys: note (2 rows), � (1 row), imags (1 row). Did you mean images?
  the same as an earlier row, whatever its id: 1 row (10)
  1 of 3 answers has no <answer> part: a policy that learns to answer so is
    given 0 for helpfulness
  * not for SFT, 3 rows (1, 4, 5): is no dialogue: it holds questions without
    answers, a row to play (data.source.rl), not to learn from
  * refused, 1 row (3): `images`: 0 pictures for 1 <image> mark: every picture
    has one <image> in a user's text, where it belongs; 'imags' is not read. Did
    you mean images?
  * refused, 1 row (6): `turns[1]`: must be text or a list of parts, got a
    number
  * refused, 1 row (7): `turns[0]`: must be text or a list of parts, got a
    number
  * refused, 1 row (8): `videos`: only text and pictures are read
"""


def test_the_report_on_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    assert main([str(tmp_path)]) == 1
    _, _, _, *lines = capsys.readouterr().out.splitlines()
    assert "\n".join(lines) == TOLD.removesuffix("\n")


@pytest.mark.parametrize(
    ("row", "unknown"),
    [
        ({"messages": ANSWERED, "is_safe": True, "metadata": {"is_response_safe": "yes"}}, []),
        ({"messages": ANSWERED, "source_category": "x", "metadata": {"risk_trajectory": [1]}}, []),
        ({"conversations": asked("Hi"), "chosen": {"value": "Ho"}, "rejected": {"value": "No"}}, []),
        ({"instruction": "Say", "input": "it", "output": "It.", "history": []}, []),
        ({"prompt": "Hi", "text": "Ho", "note": "", "more": None, "score": float("nan")}, []),
        ({"text": "Hi", "prompts": "Ho"}, ["prompts"]),
        ({"prompt_text": "Hi", "hazard_category": "a", "hazard_subcategory": "b"}, ["hazard_subcategory"]),
        ({"turns": ["Hi"], "rest_messages": asked("Ho")}, ["rest_messages"]),
        ({"mesages": ANSWERED, "note": 1}, []),  # refused: the reason lists its keys
        ([1], []),
    ],
)
def test_unknown_keys(tmp_path: Path, row: object, unknown: list[str]) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    (found,) = survey_rows(tmp_path / "rows.jsonl").rows
    assert list(found.unknown) == unknown


def test_keys_beyond_the_first_twelve_are_only_counted(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "Hi", **{f"{'k' * 50}{n}": n for n in range(15)}}))
    (told,) = survey_rows(tmp_path / "rows.jsonl").lines()
    assert told == f"  unknown keys: {', '.join([f'{40 * chr(107)} (1 row)'] * 12)} and 3 more"


def test_rows_of_any_depth_are_surveyed(tmp_path: Path) -> None:
    """Python's limit is met somewhere: while a row is read, while its kind is, or while its keys are looked at."""
    deep = [f"{'[' * depth}1{']' * depth}" for depth in range(400, 1000)]
    rows = [f'{{"prompt": "Hi", "note": {one}}}\n{{"prompt": "Hi", "metadata": {{"a": {one}}}}}\n' for one in deep]
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    found = survey_rows(tmp_path / "rows.jsonl")
    assert (len(found.rows), found.ended) == (1200, "")
