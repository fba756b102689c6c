"""Progress bars for a terminal, and a limit on how often a line is printed where there is none."""

from __future__ import annotations

import math
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_BAR, _WIDE = 20, 120  # columns of the bar, and of a terminal that has room for one
_TIMES = 32  # columns of " left 0:00:00 elapsed 0:00:00", and of the spaces before
_SPEED_OVER_S = 600.0  # Rich's 30 s hold no two updates of a slow run: it would tell no time left


def count_bar(console: Console, counted: str, told: str) -> Progress:
    """`counted` and `told` are Rich format strings, such as "{task.description}", shown before and after the bar. Of
    `told`, fields two spaces apart, those are left out that the width has no room for; the bar goes before them.

    Where the console is no terminal, nothing is shown: Rich would print the bar at the very end, after the lines that
    say the same there.
    """
    return Progress(
        TextColumn(counted),
        *([BarColumn(bar_width=_BAR)] if console.width >= _WIDE else []),
        MofNCompleteColumn(),
        _Fields(counted, told, console.width - _TIMES - (_BAR + 1 if console.width >= _WIDE else 0)),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        speed_estimate_period=_SPEED_OVER_S,
    )


class _Fields(ProgressColumn):
    """As many of a text's fields, which are two spaces apart, as there is room for beside what is counted."""

    def __init__(self, counted: str, told: str, room: int) -> None:
        super().__init__()
        self._counted, self._told, self._room = counted, told, room

    def render(self, task: Task) -> Text:
        room = self._room - len(self._counted.format(task=task)) - 2 * len(f"{task.total or 0:.0f}")
        shown = ""
        for field in self._told.format(task=task).strip().split("  "):
            longer = f"{shown}  {field}" if shown else field
            if len(longer) > room:
                break
            shown = longer
        return Text(shown, no_wrap=True)


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
