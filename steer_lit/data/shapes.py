"""Chooses a row's reader by its keys: a file may have any known shape, whatever it is used for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from steer_lit.data import plain
from steer_lit.data.content import MESSAGE_KEYS, RawRow, meant, says_something
from steer_lit.data.formats import STAGE1_FACTS, read_bench_row, read_rl_row, read_sft_row, read_stage1_row
from steer_lit.data.plain import ANSWERS, NO_DIALOGUE, PROMPTS, QUESTIONS, read_answered, read_asked, read_turns
from steer_lit.errors import RowError
from steer_lit.numbers import counted, few
from steer_lit.terminal.nearest import did_you_mean
from steer_lit.terminal.visible import visible_line
from steer_lit.types import Dialogue, Kind, Scenario

_SHOWN = 6
# The order counts: a row in one of the authors' shapes is read as such, whatever else it holds.
_DIALOGUES: dict[str, Callable[[object, str, int], Dialogue]] = {
    "messages": read_sft_row,
    "conversations": read_sft_row,
    "history": read_answered,
}
_SCENARIOS: dict[str, Callable[[object, str, int, Kind], Scenario]] = {
    "messages_fixed": read_bench_row,
    "multiturn_qa": read_stage1_row,
    "question": read_rl_row,  # messages, or a text that more follows; texts alone are prompts
    "messages": read_asked,
    "conversations": read_asked,
    "history": read_turns,
    **{name: read_turns for name in ("turns", *PROMPTS) if name != "question"},
}
# For a question of texts alone.
_ALONE = {key: _SCENARIOS[key] for key in _SCENARIOS if key not in PROMPTS} | dict.fromkeys(PROMPTS, read_turns)
_OF_ROWS = {*_SCENARIOS, *QUESTIONS} - {"text"}  # a message too may have a text
_KNOWN = frozenset([
    *_DIALOGUES, *_SCENARIOS, *QUESTIONS, *ANSWERS, plain.MORE, *plain.CATEGORIES, *STAGE1_FACTS, "label",
    "id", "question_id", "images", "image", "unsafe_image_id", "system", "kind", "subset", "picture", "metadata",
    "risk_trajectory", "is_safe", "is_response_safe", "chosen", "rejected", "kto_tag", "options", "choices",
])  # fmt: skip
_OF_MESSAGES = ("messages", "conversations", "messages_fixed", "multiturn_qa", "question")
_LONGEST = 40  # characters shown of a key


def read_dialogue(value: object, source: str, number: int) -> Dialogue:
    """Read a row to learn from, in any known shape. Raises RowError."""
    row = RawRow.of(value, source, number)
    key = row.first(_DIALOGUES)
    asked = any(isinstance(row.get(name), str) for name in QUESTIONS)
    if (not key or row.get(key) == []) and asked and any(row.get(name) is not None for name in ANSWERS):
        return read_answered(value, source, number)
    if key:
        return _DIALOGUES[key](value, source, number)
    if not _hint(row) and _is_played(value, source, number):
        none = f" (none of {', '.join(ANSWERS)})" if asked else ""
        told = f"questions without answers{none}, a row to play (data.source.rl), not to learn from"
        raise row.error("", f"{NO_DIALOGUE}: it holds {told}")
    remedy = "; answers are learned from messages of user and assistant in turn, "
    remedy += f"or from one of {', '.join(QUESTIONS)} with one of {', '.join(ANSWERS)}"
    raise row.error("", f"{NO_DIALOGUE}: it has {_found(row, _DIALOGUES, remedy)}")


def read_scenario(value: object, source: str, number: int, kind: Kind = "red_team") -> Scenario:
    """Read a row to play, in any known shape; it gets `kind` if it names none. Raises RowError."""
    row = RawRow.of(value, source, number)
    asked = said if isinstance(said := row.get("question"), list) else [said]
    alone = all(isinstance(text, str) for text in asked) and row.get("metadata", "rest_messages") is None
    if key := row.first(readers := _ALONE if alone else _SCENARIOS):
        return readers[key](value, source, number, kind)
    raise row.error("", f"is nothing to play: it has {_found(row, _SCENARIOS)}")


def unknown_keys(row: object) -> list[str]:
    """Return the keys that say something and that no reader of any shape asks for."""
    values = row if isinstance(row, Mapping) else {}
    found = [key for key, value in values.items() if key not in _KNOWN and says_something(value)]
    for key in _OF_MESSAGES:
        messages = values[key] if isinstance(values.get(key), list | tuple) else ()
        said = (name for one in messages if isinstance(one, Mapping) for name in one if says_something(one[name]))
        found += dict.fromkeys(f"{key}[].{name}" for name in said if name not in MESSAGE_KEYS)
    return found


def told_of_unknown(rows: Counter[str]) -> str:
    """Say which keys are unknown, with the number of rows that have each, and which known ones may be meant."""
    shown = few([f"{key[:_LONGEST] or '(no name)'} ({counted(count, 'row')})" for key, count in rows.most_common()], 12)
    keys = [key for key in rows if "[]." not in key]
    near = did_you_mean([name for key in keys if (name := meant(key[:_LONGEST], _KNOWN))])
    return visible_line(f"unknown keys: {shown}{near and f'.{near}'}")


def _is_played(value: object, source: str, number: int) -> bool:
    try:
        return bool(read_scenario(value, source, number))
    except RowError:
        return False


def _hint(row: RawRow) -> str:
    """Return what may be wrong: a .json file's object holds its rows, or a key is spelt almost like one of a shape."""
    known = [*_SCENARIOS, *QUESTIONS, *ANSWERS]
    for name, value in row.values.items() if row.source.lower().endswith(".json") else ():
        if isinstance(value, list) and value and isinstance(value[0], Mapping) and value[0].keys() & _OF_ROWS:
            return f"; {name!r:.60} looks like a list of rows: a .json file holds such a list itself"
    near = [meant(str(name), known) for name in list(row.values)[:_SHOWN] if name not in known]
    return next((f".{did_you_mean([name])}" for name in near if name), "")


def _found(row: RawRow, wanted: Iterable[str], remedy: str = "") -> str:
    """Return the row's keys, in quotes, then what may be wrong."""
    names = [repr(name) for name, value in row.values.items() if value is not None]
    keys = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "") or "no keys"
    none = f", and none of {', '.join(wanted)}{remedy}"
    return keys + (_hint(row) or none)
