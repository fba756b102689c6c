"""What an attacker, tutor or judge returns, checked where it returns: each may be a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import UnionType
from typing import TypeVar, get_args, get_type_hints

from steer_lit.errors import SteerError
from steer_lit.numbers import counted
from steer_lit.types import SoFar, WrongScores

T = TypeVar("T")
_fields = cache(get_type_hints)


def one_each(asked: Sequence[SoFar], player: object, method: str, named: str, kind: type[T] | UnionType) -> list[T]:
    """Call the `method` of `player`. Raise SteerError unless it returns a list with one of `kind` for each dialogue.

    The values of each must be of their fields' types: they go into files that are read with these types.
    """
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
    if misfit := next(filter(None, (_misfit(one, kind) for one in found)), None):
        raise SteerError(f"{name} returned {misfit}")
    return found


def _misfit(one: object, kind: type | UnionType) -> str | None:
    """Return which value of a record is not of its field's type, and what it may be. Fields of a subclass are free."""
    record = next(each for each in get_args(kind) or (kind,) if isinstance(one, each))
    for field, hint in _fields(record).items():
        value = getattr(one, field)
        allowed = [each for part in get_args(hint) or (hint,) for each in get_args(part) or (part,)]  # types, or words
        kinds = tuple(each for each in allowed if isinstance(each, type))
        if not isinstance(value, kinds) and not (isinstance(value, str) and value in allowed):
            words = " or ".join(each.__name__ if isinstance(each, type) else repr(each) for each in allowed)
            words = words.replace("NoneType", "None")
            return f"{record.__name__}({field}={value!r:.60}, ...): {field} must be {words}"
    return None
