"""What the readable rows of a file hold: turns, kinds, system prompts, pictures, and keys that have no effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from steer_lit.data.formats import FACTS, LABELLED_FACTS, STAGE1_FACTS
from steer_lit.data.losses import keys_said, unread
from steer_lit.data.shapes import read_scenario
from steer_lit.data.sources import pictures_of
from steer_lit.data.writers import WriteError, rl_row, sft_row
from steer_lit.numbers import and_more, counted
from steer_lit.types import Dialogue, Scenario

DATA_MAX_TURNS = 10  # data.max_turns in conf/data/, which experiments may lower
NO_KIND = "none"
_KINDS = ("red_team", "obfuscated", "benign", NO_KIND)
# Keys that readers look at and no record keeps: those that refuse an answer, and a kind in the row's own spelling.
_LOOKED_AT = {"is_safe", "is_response_safe", "chosen", "rejected", "kto_tag", "kind"}
_LOOKED_AT |= {"metadata.is_safe", "metadata.is_response_safe"}
# Facts of the authors' shapes and of the kit's own programs. Any other fact in `metadata` is only carried along.
_FACTS = {*FACTS, *LABELLED_FACTS, *STAGE1_FACTS, "risk_trajectory", "scores", "framing", "structure", "twin", "red"}
_KEYS = 12  # shown of a file
_LONGEST = 40  # characters shown of a key

Unread = tuple[str, ...]
Seen = dict[tuple[object, ...], Unread]


@dataclass(frozen=True, slots=True)
class Held:
    """What one readable row holds. `kind` is NO_KIND if the row names none."""

    turns: int
    kind: str
    system: bool
    pictures: int


def held(value: object, dialogue: Dialogue | None, scenario: Scenario | None) -> Held | None:
    """Return what a row holds that was read as `dialogue`, as `scenario` or as both, None if as neither."""
    record = scenario or dialogue
    if record is None:
        return None
    turns = len(record.attacks) if isinstance(record, Scenario) else len(record.turns)
    shown = sum(1 for _ in pictures_of(record))
    return Held(turns, _kind(value, dialogue, scenario), record.system is not None, shown)


def unread_keys(value: object, dialogue: Dialogue | None, scenario: Scenario | None, seen: Seen) -> Unread:
    """Return the keys without effect of a row that is read as `dialogue`, as `scenario` or as both; none of another.

    `seen` takes in the answers for a file's rows: rows with the same keys are alike in this, and to look at each would
    take longer than to read it.
    """
    if not isinstance(value, Mapping) or not (dialogue or scenario):
        return ()
    try:
        keys = (dialogue is None, scenario is None, *keys_said(value))
        if keys not in seen:
            seen[keys] = _unread(value, dialogue, scenario)
        return seen[keys]
    except (WriteError, RecursionError):  # what the records hold cannot be told
        return ()


def held_lines(rows: Sequence[Held], every: int) -> Iterator[str]:
    """Yield what the readable rows of `every` row hold, a line for each sort of fact; nothing if there are none."""
    if not rows:
        return
    if len(rows) < every:
        yield f"readable: {len(rows):,} of {counted(every, 'row')}; of these:"
    yield _turns([row.turns for row in rows])
    kinds = Counter(row.kind for row in rows)
    named = ", ".join(f"{kinds[kind]:,} {kind}" for kind in _KINDS if kinds[kind])
    yield f"kinds: {named}{' (data.source.kind decides)' if kinds[NO_KIND] else ''}"
    yield f"system prompt: {_of(sum(row.system for row in rows), len(rows))}"
    pictures = Counter(min(row.pictures, 2) for row in rows)
    shown = {"one": pictures[1], "several": pictures[2], "none": pictures[0]}
    yield f"pictures: {', '.join(f'{word} {_of(count, len(rows))}' for word, count in shown.items() if count)}"


def key_lines(rows: Sequence[Unread]) -> Iterator[str]:
    """Yield the keys without effect, those of most rows first; nothing if there are none."""
    if keys := Counter(key for row in rows for key in row).most_common():
        alike = groupby(keys[:_KEYS], key=lambda found: found[1])
        told = [
            f"{', '.join(key[:_LONGEST] or '(no name)' for key, _ in same)} ({counted(count, 'row')})"
            for count, same in alike
        ]
        yield f"keys without effect: {', '.join(told)}{and_more(len(keys) - _KEYS)}"


def _turns(turns: Sequence[int]) -> str:
    low, high = min(turns), max(turns)
    told = f"turns: {low} in every row" if low == high else f"turns: {low} to {high}, mean {fmean(turns):.1f}"
    long = sum(number > DATA_MAX_TURNS for number in turns)
    return f"{told}; {counted(long, 'row')} cut after {DATA_MAX_TURNS} (data.max_turns)" if long else told


def _of(count: int, rows: int) -> str:
    return "in every row" if count == rows else f"in {counted(count, 'row')}" if count else "in no row"


def _kind(value: object, dialogue: Dialogue | None, scenario: Scenario | None) -> str:
    if dialogue is not None and dialogue.kind is not None:
        return dialogue.kind
    if scenario is None:
        return NO_KIND
    if scenario.kind == "red_team":  # a row that names no kind gets the one that its reader is given
        with suppress(RecursionError):  # the row is nested almost too deeply
            return NO_KIND if read_scenario(value, "", 1, "benign").kind == "benign" else "red_team"
    return scenario.kind


def _unread(value: Mapping[str, object], dialogue: Dialogue | None, scenario: Scenario | None) -> Unread:
    made = [sft_row(dialogue)] if dialogue else []
    made += [rl_row(scenario)] if scenario else []
    names = unread(value, {"": [*map(_with_effect, made)]})
    return tuple(name for name in names if name not in _LOOKED_AT and name.removeprefix("metadata.") not in _FACTS)


def _with_effect(row: Mapping[str, object]) -> Mapping[str, object]:
    """Return a written row without the facts that are only carried along."""
    facts = row.get("metadata")
    if not isinstance(facts, Mapping):
        return row
    known = {*_FACTS, "question_id", "rest_messages"}
    return {**row, "metadata": {name: fact for name, fact in facts.items() if name in known}}
