"""Progress bars for a terminal, and a limit on how often a line is printed without one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console, OverflowMethod
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from steer_lit.terminal.visible import print_lines

_BAR, _WIDE = 20, 120  # columns of the bar, and of a terminal that has room for one
_SPEED_OVER_S = 3600.0  # a slow run has no two updates within Rich's 30 s, which would show no time left


def count_bar(console: Console, counted: str, told: str) -> Progress:
    """Return a bar between two Rich format strings such as "{task.description}": `counted` before, `told` after it.

    A narrow terminal gets no bar, and then only as much of `told` as fits. Without a terminal nothing is shown: Rich
    would print the bar at the very end, after the lines that say the same.
    """
    # Without UTF-8 an ellipsis is printed as \u2026: the line would wrap, and each update would leave one behind.
    cut: OverflowMethod = "crop" if console.options.ascii_only else "ellipsis"
    whole = Column(no_wrap=True, overflow=cut)
    return Progress(
        TextColumn(counted, table_column=whole),
        *([BarColumn(bar_width=_BAR)] if console.width >= _WIDE else []),
        MofNCompleteColumn(table_column=whole),
        _Told(told, markup=False, table_column=Column(overflow=cut)),
        TextColumn("left", table_column=whole),
        TimeRemainingColumn(table_column=whole),
        TextColumn("elapsed", table_column=whole),
        TimeElapsedColumn(table_column=whole),
        console=console,
        disable=not console.is_terminal,
        get_time=time.perf_counter,
        speed_estimate_period=_SPEED_OVER_S,
    )


class _Told(TextColumn):
    """Text that is cut where it does not fit."""

    def render(self, task: Task) -> Text:
        text = super().render(task)
        text.no_wrap = True
        return text


@contextmanager
def running_count(console: Console, counted: str) -> Iterator[Callable[[], None]]:
    """Yield a function to call for each of many things, whose total nobody knows yet, such as "rows read".

    A terminal shows how many there were, until the end. Without one, a line now and then does.
    """
    columns = TextColumn("{task.completed:,.0f}"), TextColumn(counted), TextColumn("elapsed"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        progress.add_task("", total=None)
        (task,), lines = progress.tasks, LinesApart()
        lines.due(end=False)  # what takes only seconds gets none

        def one() -> None:
            progress.advance(task.id)
            if not console.is_terminal and lines.due(end=False):
                print_lines(console, f"{task.completed:,.0f} {counted}")

        yield one


def clock(seconds: float) -> str:
    """Format seconds as hours:minutes:seconds, after any days, or dashes for a run without an end."""
    return "-:--:--" if seconds == math.inf else str(timedelta(seconds=round(seconds)))


class LinesApart:
    """Says when a line is due: at once, then when `seconds` have passed since the last one, and at every end."""

    def __init__(self, seconds: float = 10.0) -> None:
        self._seconds, self._last = seconds, -math.inf

    def due(self, end: bool) -> bool:
        """Return whether to print a line now, and count it as printed if so. At an `end` the answer is always yes."""
        now = time.perf_counter()
        if now - self._last < self._seconds and not end:
            return False
        self._last = now
        return True


class BarOrLines:
    """One task of a `count_bar` or, without a terminal, lines now and then: the first at once, the last at the end."""

    def __init__(self, progress: Progress, name: str, total: int, told: str = "") -> None:
        progress.add_task(name, total=total, told=told)
        self._progress, self._task = progress, progress.tasks[-1]
        self._lines, self._total, self._printed = LinesApart(), total, -1

    def show(self, done: int, line: str, told: str = "") -> None:
        """Move the bar to `done`, which may repeat, and set its `told`; or print `line` and the time left, if due."""
        self._progress.update(self._task.id, completed=done, told=told)
        end = done == self._total != self._printed
        if not self._progress.console.is_terminal and self._lines.due(end):
            left = self._task.time_remaining
            print_lines(self._progress.console, f"{line}, {clock(left)} left" if left else line)
            self._printed = done
