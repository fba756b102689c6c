"""Progress bars for a terminal, and a limit on how often a line is printed where there is none."""

from __future__ import annotations

import math
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_SPEED_OVER_S = 600.0  # Rich's 30 s hold no two updates of a slow run: it would tell no time left


def count_bar(console: Console, counted: str, told: str) -> Progress:
    """`counted` and `told` are Rich format strings, such as "{task.description}", shown before and after the bar.

    Where the console is no terminal, nothing is shown: Rich would print the bar at the very end, after the lines that
    say the same there.
    """
    return Progress(
        TextColumn(counted),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn(told),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("gone"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        speed_estimate_period=_SPEED_OVER_S,
    )


class LinesApart:
    """When a line is due: at once, then when `seconds` have passed since the last one, and at the end."""

    def __init__(self, seconds: float = 10.0) -> None:
        self._seconds, self._last = seconds, -math.inf

    def due(self, end: bool) -> bool:
        now = time.perf_counter()
        if now - self._last < self._seconds and not end:
            return False
        self._last = now
        return True
