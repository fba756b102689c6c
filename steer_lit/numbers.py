"""Whole numbers, and counts in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

MANY = 10**9  # the most rows or dialogues: more are surely a mistake, and Python's functions take no count of any size


def counted(count: int, one: str, several: str = "") -> str:
    """Return text such as `1 row` or `1,200 rows`. `several` is the plural, if not regular."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def few(names: Sequence[str], most: int = 5) -> str:
    """Return the first `most` names, such as `a, b, c and 1,200 more`."""
    return f"{', '.join(names[:most])}{and_more(len(names) - most)}"


def and_more(count: int) -> str:
    """Return text such as ` and 1,200 more`, "" for a count below 1."""
    return f" and {count:,} more" if count > 0 else ""


def is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
