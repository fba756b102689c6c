"""Nested configs by dotted keys, such as `optim.lr`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

ABSENT = object()


def at(config: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key, or ABSENT."""
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return ABSENT
        value = value[part]
    return value


def nodes(config: Mapping[str, Any], lists: bool = False) -> Iterator[tuple[str, Any]]:
    """Every dotted key and its value, a section before what it holds. With `lists`, their items are nodes too, by
    number: `targets.0`.
    """
    return _below("", config, lists)


def leaves(config: Mapping[str, Any], lists: bool = False) -> Iterator[tuple[str, Any]]:
    """The nodes that hold no others: sections are left out, empty ones too, and with `lists` so are lists."""
    return ((key, value) for key, value in nodes(config, lists) if _items(value, lists) is None)


def _below(prefix: str, section: Any, lists: bool) -> Iterator[tuple[str, Any]]:
    for name, value in _items(section, lists) or ():
        yield f"{prefix}{name}", value
        yield from _below(f"{prefix}{name}.", value, lists)


def _items(value: Any, lists: bool) -> Iterator[tuple[Any, Any]] | None:
    """What a node holds; None where it is a leaf."""
    if isinstance(value, Mapping):
        return iter(value.items())
    return enumerate(value) if lists and isinstance(value, list) else None
