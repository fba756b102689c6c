"""What an attacker, tutor or judge returns, checked where it returns: each may be a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError

from steer_lit.errors import SteerError
from steer_lit.numbers import counted
from steer_lit.types import SoFar, WrongScores

T = TypeVar("T")


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


def _misfit(one: Any, kind: type | UnionType) -> str | None:
    """Return which value of a record, or inside it, is not of its field's type. Fields of a subclass are free."""
    if one is None:
        return None
    record = next(each for each in get_args(kind) or (kind,) if isinstance(one, each))
    ours = {each.name: getattr(one, each.name) for each in fields(record)}
    try:
        _checker(record).validate_python((record(**ours),))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"][1:]))
        return f"a {record.__name__} whose {where} is {problem['input']!r:.60}: {problem['msg']}"
    return None


@cache
def _checker(record: type) -> TypeAdapter[Any]:
    strictly = ConfigDict(strict=True, revalidate_instances="always")
    return TypeAdapter(tuple[record], config=strictly)  # type: ignore[valid-type]  # a dataclass alone takes no config
