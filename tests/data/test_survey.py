"""The survey's report on files with faults."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from steer_lit.cli import main as cli
from steer_lit.data.shapes import unknown_keys
from steer_lit.data.survey import main, survey_rows


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


ANSWERED = [*asked("Hi"), {"role": "assistant", "content": "<answer>Ho</answer>"}]
DIALOGUE = json.dumps({"messages": ANSWERED})


def surveyed(folder: Path, capsys: pytest.CaptureFixture[str], code: int = 0, **files: str) -> list[str]:
    for name, text in files.items():
        (folder / f"{name}.jsonl").write_text(text)
    assert main([str(folder)]) == code
    return capsys.readouterr().out.splitlines()


def counted(lines: list[str], name: str) -> list[str]:
    """Return a file's columns in the table: rows, SFT, playable, no use."""
    (line,) = [line.split() for line in lines if line.startswith(f"{name} ")]
    return line[1:]


ROWS: list[dict[str, object]] = [
    {"question": asked("<image>One?"), "images": ["a.png"], "metadata": {"question_id": "1", "is_saef": True}},
    {"messages": ANSWERED, "images": []},
    {"messages": asked("<image>Hi"), "imags": ["a.png"]},
    {"turns": ["One?"], "system": "Be kind.", "note": 5, "\x1b": 1},
    {"turns": ["<image><image>Alike?"], "images": ["a.png", "a.png"], "note": "y", "imags": 1},
    {"turns": ["<image>Broken?"], "images": ["<b> & [bold]\x1b"]},
    {"turns": ["<image><image>Broken?"], "images": ["b's.png", "c.png"]},
    {"messages": asked("Hi"), "videos": ["a.mp4"]},
    {"id": "2", "messages": [*asked("Hi"), {"role": "assistant", "content": "Ho"}]},
    {"id": "3", "messages": ANSWERED},
]
TOLD = """\
file           rows      SFT playable   no use
rows.jsonl       10        3        6        4

rows.jsonl:
  unknown keys: note (2 rows), \N{REPLACEMENT CHARACTER} (1 row), imags (1 row). Did you mean images?
  the same as an earlier row, whatever its id: 1 row (10)
  1 of 3 answers has no <answer> part: a policy that learns to answer so is given 0 for helpfulness
  * 5 rows (1, 4, 5, 6, 7): is no dialogue: it holds questions without answers, a row to play (data.source.rl), not \
to learn from
  * 2 rows (6, 7): `images`: picture '<b> & [bold]\\x1b': is not a file in FOLDER (data.source.folder; data.folder in \
a synthesis)
  * 1 row (3): `images`: 0 pictures for 1 <image> mark: every picture has one <image> in a user's text, where it \
belongs; 'imags' is not read. Did you mean images?
  * 1 row (8): `videos`: only text and pictures are read
"""


def test_the_report_on_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    assert main([str(tmp_path / "rows.jsonl")]) == 1
    assert capsys.readouterr().out.replace(str(tmp_path), "FOLDER") == TOLD


def test_files_that_are_not_read_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, elsewhere = tmp_path / "rows", tmp_path / "elsewhere"
    for each in (folder, elsewhere):
        each.mkdir()
    assert main([str(folder)]) == 2
    assert "no row file is here: .jsonl, .json, .csv, .parquet" in capsys.readouterr().err
    (folder / "CAPITALS.JSONL").write_text(f"{DIALOGUE}\n{DIALOGUE}")
    (folder / "gone.jsonl").symlink_to(folder / "nowhere")
    (folder / "linked").symlink_to(elsewhere)
    lines = surveyed(folder, capsys, 1, empty="\n", cut="[\n1", **{"<a>\x1b": DIALOGUE})
    assert counted(lines, "empty.jsonl") == counted(lines, "cut.jsonl") == ["0"] * 4
    assert counted(lines, "CAPITALS.JSONL") == ["2", "2", "2", "0"]
    assert counted(lines, "<a>\N{REPLACEMENT CHARACTER}.jsonl") == ["1", "1", "1", "0"]
    told = {name: line for name, line in pairwise(lines) if name.endswith(":")}
    assert told["empty.jsonl:"] == "  * holds no row: a run refuses it"
    assert "cannot be read to its end: data file" in told["cut.jsonl:"]
    assert "gone.jsonl is no such file" in told["gone.jsonl:"]
    assert "linked is a folder" in told["linked:"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("rows.jsnl", "rows.jsnl: is no such file. Did you mean {}/rows.jsonl?"),
        ("notes.txt", "notes.txt: is not a row file; rows are read from .jsonl"),
        ("nowhere", "nowhere: is no such file; rows are read from .jsonl"),
    ],
)
def test_what_cannot_be_surveyed_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, said: str
) -> None:
    for name in ("rows.jsonl", "notes.txt"):
        (tmp_path / name).touch()
    assert main([str(tmp_path / given)]) == 2
    assert said.format(tmp_path) in capsys.readouterr().err


def test_pictures_may_be_in_another_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, pictures = tmp_path / "rows", tmp_path / "pictures"
    for folder in (rows, pictures):
        folder.mkdir()
    Image.new("RGB", (40, 40)).save(pictures / "a.png")
    (pictures / "b.png").write_bytes(b"no picture")
    asked = [{"turns": ["?"], "images": [f"{name}.png"]} for name in "ab"]
    assert counted(surveyed(rows, capsys, 1, rl="\n".join(map(json.dumps, asked))), "rl.jsonl") == ["2", "0", "0", "2"]
    assert main([str(rows), "--pictures", str(pictures)]) == 1
    told = capsys.readouterr().out
    assert counted(told.splitlines(), "rl.jsonl") == ["2", "0", "1", "1"]
    assert "  * 1 row (2): `images`: picture 'b.png': cannot be decoded" in told
    assert main([str(rows), "--pictures", str(tmp_path / "none")]) == 2
    assert "none: no such folder" in capsys.readouterr().err


def test_the_most_frequent_reasons_have_their_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["{}", *(json.dumps({"turns": ["?"], "images": number}) for number in (3, 4)), "[1", "{"]
    rows += [json.dumps({f"key {number}": 1}) for number in range(11)]
    lines = surveyed(tmp_path, capsys, 1, rows="\n".join(rows))
    assert counted(lines, "rows.jsonl") == ["16", "0", "0", "16"]
    told = [line.split(":")[0] for line in lines if line.startswith("  * ")]
    assert told[0] == "  * 2 rows (2, 3)"
    assert len(told) == 13
    assert told[-1] == "  * and 3 more reasons"
    assert "is no dialogue" not in "".join(lines)


def test_rows_that_stand_there_twice_are_told(tmp_path: Path) -> None:
    """They are no fault, but a file joined by mistake would be trained on twice. Ids do not count."""
    rows = [
        {"id": f"{at}", "turns": [text], "kind": "benign"} for at, text in enumerate(["a", "b", "a", "a", "c", "b"])
    ]
    blind = {"turns": ["Hm"], "images": ["none.png"]}  # put aside, however often it stands there
    (path := tmp_path / "rows.jsonl").write_text(
        "\n".join(map(json.dumps, [*rows, {**rows[0], "kind": ""}, blind, blind]))
    )
    assert survey_rows(path)[1][0] == "the same as an earlier row, whatever its id: 3 rows (3, 4, 6)"


def test_a_good_file_to_play_has_no_faults(tmp_path: Path) -> None:
    (path := tmp_path / "rl.jsonl").write_text(plays := json.dumps({"turns": ["?"], "images": ["a.png"]}))
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    assert survey_rows(path) == ((1, 0, 1, 0), [])
    # In a file with dialogues such a row is reported, because SFT would stop at it.
    path.write_text(f"{DIALOGUE}\n{plays}")
    counts, (told,) = survey_rows(path)
    assert counts == (2, 1, 2, 0)
    assert told.startswith("* 1 row (2): is no dialogue: it holds questions")


def test_files_written_by_runs_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run("synthesize", ["kind=benign", "rows=3", f"hydra.run.dir={tmp_path}"]) == 0
    (tmp_path / "quarantine.stage1.jsonl").write_text('{"id": "a", "status": "rejected"}\n')
    capsys.readouterr()
    lines = surveyed(tmp_path, capsys)
    assert [line.split()[0] for line in lines[1:4]] == ["rl.jsonl", "sft.jsonl", "stage1.jsonl"]
    assert not [line for line in lines if "unknown" in line or "quarantine" in line or "manifest" in line]


def test_a_misspelt_key_is_told(tmp_path: Path) -> None:
    (path := tmp_path / "rows.jsonl").write_text(json.dumps({"mesages": ANSWERED}))
    assert survey_rows(path)[1] == ["* 1 row (1): is nothing to play: it has 'mesages'. Did you mean messages?"]
    path.write_text('{"question_id": 1, "images": ["a.png"]}\n')  # as rows have them
    assert "Did you mean" not in survey_rows(path)[1][0]


@pytest.mark.parametrize("name", ["data", "test"])
def test_a_file_whose_rows_have_a_name_is_told(tmp_path: Path, name: str) -> None:
    (path := tmp_path / "rows.json").write_text(json.dumps({"version": 1, name: [{"prompt": "Hi"}]}))
    (line,) = survey_rows(path)[1]
    assert line.endswith(f"; {name!r} looks like a list of rows: a .json file holds such a list itself")
    (other := tmp_path / "rows.jsonl").write_text('{"image": "a.png", "qa": [{"question": "What?", "answer": "A."}]}')
    path.write_text('{"dialog": [{"speaker": "a", "text": "Hi"}]}')
    assert "looks like" not in str([*survey_rows(path)[1], *survey_rows(other)[1]])


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
        ([1], []),
    ],
)
def test_unknown_keys(row: object, unknown: list[str]) -> None:
    assert unknown_keys(row) == unknown


def test_keys_beyond_the_first_twelve_are_only_counted(tmp_path: Path) -> None:
    (path := tmp_path / "rows.jsonl").write_text(
        json.dumps({"prompt": "Hi", **{f"{'k' * 50}{n}": n for n in range(15)}})
    )
    assert survey_rows(path)[1] == [f"unknown keys: {', '.join([f'{40 * chr(107)} (1 row)'] * 12)} and 3 more"]


def test_rows_of_any_depth_are_surveyed(tmp_path: Path) -> None:
    """Python's limit is met somewhere: while a row is read, while its kind is, or while its keys are looked at."""
    deep = [f"{'[' * depth}1{']' * depth}" for depth in range(400, 1000)]
    rows = [f'{{"prompt": "Hi", "note": {one}}}\n{{"prompt": "Hi", "metadata": {{"a": {one}}}}}\n' for one in deep]
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    assert survey_rows(tmp_path / "rows.jsonl")[0][0] == 1200
