"""What is checked in a row file before a policy loads: the number of rows, and gold facts if a rubric needs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from steer_lit.checks.rows import read_row_problems
from steer_lit.data.sources import FileSource
from steer_lit.errors import SteerError
from steer_lit.tutor.rubric import RubricTutor
from tests.settings import Refused

GOLD = {"intent": "harmless", "tier": "none", "answer": "A cup."}
PLAIN: dict[str, Any] = {"prompt": "What is it?"}
KNOWN: dict[str, Any] = {"messages_fixed": [{"role": "user", "content": "What is it?", "gold": GOLD}], "question_id": 1}
SAID: dict[str, Any] = {"history": [{"user": "What is it?", "bot": "A cup."}]}
TURNS = [{"role": "user", "content": "<image>"}, {"role": "assistant", "content": "A cup."}]
UNSEEN: dict[str, Any] = {"messages": TURNS, "images": ["none.png"]}


class MyTutor(RubricTutor):
    """A tutor such as CONTRIBUTING describes."""


def keys(folder: Path, rows: list[Any], stage: str = "grpo", tutor: str = "Rubric", val_size: int = 1) -> list[str]:
    (path := folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = {
        "stage": stage,
        "data": {"val_size": val_size, "max_turns": 10},
        "tutor": {"_target_": tutor if "." in tutor else f"steer_lit.tutor.{tutor.lower()}.{tutor}Tutor"},
    }
    return [problem.key for problem in read_row_problems(config, FileSource(sft=str(path), rl=str(path)))]


@pytest.mark.parametrize(
    ("rows", "options", "found"),
    [
        ([PLAIN] * 3, {}, ["tutor"]),
        ([PLAIN] * 3, {"val_size": 3}, ["tutor", "data.val_size"]),
        ([PLAIN] * 3, {"tutor": f"{__name__}.MyTutor"}, ["tutor"]),
        ([PLAIN] * 3, {"tutor": "Llm"}, []),
        ([PLAIN] * 3, {"tutor": "nowhere.Tutor"}, []),
        ([PLAIN, PLAIN, KNOWN], {}, []),
        ([KNOWN, KNOWN], {"val_size": 2}, ["data.val_size"]),
        ([SAID] * 3, {"stage": "sft"}, []),
        ([SAID] * 3, {"stage": "sft", "val_size": 64}, ["data.val_size"]),
        ([KNOWN, 7], {"val_size": 1}, ["data.val_size"]),  # a row of no known format does not count
        ([7, 7], {"val_size": 1}, []),  # the reader reports this better
    ],
)
def test_problems_of_the_rows_are_reported(
    tmp_path: Path, rows: list[Any], options: dict[str, Any], found: list[str]
) -> None:
    assert keys(tmp_path, rows, **options) == found


def test_no_more_rows_are_read_than_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []

    def some(*_: object) -> Any:
        for row in [(1, PLAIN), (2, KNOWN), (3, KNOWN), (4, KNOWN)]:
            read.append(row)
            yield row

    monkeypatch.setattr("steer_lit.data.rows.file_rows", some)
    assert keys(tmp_path, [], val_size=2) == []
    assert len(read) == 3


@pytest.mark.parametrize(
    ("line", "allowed", "said"),
    [
        ("{", 0, "row 3: cannot be read as JSON"),
        ('{"messages": [{"role": "user", "content": "Hi"}]}', 0, "row 3, field 'messages': user and assistant must"),
        (json.dumps(UNSEEN), 0, "row 3, field 'images'"),
        ("{", 1, "loaded"),
    ],
)
def test_a_files_rows_are_read_before_any_policy_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused, line: str, allowed: int, said: str
) -> None:
    """Fetching the policy may take an hour."""

    def load(*_: object, **__: object) -> Any:
        raise SteerError("loaded")

    monkeypatch.setattr("steer_lit.policy.load.load_policy", load)
    rows, run = tmp_path / "rows.jsonl", tmp_path / "run"
    rows.write_text("\n".join([json.dumps(SAID), json.dumps(SAID), line]))
    words = ["data=steer", f"data.source.sft={rows}", "data.val_size=1", "data.batch_size=1", "logger=none"]
    assert said in refused(*words, f"data.max_bad_rows={allowed}", f"hydra.run.dir={run}")
    assert len((run / "quarantine.jsonl").read_text().splitlines()) == 1  # in the run's folder
