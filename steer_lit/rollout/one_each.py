"""What an attacker, tutor or judge returns, checked where it returns: each may be a user's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from types import UnionType
from typing import TypeVar, get_args

from steer_lit.errors import SteerError
from steer_lit.numbers import counted
from steer_lit.types import Grade, Intent, SoFar, Strategy, Verdict, WrongScores

T = TypeVar("T")

# Scores are checked by the records themselves. The rest is written down, and would only fail there or when read again.
_TYPES = {"refused": bool, "rationale": str, "failed": str, "next_question": str, "by": str}
_CHOICES = {"intent": get_args(Intent), "strategy": get_args(Strategy)}


def one_each(asked: Sequence[SoFar], player: object, method: str, named: str, kind: type[T] | UnionType) -> list[T]:
    """Call the `method` of an attacker, tutor or judge, `player`.

    Raise SteerError unless it returns one of `kind` for each dialogue, with values that its fields allow.
    """
    made = type(player)
    name = f"{made.__module__}.{made.__qualname__}.{method}"
    try:
        found = getattr(player, method)(asked)
        listed = list(found) if isinstance(found, Iterable) else None
    except WrongScores as error:
        raise SteerError(f"{name}: {error}") from error
    if listed is None or len(listed) != len(asked) or not all(isinstance(one, kind) for one in listed):
        returned = f"{len(listed)}" if listed is not None and len(listed) != len(asked) else f"{found!r:.300}"
        raise SteerError(
            f"{name} returned {returned} for {counted(len(asked), 'dialogue')}: "
            f"it must return a list with one {named} for each, in their order"
        )
    for one in listed:
        if isinstance(one, Verdict | Grade) and (misfit := _misfit(one)):
            raise SteerError(f"{name} returned a {named} with {misfit}")
    return listed


def _misfit(one: Verdict | Grade) -> str | None:
    """Return the first value that its field does not allow, and what it allows."""
    for known in fields(one):
        value, name = getattr(one, known.name), known.name
        if value is known.default:
            continue
        if name in _TYPES and not isinstance(value, _TYPES[name]):
            return f"{name}={value!r:.80}, which must be {_TYPES[name].__name__}"
        if name in _CHOICES and value not in _CHOICES[name]:
            return f"{name}={value!r:.80}, which must be one of {', '.join(_CHOICES[name])}"
    return None
