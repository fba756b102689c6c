"""What the survey says of files that are not as they should be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
