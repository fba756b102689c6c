"""Rows that remember which of their keys a reader asked for: the others have no effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from steer_lit.data.content import absent

_DEPTH = 4  # a picture's address lies as deep: in a part of the content of a message of the row


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
