"""What an attacker, tutor or judge returns, checked where it returns: each may be a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from types import UnionType
from typing import TypeVar

from steer_lit.errors import SteerError
from steer_lit.numbers import counted
from steer_lit.types import SoFar, WrongScores

T = TypeVar("T")


def one_each(asked: Sequence[SoFar], player: object, method: str, named: str, kind: type[T] | UnionType) -> list[T]:
    """Call the `method` of `player`. Raise SteerError unless it returns a list with one of `kind` for each dialogue."""
    name = f"{type(player).__module__}.{type(player).__qualname__}.{method}"
    try:
        found = getattr(player, method)(asked)
    except WrongScores as error:
        raise SteerError(f"{name}: {error}") from error
    wrong_number = isinstance(found, list) and len(found) != len(asked)
    if wrong_number or not isinstance(found, list) or not all(isinstance(one, kind) for one in found):
        raise SteerError(
            f"{name} returned {len(found) if wrong_number else f'{found!r:.300}'} for "
            f"{counted(len(asked), 'dialogue')}: it must return a list with one {named} for each, in their order"
        )
    return found
