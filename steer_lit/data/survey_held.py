"""What the readable rows of a file hold: turns, kinds, system prompts and pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from steer_lit.data.sources import pictures_of
from steer_lit.numbers import counted
from steer_lit.types import Dialogue, Scenario

DATA_MAX_TURNS = 10  # data.max_turns in conf/data/, which experiments may lower
NO_KIND = "none"  # of a row that names none
_KINDS = ("red_team", "obfuscated", "benign", NO_KIND)


@dataclass(frozen=True, slots=True)
class Held:
    """What one readable row holds."""

    turns: int
    kind: str
    system: bool
    pictures: int


def held(record: Dialogue | Scenario) -> Held:
    """Return what a row holds that was read as `record`."""
    turns = len(record.attacks) if isinstance(record, Scenario) else len(record.turns)
    shown = sum(1 for _ in pictures_of(record))
    return Held(turns, record.kind or NO_KIND, record.system is not None, shown)


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


def _turns(turns: Sequence[int]) -> str:
    low, high = min(turns), max(turns)
    told = f"turns: {low} in every row" if low == high else f"turns: {low} to {high}, mean {fmean(turns):.1f}"
    long = sum(number > DATA_MAX_TURNS for number in turns)
    return f"{told}; {counted(long, 'row')} cut after {DATA_MAX_TURNS} (data.max_turns)" if long else told


def _of(count: int, rows: int) -> str:
    return "in every row" if count == rows else f"in {counted(count, 'row')}" if count else "in no row"
