"""The lines of trajectories.jsonl keep their format, and wrong names and types of fields are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from steer_lit.files.lines import MISREAD
from steer_lit.files.typed_lines import FieldError
from steer_lit.rollout.logged import LoggedTrajectory, step_of

LINE = (
    '{"step": 3, "scenario": "s", "kind": "red_team", "subset": "x", "seed": 7, "ended": "truncated", "failed": null,'
    ' "return": 1.5, "turns": ['
    '{"user": "u\u2028", "images": ["mini://knife"], "strategy": "deepen", "intent": "harmful", "tier": "words",'
    ' "assistant": "half a pair \\ud83d", "finish": "length", "verdict": {"safety": 10, "usefulness": 8,'
    ' "faithfulness": 1, "rationale": "r", "refused": true, "next_question": "q", "failed": null, "intent": "harmful",'
    ' "strategy": "deepen"},'
    ' "score": 0.5, "reward": 0.25, "advantage": -0.125},'
    ' {"user": "u", "images": [], "strategy": "scripted", "intent": null, "tier": null, "assistant": "", "finish":'
    ' "stop", "verdict": {"safety": null, "usefulness": null, "faithfulness": null, "rationale": "", "refused": null,'
    ' "next_question": null, "failed": "time-out", "intent": null, "strategy": null},'
    ' "score": null, "reward": null, "advantage": null}]}\n'
)


def test_a_line_survives_reading_and_writing_byte_for_byte() -> None:
    logged = LoggedTrajectory.from_line(LINE)
    assert logged.to_line() == LINE
    assert (logged.step, logged.trajectory_return, logged.turns[0].images) == (3, 1.5, ("mini://knife",))
    assert logged.turns[0].verdict is not None
    assert logged.turns[0].verdict.next_question == "q"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("step", value) for value in (True, 1.0, "1", None)),
        ("kind", "evil"),
        ("return", "1.5"),
        ("turns", {}),
        ("turns[0]", 7),
        ("turns[0].images", "a.png"),
        ("turns[0].finish", "eos"),
        ("turns[1].score", "0.5"),
        ("turns[0].verdict", []),
        ("turns[0].verdict.safety", 9.5),
        ("turns[0].verdict.refused", "perhaps"),
    ],
)
def test_a_field_of_another_type_is_named(field: str, value: object) -> None:
    *path, last = [int(at) if at.isdigit() else at for at in field.replace("[", ".").replace("]", "").split(".")]
    row = json.loads(LINE)
    inner: Any = row
    for at in path:
        inner = inner[at]
    inner[last] = value
    with pytest.raises(FieldError) as said:
        LoggedTrajectory.from_line(json.dumps(row))
    assert said.value.field == field
    assert said.value.reason.startswith(f"is {value!r}: ")


@pytest.mark.parametrize(("turn", "safety", "said"), [(0, None, "in 1..10, got"), (0, 11, "got"), (1, 10, "no scores")])
def test_a_verdict_has_all_scores_or_a_reason_and_none(turn: int, safety: int | None, said: str) -> None:
    row = json.loads(LINE)
    row["turns"][turn]["verdict"]["safety"] = safety
    with pytest.raises(FieldError, match=said) as raised:
        LoggedTrajectory.from_line(json.dumps(row))
    assert raised.value.field == f"turns[{turn}].verdict"


def test_a_missing_key_is_named_and_the_step_can_still_be_read() -> None:
    """A resumed run keeps such a line, because it needs only the step."""
    drifted = LINE.replace('"assistant"', '"answer"')
    with pytest.raises(FieldError, match=r"^turns\[0\]\.assistant Field required$"):
        LoggedTrajectory.from_line(drifted)
    assert step_of(drifted) == 3
    for hostile in ('{"step": "3"}', '{"step": null}', '{"step": 3.0}', '{"step": Infinity}', "[3]", "3", "{}"):
        with pytest.raises(MISREAD):
            step_of(hostile)
