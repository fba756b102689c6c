"""Progress bars for a terminal, and a limit on how often a line is printed without one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
_TIMES = 32  # columns of " left 0:00:00 elapsed 0:00:00" and of the spaces before it
_SOON_S = 1.0  # what takes no longer shows no count
_SPEED_OVER_S = 600.0  # a slow run has no two updates within Rich's 30 s, which would show no time left


def count_bar(console: Console, counted: str, told: str) -> Progress:
    """Return a bar between two Rich format strings such as "{task.description}": `counted` before, `told` after it.

    A narrow terminal gets no bar, and then only the first fields of `told`, which are two spaces apart. Without a
    terminal nothing is shown: Rich would print the bar at the very end, after the lines that say the same.
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
    """As many fields of `told`, two spaces apart, as fit beside `counted`."""

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


@contextmanager
def running_count(console: Console, counted: str) -> Iterator[Callable[[], None]]:
    """Yield a function to call for each of many things, whose total nobody knows yet, such as "rows read".

    Once that has taken a second, a terminal shows how many there were, until the end. Without one nothing is shown.
    """
    columns = TextColumn("{task.completed:,.0f}"), TextColumn(counted), TextColumn("elapsed"), TimeElapsedColumn()
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task, began = progress.add_task("", total=None), time.perf_counter()

    def one() -> None:
        progress.advance(task)
        if not progress.live.is_started and time.perf_counter() - began > _SOON_S:
            progress.start()

    try:
        yield one
    finally:
        progress.stop()


class LinesApart:
    """Says when a line is due: at once, then when `seconds` have passed since the last one, and at the end."""

    def __init__(self, seconds: float = 10.0) -> None:
        self._seconds, self._last = seconds, -math.inf

    def due(self, end: bool) -> bool:
        now = time.perf_counter()
        if now - self._last < self._seconds and not end:
            return False
        self._last = now
        return True
