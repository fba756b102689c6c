"""Writes records as rows, and rows as files, so that `formats.py` and `rows.py` read equal records back.

Every row is read back before it is returned. A record that its shape cannot hold - a picture in an answer, a turn
without words - is refused at once, not found changed a stage later.

In rows of dialogues and of STEER-RL the text holds `<image>` marks and `images` the pictures. Rows of STEER-Bench and
Stage I name pictures where they are seen, or in `image` if the only one opens the dialogue. A content is a string if
that says everything, otherwise (the text itself spells `<image>`) a list of parts; Stage I rows always hold parts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from steer_lit.data.content import IMAGE_MARK, MARK, split_marks
from steer_lit.data.formats import BENCH_FACTS, FACTS, LABELLED_FACTS, STAGE1_FACTS
from steer_lit.data.labels import settled, write_attack, write_gold, write_labels
from steer_lit.data.shapes import read_dialogue, read_scenario
from steer_lit.errors import RowError, SteerError
from steer_lit.files.atomic import replacing
from steer_lit.types import Attack, Dialogue, ImageRef, Part, Scenario

WrittenRow = dict[str, object]
T = TypeVar("T", Dialogue, Scenario)
_FROM = {"user": "human", "assistant": "gpt", "system": "system"}
_MESSAGES = ("messages", "conversations", "question", "messages_fixed", "multiturn_qa")


class WriteError(SteerError, ValueError):
    """A record that its row shape cannot hold, or a row that its file cannot hold; says what would be lost."""


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Write rows as .jsonl, .json (one array) or .parquet, as `path` ends, and return their number.

    The file appears whole or not at all: an older one stays until the last row is written. Raises WriteError for
    another ending, or a row that JSON or Parquet cannot hold.
    """
    if path.suffix not in (".jsonl", ".json", ".parquet"):
        raise WriteError(f"{path}: rows are written to .jsonl, .json and .parquet files")
    with replacing(path) as unfinished:
        if path.suffix == ".parquet":
            return _write_parquet(unfinished, path, rows)
        return _write_json(unfinished, path, rows, array=path.suffix == ".json")


def sft_row(dialogue: Dialogue, style: Literal["messages", "conversations"] = "messages") -> WrittenRow:
    """Return the dialogue in LLaMA-Factory's sharegpt: `messages` of role and content, or `conversations` of from
    and value. Undone by `read_sft_row`. Raises WriteError.
    """
    dialogue = _settled(dialogue)
    contents = [(message.role, _content(message.parts)) for message in dialogue.messages]
    if style == "messages":
        turns = [{"role": role, "content": content} for role, content in contents]
    else:
        turns = [{"from": _FROM[role], "value": content} for role, content in contents]
    row = {
        "id": dialogue.id,
        style: turns,
        "images": [ref.uri for message in dialogue.messages for ref in message.images],
        **write_labels(dialogue, dialogue.metadata, FACTS),
    }
    return _checked(row, dialogue)


def rl_row(scenario: Scenario) -> WrittenRow:
    """Return the scenario as a STEER-RL row. Undone by `read_rl_row`. Raises WriteError."""
    scenario = _settled(scenario)
    labels = write_labels(scenario, scenario.metadata, LABELLED_FACTS)
    facts = labels.pop("metadata", {})
    assert isinstance(facts, dict)
    asked = [_message(attack) for attack in scenario.attacks]
    row = {
        "question": [*_system(scenario), asked[0]],
        "images": [ref.uri for attack in scenario.attacks for ref in attack.message.images],
        **labels,
        **_picture(scenario),
        "metadata": {**facts, "question_id": scenario.id, "rest_messages": asked[1:]},
    }
    return _checked(row, scenario)


def bench_row(scenario: Scenario) -> WrittenRow:
    """Return the scenario as a STEER-Bench row. Undone by `read_bench_row`. Raises WriteError."""
    scenario = _settled(scenario)
    image, asked = _replayed(scenario)
    row = {
        "question_id": scenario.id,
        **image,
        "messages_fixed": [*_system(scenario), *asked],
        **write_labels(scenario, scenario.metadata, BENCH_FACTS),
        **_picture(scenario),
    }
    return _checked(row, scenario)


def stage1_row(scenario: Scenario) -> WrittenRow:
    """Return the scenario as a Stage I row. Its metadata may hold `intent`, `strategy`, `max_score` and `scores`, one
    for each attack, 1..5 or None. Undone by `read_stage1_row`. Raises WriteError.
    """
    scenario = _settled(scenario)
    facts = dict(scenario.metadata)
    scores = facts.pop("scores", None) or (None,) * len(scenario.attacks)
    if not isinstance(scores, tuple) or len(scores) != len(scenario.attacks):
        wanted = f"must be a list of {len(scenario.attacks)}, one for each turn"
        raise WriteError(f"record {scenario.id!r}: its scores are {scores!r:.200}, {wanted}")
    image, asked = _replayed(scenario)
    scored = zip(map(_message_in_parts, asked), scores, strict=True)
    turns = [{**message, **({} if score is None else {"score": score})} for message, score in scored]
    row = {
        "question_id": scenario.id,
        "intent": None,  # keeps the authors' order of keys
        **image,
        "multiturn_qa": [*_system(scenario), *turns],
        **write_labels(scenario, facts, STAGE1_FACTS),
        **_picture(scenario),
    }
    return _checked({key: value for key, value in row.items() if value is not None}, scenario)


def _content(parts: Sequence[Part], named: bool = False) -> str | list[WrittenRow]:
    """Return the content that `read_content` reads as `parts`. Pictures become marks or, with `named`, named parts."""
    text = "".join(part if isinstance(part, str) else IMAGE_MARK for part in parts)
    marked = tuple(part if isinstance(part, str) else MARK for part in parts)
    if split_marks(text) == marked and not (named and MARK in marked):
        return text
    return [_part(part, named) for part in parts]


def _part(part: Part, named: bool) -> WrittenRow:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image", "image": part.uri} if named else {"type": "image"}


def _message(attack: Attack, named: bool = False) -> WrittenRow:
    return {"role": "user", "content": _content(attack.message.parts, named), **write_attack(attack)}


def _replayed(scenario: Scenario) -> tuple[WrittenRow, list[WrittenRow]]:
    """Return the row's `image`, if the only picture opens the dialogue and words follow it, and the messages."""
    pictures = [ref for attack in scenario.attacks for ref in attack.message.images]
    first, *rest = scenario.opening.message.parts or ("",)
    worded = any(isinstance(part, str) and part.strip() for part in rest)
    if len(pictures) != 1 or not isinstance(first, ImageRef) or not worded:
        return {}, [_message(attack, named=True) for attack in scenario.attacks]
    opening = {"role": "user", "content": _content(rest), **write_attack(scenario.opening)}
    return {"image": first.uri}, [opening, *map(_message, scenario.scripted)]


def _system(scenario: Scenario) -> list[WrittenRow]:
    return [] if scenario.system is None else [{"role": "system", "content": _content((scenario.system,))}]


def _picture(scenario: Scenario) -> WrittenRow:
    return {} if scenario.picture is None else {"picture": write_gold(scenario.picture)}


def _settled(record: T) -> T:
    try:
        return replace(record, metadata=settled(record.metadata))
    except RowError as error:
        raise WriteError(f"record {record.id!r}: {error.field} {error.reason}") from error


def _checked(row: Mapping[str, object], record: Dialogue | Scenario) -> WrittenRow:
    """Return the row if an equal record is read back from it. Raises WriteError otherwise."""
    try:
        back = read_dialogue(row, "", 1) if isinstance(record, Dialogue) else read_scenario(row, "", 1)
    except RowError as error:
        raise WriteError(f"record {record.id!r}: {error.field} {error.reason}") from error
    for name in (field.name for field in fields(record)):
        if getattr(back, name) != getattr(record, name):
            shown = f"{getattr(back, name)!r:.200}, not {getattr(record, name)!r:.200}"
            raise WriteError(f"record {record.id!r}: its {name} would be read back as {shown}")
    return dict(row)


def _write_json(unfinished: Path, path: Path, rows: Iterable[Mapping[str, object]], array: bool) -> int:
    """Write one row per line, with the brackets and commas of an array if `array`."""
    count = 0
    with unfinished.open("w", encoding="utf-8", newline="\n") as file:
        file.write("[\n" if array else "")
        for count, row in enumerate(rows, start=1):
            try:
                line = json.dumps(row, ensure_ascii=False, allow_nan=False)
                file.write((",\n" if array and count > 1 else "") + line + ("" if array else "\n"))
            except (TypeError, ValueError, RecursionError) as error:
                raise WriteError(f"{path}, row {count}: cannot be written as JSON ({error})") from error
        file.write("\n]\n" if array else "")
    return count


def _write_parquet(unfinished: Path, path: Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Write all rows as one table, with a column for every key that any row has."""
    import pyarrow
    from pyarrow import parquet

    whole = [dict(row) for row in rows]
    mixed = (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError)
    try:
        try:
            table = _table(whole)
        except mixed:  # some contents are text and others parts, but a column holds one type
            table = _table([_in_parts(row) for row in whole])
        parquet.write_table(table, unfinished)
        _check_depth(unfinished)
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise WriteError(f"{path}: Parquet gives a column one type ({error}); write these rows to .jsonl") from error
    return len(whole)


def _check_depth(written: Path) -> None:
    """Raise ValueError if values are nested so deeply that Arrow reads nothing of the file that it wrote itself."""
    from pyarrow import parquet

    try:
        parquet.read_schema(written)
    except OSError as error:
        raise ValueError(str(error)) from error


def _table(rows: Sequence[WrittenRow]) -> Any:
    import pyarrow

    names = dict.fromkeys(name for row in rows for name in row)
    return pyarrow.table({name: pyarrow.array([row.get(name) for row in rows]) for name in names})


def _in_parts(row: WrittenRow) -> WrittenRow:
    """Return the row with each message's text as parts, and its marks as pictures without a name."""

    def split(value: object) -> object:
        return [_message_in_parts(message) for message in value] if isinstance(value, list) else value

    row = {name: split(value) if name in _MESSAGES else value for name, value in row.items()}
    facts = row.get("metadata")
    if isinstance(facts, dict) and "rest_messages" in facts:
        row["metadata"] = {**facts, "rest_messages": split(facts["rest_messages"])}
    return row


def _message_in_parts(message: Any) -> Any:
    if not isinstance(message, Mapping):
        return message
    name = "value" if "from" in message else "content"
    content = message.get(name)
    if not isinstance(content, str):
        return message
    parts = [{"type": "image"} if part is MARK else {"type": "text", "text": part} for part in split_marks(content)]
    return {**message, name: parts}
