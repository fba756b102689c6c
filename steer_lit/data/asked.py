"""Rows that remember which of their keys a reader asked for: the others have no effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby

from steer_lit.data.content import absent
from steer_lit.numbers import and_more, counted
from steer_lit.terminal.visible import visible_line

_DEPTH = 4  # a picture's address lies as deep: in a part of the content of a message of the row
# Facts in `metadata` that the kit's own programs write. Any other that no reader asks for is only carried along.
_OWN_FACTS = ("intent", "strategy", "max_score", "scores", "risk_trajectory", "framing", "structure", "twin", "red")
_OWN = {f"metadata.{name}" for name in _OWN_FACTS}
_KEYS = 12  # shown of a file
_LONGEST = 40  # characters shown of a key


class Asked(dict[str, object]):
    """An object of a row. `asked` are the keys that `get` was called with."""

    def __init__(self, values: Mapping[str, object]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, key: str, default: object = None) -> object:  # type: ignore[override]
        self.asked.add(key)
        return super().get(key, default)


def watched(value: object, depth: int = _DEPTH) -> object:
    """Return a row whose objects are `Asked`, down to `depth` one within the other."""
    if depth and isinstance(value, Mapping):
        return Asked({key: watched(item, depth - 1) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return [watched(item, depth) if isinstance(item, Mapping) else item for item in value]
    return value


def unasked(row: object, place: str = "") -> Iterator[str]:
    """Yield the keys of a `watched` row that say something and were not asked for, such as `messages[user].note`.

    An object of which no key was asked for was taken as a whole.
    """
    for item in row if isinstance(row, list) else [row]:
        if not isinstance(item, Asked) or not item.asked:
            continue
        role = dict.get(item, "role") or dict.get(item, "from")
        within = f"{place}[{role}]." if isinstance(role, str) else f"{place}." if place else ""
        for key, value in item.items():
            if key in item.asked:
                yield from unasked(value, f"{within}{key}")
            elif not absent(value) and value not in ("", [], {}):
                yield f"{within}{key}"


def without_effect(row: object) -> tuple[str, ...]:
    """Return the keys of a `watched` row that no reader asked for."""
    return tuple(dict.fromkeys(key for key in unasked(row) if key not in _OWN))


def told_of_idle(rows: Counter[str]) -> str:
    """Return the keys without effect and how many rows have them, those of most rows first."""
    keys = rows.most_common()
    alike = groupby(keys[:_KEYS], key=lambda found: found[1])
    told = [
        f"{', '.join(key[:_LONGEST] or '(no name)' for key, _ in same)} ({counted(count, 'row')})"
        for count, same in alike
    ]
    return visible_line(f"keys without effect: {', '.join(told)}{and_more(len(keys) - _KEYS)}")
