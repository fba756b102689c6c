"""Chooses a row's reader by its keys: a file may have any known shape, whatever it is used for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from steer_lit.data.content import RawRow, meant
from steer_lit.data.formats import read_bench_row, read_rl_row, read_sft_row, read_stage1_row
from steer_lit.data.plain import (
    ANSWERS,
    PROMPTS,
    QUESTIONS,
    read_answered,
    read_asked,
    read_pairs,
    read_pairs_asked,
    read_turns,
)
from steer_lit.terminal.nearest import did_you_mean
from steer_lit.types import Dialogue, Kind, Scenario

NO_DIALOGUE = "is no dialogue"  # starts the error of a row that was never meant as one
NO_SCENARIO = "is nothing to play"
_SHOWN = 6
# The order counts: a row in one of the authors' shapes is read as such, whatever else it holds.
_DIALOGUES: dict[str, Callable[[object, str, int], Dialogue]] = {
    "messages": read_sft_row,
    "conversations": read_sft_row,
    "history": read_pairs,
}
_SCENARIOS: dict[str, Callable[[object, str, int, Kind], Scenario]] = {
    "messages_fixed": read_bench_row,
    "multiturn_qa": read_stage1_row,
    "question": read_rl_row,  # a list, or a text that more follows; a text alone is a prompt
    "messages": read_asked,
    "conversations": read_asked,
    "history": read_pairs_asked,
    **{name: read_turns for name in ("turns", *PROMPTS) if name != "question"},
}
_OF_ROWS = {*_SCENARIOS, *QUESTIONS} - {"text"}  # a message too may have a text


def read_dialogue(value: object, source: str, number: int) -> Dialogue:
    """Read a row to learn from, in any known shape. Raises RowError."""
    row = RawRow.of(value, source, number)
    key = row.first(_DIALOGUES)
    if not key or row.get(key) == []:
        asked = any(isinstance(row.get(name), str) for name in QUESTIONS)
        if asked and any(row.get(name) is not None for name in ANSWERS):
            return read_answered(value, source, number)
    if key:
        return _DIALOGUES[key](value, source, number)
    remedy = f"answers are learned from messages of user and assistant in turn, or from one of {', '.join(QUESTIONS)} "
    remedy += f"with one of {', '.join(ANSWERS)}"
    raise row.error(
        "", f"{NO_DIALOGUE}: it has {_keys(row)}, and none of {', '.join(_DIALOGUES)}; {remedy}{_hint(row)}"
    )


def read_scenario(value: object, source: str, number: int, kind: Kind = "red_team") -> Scenario:
    """Read a row to play, in any known shape; it gets `kind` if it names none. Raises RowError."""
    row = RawRow.of(value, source, number)
    alone = isinstance(row.get("question"), str) and row.get("metadata", "rest_messages") is None
    if key := row.first([key for key in _SCENARIOS if not (key == "question" and alone)]):
        return _SCENARIOS[key](value, source, number, kind)
    if alone:
        return read_turns(value, source, number, kind)
    raise row.error("", f"{NO_SCENARIO}: it has {_keys(row)}, and none of {', '.join(_SCENARIOS)}{_hint(row)}")


def _hint(row: RawRow) -> str:
    """Return what may be wrong: the row holds rows, or it has a key that is spelt almost like one of a shape."""
    known = [*_SCENARIOS, *QUESTIONS, *ANSWERS]
    for name, value in row.values.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping) and value[0].keys() & _OF_ROWS:
            return f"; {name!r:.60} looks like a list of rows: a .json file holds such a list itself"
    near = [meant(str(name), known) for name in list(row.values)[:_SHOWN] if name not in known]
    return next((f".{did_you_mean([name])}" for name in near if name), "")


def _keys(row: RawRow) -> str:
    names = [str(name) for name, value in row.values.items() if value is not None]
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "") or "no keys"
