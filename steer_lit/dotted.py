"""Nested configs by dotted keys, such as `optim.lr`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

ABSENT = object()


def at(config: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key, or ABSENT."""
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return ABSENT
        value = value[part]
    return value


def within(key: str, section: str) -> bool:
    """Return whether a dotted key is `section` or below it."""
    return f"{key}.".startswith(f"{section}.")


def nodes(config: Mapping[str, Any], lists: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield every dotted key with its value, a section before its contents. With `lists`, the items of lists are nodes
    too, numbered: `targets.0`.
    """
    return _below("", config, lists)


def leaves(config: Mapping[str, Any], lists: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield the nodes that are no sections, not even empty ones, and with `lists` no lists."""
    return ((key, value) for key, value in nodes(config, lists) if _items(value, lists) is None)


def _below(prefix: str, section: Any, lists: bool) -> Iterator[tuple[str, Any]]:
    for name, value in _items(section, lists) or ():
        yield f"{prefix}{name}", value
        yield from _below(f"{prefix}{name}.", value, lists)


def _items(value: Any, lists: bool) -> Iterator[tuple[Any, Any]] | None:
    """Return a node's items, or None if it is a leaf."""
    if isinstance(value, Mapping):
        return iter(value.items())
    return enumerate(value) if lists and isinstance(value, list) else None
