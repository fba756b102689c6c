"""A summary's charts as shapes in SVG units: what page/charts.html.j2 draws. Colours are the page's business.

Charts are `HEIGHT` units high; y grows downwards, as SVG has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steer_lit.bench.tables import RATES, Summary, parts

WIDTH, NARROW, HEIGHT = 640.0, 400.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 40.0, 8.0, 12.0, 40.0
SHOWN = ("joint_pass", "safety_pass", "helpfulness_pass")
_SHARE = 0.84  # of a column's width that its bars take

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: where, and what it says."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Curve:
    """One policy's line and the band around it, as SVG points; `number` is its place among the policies."""

    name: str
    number: int
    line: str
    band: str
    told: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One policy's bar. `whisker` is (top, bottom) of its interval; `told` says its value in words."""

    number: int
    x: float
    y: float
    width: float
    height: float
    whisker: Point | None
    told: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Axes, and curves or bars between them. `title` stands above, `x_label` and `y_label` beside the axes."""

    title: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    width: float = WIDTH
    curves: tuple[Curve, ...] = ()
    bars: tuple[Bar, ...] = ()


def survival(summary: Summary) -> Chart:
    """Kaplan-Meier curves with 95% bands. A curve steps down where dialogues fail."""
    horizon = max((len(figures["survival"]) for figures in summary.values()), default=0)
    step = (WIDTH - LEFT - RIGHT) / (horizon + 0.5)
    curves = []
    for number, (name, figures) in enumerate(summary.items()):
        points = list(figures["survival"].values())
        if not points:
            continue
        alive, low, high = ([100.0, *(point[key] for point in points)] for key in ("value", "low", "high"))
        last = f"{alive[-1]:.1f}% without an unsafe answer after turn {len(points)}"
        band = [*_steps(high, step), *reversed(_steps(low, step))]
        curves.append(Curve(name, number, _points(_steps(alive, step)), _points(band), f"{name}: {last}"))
    ticks = tuple(Tick(LEFT + turn * step, str(turn)) for turn in range(horizon + 1))
    return Chart(
        "Survival", "turn", "dialogues without an unsafe answer, %", ticks, _PERCENT_TICKS, curves=tuple(curves)
    )


def failures(summary: Summary) -> Chart:
    """The turn of the first unsafe answer, in percent of each policy's dialogues."""
    turns = parts(summary, "failure_turns")
    bars: dict[str, list[Mapping[str, float | None]]] = {}
    for name, figures in summary.items():
        n = figures["n"]
        shares = [100 * figures["failure_turns"][turn] / n if n else None for turn in turns]
        bars[name] = [{"value": share, "low": None, "high": None} for share in shares]
    return _bar_chart("First unsafe turn", "turn of the first unsafe answer", turns, bars, WIDTH)


def kinds(summary: Summary) -> tuple[Chart, ...]:
    """Joint pass, Safety and Helpfulness by kind, a chart each, with 95% intervals."""
    columns = parts(summary, "by_kind")
    unknown: Mapping[str, float | None] = {"value": None, "low": None, "high": None}

    def cells(figures: Mapping[str, Any], rate: str) -> list[Mapping[str, float | None]]:
        return [figures["by_kind"][kind][rate] if kind in figures["by_kind"] else unknown for kind in columns]

    return tuple(
        _bar_chart(RATES[rate], "", columns, {name: cells(figures, rate) for name, figures in summary.items()}, NARROW)
        for rate in SHOWN
    )


def _bar_chart(
    title: str,
    x_label: str,
    columns: Sequence[str],
    bars: Mapping[str, Sequence[Mapping[str, float | None]]],
    width: float,
) -> Chart:
    column_width = (width - LEFT - RIGHT) / max(1, len(columns))
    bar_width = _SHARE * column_width / max(1, len(bars))
    drawn = []
    for number, (name, cells) in enumerate(bars.items()):
        for column, cell in enumerate(cells):
            value, low, high = cell["value"], cell["low"], cell["high"]
            if value is None:
                continue
            x = LEFT + column_width * (column + (1 - _SHARE) / 2) + bar_width * number
            whisker = None if low is None or high is None or low == high else (_y(high), _y(low))
            interval = "" if whisker is None else f" [{low:.1f}, {high:.1f}]"
            told = f"{name}, {columns[column]}: {value:.1f}%{interval}"
            drawn.append(Bar(number, x, _y(value), bar_width, _y(0) - _y(value), whisker, told))
    ticks = tuple(Tick(LEFT + column_width * (at + 0.5), label) for at, label in enumerate(columns))
    return Chart(title, x_label, "dialogues, %", ticks, _PERCENT_TICKS, width, bars=tuple(drawn))


def _steps(shares: Sequence[float], step: float) -> list[Point]:
    """Corners of a line that holds each share from its turn to the next; the last is held half a turn."""
    corners: list[Point] = []
    for turn, share in enumerate(shares):
        end = turn + (0.5 if turn == len(shares) - 1 else 1)
        corners += [(LEFT + turn * step, _y(share)), (LEFT + end * step, _y(share))]
    return corners


def _points(corners: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share / 100 * (HEIGHT - TOP - BOTTOM)


_PERCENT_TICKS = tuple(Tick(_y(share), str(share)) for share in range(0, 101, 25))
