"""Progress bars show the time left, even if updates are rare."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from steer_lit.terminal.bars import LinesApart, count_bar, running_count


def test_the_time_left_is_shown_with_minutes_between_updates() -> None:
    console, now = Console(file=io.StringIO(), width=100), 0.0
    bar = count_bar(console, "{task.description}", "{task.fields[said]}")
    bar.get_time = lambda: now
    task = bar.add_task("sft", total=4, said="dialogues")
    for done in (1, 2):
        now += 120.0
        bar.update(task, completed=done)
    assert bar.tasks[0].time_remaining == 240
    console.print(bar)
    shown = console.file.getvalue().replace("━", "")  # type: ignore[attr-defined]
    assert shown.split() == ["sft", "2/4", "dialogues", "left", "0:04:00", "elapsed", "0:04:00"]


@pytest.mark.parametrize("width", [60, 80, 100, 130])
def test_a_narrow_terminal_cuts_the_fields_but_not_step_and_time(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    bar = count_bar(console, "step", "{task.fields[said]}")
    said = "score 0.378  right 0%  over-refusal 0%  KL 0.0000  tokens/s 2041"
    bar.update(bar.add_task("", total=100, said=said), completed=12)
    console.print(bar)
    (line,) = console.file.getvalue().replace("━", "").splitlines()  # type: ignore[attr-defined]
    start, end = "step  12/100 ", " left -:--:-- elapsed 0:00:00"
    shown = said if width == 130 else f"{said[: width - len(start + end) - 1].rstrip()}…"
    assert line.split() == f"{start}{shown}{end}".split()


@pytest.mark.parametrize("width", [20, 80])
def test_a_terminal_without_utf_8_gets_one_line_no_wider_than_it_is(width: int) -> None:
    printed = io.TextIOWrapper(io.BytesIO(), "ascii", "backslashreplace")
    console = Console(file=printed, width=width)
    bar = count_bar(console, "step", "{task.fields[said]}")
    bar.add_task("", total=100, said="score 0.378  right 0%  over-refusal 0%  KL 0.0000  tokens/s 2041")
    console.print(bar)
    printed.flush()
    (line,) = printed.buffer.getvalue().splitlines()  # type: ignore[attr-defined]
    assert b"\\" not in line
    assert len(line) <= width


def test_lines_are_due_at_once_then_seconds_apart_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, times = LinesApart(10.0), iter((3.0, 12.9, 13.0, 14.0, 23.9, 24.0))
    monkeypatch.setattr("steer_lit.terminal.bars.time", SimpleNamespace(perf_counter=lambda: next(times)))
    due = [lines.due(end) for end in (False, False, False, True, False, False)]
    assert due == [True, False, True, True, False, True]


def test_there_is_no_bar_without_a_terminal() -> None:
    for terminal in (False, True):
        console = Console(file=io.StringIO(), width=100, force_terminal=terminal)
        with count_bar(console, "{task.description}", "dialogues") as bar:
            bar.update(bar.add_task("sft", total=4), completed=4)
        assert ("sft" in console.file.getvalue()) is terminal  # type: ignore[attr-defined]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_count_without_a_total_is_shown_until_its_end(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("steer_lit.terminal.bars.time", SimpleNamespace(perf_counter=lambda: now))
    console = Console(file=io.StringIO(), width=100, force_terminal=terminal)
    shown = console.file.getvalue  # type: ignore[attr-defined]
    with running_count(console, "rows read") as one:
        for _ in range(1234):
            one()
        assert terminal or shown() == ""
        now += 10.0
        one()
    assert ("1,235 rows read elapsed" in shown()) is terminal
    assert terminal or shown() == "1,235 rows read\n"
    assert shown().endswith("\x1b[2K") is terminal  # the line is gone
