"""What the survey says of files that are not as they should be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from steer_lit.data.survey import main


def row(*answers: str) -> str:
    asked = {"role": "user", "content": "Hi"}
    return json.dumps(
        {"messages": [turn for said in answers for turn in (asked, {"role": "assistant", "content": said})]}
    )


def surveyed(folder: Path, capsys: pytest.CaptureFixture[str], **files: str) -> list[str]:
    for name, text in files.items():
        (folder / f"{name}.jsonl").write_text(text)
    assert main([str(folder)]) == 0
    return capsys.readouterr().out.splitlines()


def test_what_is_nested_too_deeply_is_a_refused_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep = f'{row("<answer>Ho</answer>")[:-1]}, "metadata": {{"deep": {"[" * 700}{"]" * 700}}}}}'
    lines = surveyed(tmp_path, capsys, rows=f"{deep}\n{row('<answer>Ho</answer>')}\n")
    assert "| rows.jsonl | 2 | 1 | 1 | 1 | 0 | refused: row 1: is nested too deeply |" in lines


def test_a_file_without_a_row_is_not_all_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "| empty.jsonl | 0 | 0 | 0 | 0 | 0 | no rows |" in surveyed(tmp_path, capsys, empty="\n")


def test_hostile_names_and_texts_stay_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mark = "<img src=x> ![x](y)|\x1b"
    lines = surveyed(tmp_path, capsys, **{mark: json.dumps({"turns": ["?"], "images": [mark]})})
    (tmp_path / f"{mark}.png").write_bytes(b"no picture")
    lines += surveyed(tmp_path, capsys)
    said = "\n".join(lines)
    assert said.count("&lt;img src=x> ![x]\\(y)\\|") >= 4  # the file and its picture that is none, the other picture
    assert not [mark for mark in ("<img", "](", "y)|", "\x1b") if mark in said]


def test_answers_without_the_form_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = "<thinking>Hm.</thinking><answer>Ho</answer>"
    files = {
        "good": row(good, good),
        "plain": f"{row('Ho', good)}\n{row('<answer> </answer>')}\n",
        "asked": '{"prompt": "?"}',
    }
    told = surveyed(tmp_path, capsys, **files)[-1]
    assert told.startswith("2 of 5 answers have no <answer> part (plain.jsonl): a policy that learns")
    assert told.endswith("is given 0 for helpfulness.")
    assert "<answer>" not in "".join(surveyed(tmp_path, capsys, plain=""))


def test_pictures_may_lie_in_another_folder_and_only_broken_ones_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, pictures = tmp_path / "rows", tmp_path / "pictures"
    for folder in (rows, pictures):
        folder.mkdir()
    Image.new("RGB", (40, 40)).save(pictures / "a.png")
    (pictures / "b.png").write_bytes(b"no picture")
    asked = [{"turns": ["?"], "images": [f"{name}.png"]} for name in "ab"]
    (rows / "rl.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in asked))
    assert main([str(rows)]) == 0
    beside = capsys.readouterr().out
    assert "| rl.jsonl | 2 | 0 | 2 | 0 | 2 |" in beside
    assert "pictures open" not in beside
    assert main([str(rows), "--pictures", str(pictures)]) == 0
    assert "| rl.jsonl | 2 | 0 | 2 | 0 | 1 |" in capsys.readouterr().out
    assert main([str(pictures)]) == 0
    said = capsys.readouterr().out
    assert "1 of 2 pictures open:" in said
    assert "| b.png | " in said
    assert "| a.png" not in said
    assert main([str(rows), "--pictures", str(tmp_path / "none")]) == 2
    assert "none: no such folder" in capsys.readouterr().err
