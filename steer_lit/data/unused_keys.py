"""Rows that remember which of their keys a reader asked for: the others are unused."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import groupby

from steer_lit.data.content import absent, meant
from steer_lit.numbers import and_more, counted
from steer_lit.terminal.nearest import did_you_mean
from steer_lit.terminal.visible import visible_line

UnusedKey = tuple[str, str]  # an unused key, such as `messages[user].note`, and the key that was meant, or ""
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


def unused_keys(row: object) -> tuple[UnusedKey, ...]:
    """Return the keys of a `watched` row that say something and that no reader asked for."""
    return tuple(dict.fromkeys(key for key in _unused(row) if key[0] not in _OWN))


def _unused(row: object, place: str = "") -> Iterator[UnusedKey]:
    """Yield the unused keys of what stands at `place`.

    An object of which no key was asked for was taken as a whole. One may be meant that was asked for in vain.
    """
    for item in row if isinstance(row, list) else [row]:
        if not isinstance(item, Asked) or not item.asked:
            continue
        role = dict.get(item, "role") or dict.get(item, "from")
        within = f"{place}[{role}]." if isinstance(role, str) else f"{place}." if place else ""
        for key, value in item.items():
            if key in item.asked:
                yield from _unused(value, f"{within}{key}")
            elif not absent(value) and value not in ("", [], {}):
                near = _meant(key[:_LONGEST], frozenset(item.asked - item.keys()))
                yield f"{within}{key}", near and f"{within}{near}"


_meant = lru_cache(maxsize=1024)(meant)  # most rows of a file have the same keys


def told_of_unused(rows: Counter[UnusedKey]) -> Iterator[tuple[int, str]]:
    """Yield (log level, line): keys that are probably misspelt, then those that are only carried along.

    Each line says how many rows have its keys, those of most rows first.
    """
    for level, misspelt in ((logging.WARNING, True), (logging.INFO, False)):
        keys = [(key, count) for key, count in rows.most_common() if bool(key[1]) is misspelt]
        told = [
            f"{', '.join(key[:_LONGEST] or '(no name)' for (key, _), _ in same)} ({counted(count, 'row')})"
            for count, same in groupby(keys[:_KEYS], key=lambda found: found[1])
        ]
        if keys:
            near = did_you_mean([near for (_, near), _ in keys if near])
            hint = f"{and_more(len(keys) - _KEYS)}{near and f'.{near}'}"
            yield level, visible_line(f"unused keys: {', '.join(told)}{hint}")
