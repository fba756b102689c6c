"""Numbers in a config and their bounds: `true`, NaN and infinity are no numbers. Also counts in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steer_lit.errors import Problem

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


def is_number(value: object) -> bool:
    """Return whether the value is a finite number. Whole ones may be of any size."""
    return is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Bound:
    """A range from `low` to `high`. `above` excludes `low`, `below` excludes `high`; `said` replaces the error text."""

    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    above: bool = False
    below: bool = False
    said: str = ""

    def fits(self, value: object) -> bool:
        if not (is_whole(value) if self.whole else is_number(value)):
            return False
        assert isinstance(value, int | float)
        high_enough = value > self.low if self.above else value >= self.low
        return high_enough and (value < self.high if self.below else value <= self.high)

    @property
    def allowed(self) -> str:
        """The text that follows the value in an error, such as `must be a whole number from 1 up`."""
        if self.said:
            return self.said
        number = f"must be a {'whole ' if self.whole else ''}number"
        if self.low == -math.inf and self.high == math.inf:
            return number
        if self.high == math.inf:
            low = "above" if self.above else "at least"
            return f"{number} from {self.low} up" if self.whole else f"must be {low} {self.low}"
        if self.above:
            return f"{number} above {self.low}{' and below' if self.below else ', at most'} {self.high}"
        return f"{number} from {self.low} to {'below ' if self.below else ''}{self.high}"


def whole(low: int, high: float = math.inf, said: str = "") -> Bound:
    """Return the bound of a whole number from `low` up, or to `high`."""
    return Bound(low, high, whole=True, said=said)


ABOVE_0 = Bound(0, above=True)
FROM_0 = Bound(0)
SHARE = Bound(0, 1, said="is a share, from 0 to 1")


def bound_problems(values: Mapping[str, object], bounds: Mapping[str, Bound], prefix: str = "") -> list[Problem]:
    """Return what is wrong with the values that have a bound, each named with `prefix` before its key."""
    found = ((key, values[key], bound) for key, bound in bounds.items() if key in values)
    return [
        Problem(f"{prefix}{key}", value, f"{_kind(value)}{bound.allowed}")
        for key, value, bound in found
        if not bound.fits(value)
    ]


def _kind(value: object) -> str:
    if is_number(value):
        return ""
    return "is not finite; " if isinstance(value, float) else "is no number; "
