"""What counts as a number in a config. `true`, NaN and infinity do not."""

from __future__ import annotations

import math


def is_number(value: object) -> bool:
    """A finite number; a whole one may be of any size."""
    return is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
