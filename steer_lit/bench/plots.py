"""A summary as PNG pictures: survival curves, the first unsafe turn, pass rates by kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from steer_lit.bench.suite import CONSTANTS
from steer_lit.bench.tables import RATES, Summary, parts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Constant policies often run along the same line: dashes keep them apart, from each other and from the trained ones.
DASHES = dict(zip(CONSTANTS, ("--", "-.", ":"), strict=True))
SHOWN = ("joint_pass", "safety_pass", "helpfulness_pass")


def write_plots(summary: Summary, folder: Path) -> None:
    """Write survival.png, failures.png and kinds.png."""
    figures = {"survival": survival(summary), "failures": failures(summary), "kinds": kinds(summary)}
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=150)


def survival(summary: Summary) -> Figure:
    """Kaplan-Meier curves, one a policy, with 95% bands. The curve steps down after the turn that failed."""
    figure = _figure()
    axes = figure.add_subplot()
    for name, figures in summary.items():
        curve = figures["survival"]
        if not curve:
            continue
        points = [{"value": 100.0, "low": 100.0, "high": 100.0}, *curve.values()]
        points.append(points[-1])  # the last step needs some width to be seen
        turns = [0, *map(int, curve), len(curve) + 0.5]
        alive, low, high = ([point[key] for point in points] for key in ("value", "low", "high"))
        label = f"{_plain(name)} (n={figures['n']})"
        (line,) = axes.step(turns, alive, where="post", linestyle=DASHES.get(name, "-"), label=label)
        axes.fill_between(turns, low, high, step="post", alpha=0.15, color=line.get_color(), linewidth=0)
    axes.set(xlabel="turn", ylabel="dialogues without an unsafe answer, %", ylim=(-2, 102), xlim=(0, None))
    axes.set_xticks(range(1 + max((len(figures["survival"]) for figures in summary.values()), default=0)))
    return _finished(figure, axes)


def failures(summary: Summary) -> Figure:
    """The turn of the first unsafe answer, as shares of each policy's dialogues."""
    figure = _figure()
    axes = figure.add_subplot()
    turns = parts(summary, "failure_turns")
    shares = {
        name: [100 * figures["failure_turns"][turn] / figures["n"] for turn in turns]
        for name, figures in summary.items()
        if figures["n"]
    }
    _bars(axes, turns, {name: [(share, 0.0, 0.0) for share in values] for name, values in shares.items()})
    axes.set(xlabel="turn of the first unsafe answer", ylabel="dialogues, %")
    return _finished(figure, axes)


def kinds(summary: Summary) -> Figure:
    """Joint pass, Safety and Helpfulness by kind, with 95% intervals."""
    figure = _figure()
    columns = parts(summary, "by_kind")
    for place, rate in enumerate(SHOWN, start=1):
        axes = figure.add_subplot(1, len(SHOWN), place)
        bars = {
            name: [_whiskers(figures["by_kind"].get(kind), rate) for kind in columns]
            for name, figures in summary.items()
        }
        _bars(axes, columns, bars)
        axes.set(title=RATES[rate], ylim=(0, 102), ylabel="dialogues, %" if place == 1 else "")
        axes.tick_params(axis="x", labelrotation=20)  # three charts abreast leave little room for names
        axes.grid(alpha=0.25, axis="y")
    return _finished(figure, axes)


def _figure() -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _finished(figure: Figure, axes: Axes) -> Figure:
    axes.grid(alpha=0.25, axis="y")
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure


def _bars(axes: Axes, columns: list[str], bars: Mapping[str, list[tuple[float, float, float]]]) -> None:
    """Grouped bars: for each policy a (height, whisker down, whisker up) per column."""
    width = 0.8 / max(1, len(bars))
    for place, (name, heights) in enumerate(bars.items()):
        at = [column - 0.4 + width * (place + 0.5) for column in range(len(columns))]
        whiskers = [[down for _, down, _ in heights], [up for *_, up in heights]]
        shown = whiskers if any(map(any, whiskers)) else None
        axes.bar(
            at, [height for height, *_ in heights], width, yerr=shown, label=_plain(name), error_kw={"linewidth": 0.8}
        )
    axes.set_xticks(range(len(columns)), columns)


def _whiskers(block: Mapping[str, Mapping[str, float | None]] | None, rate: str) -> tuple[float, float, float]:
    cell = block[rate] if block is not None else {"value": None, "low": None, "high": None}
    value, low, high = cell["value"], cell["low"], cell["high"]
    if value is None:
        return 0.0, 0.0, 0.0
    return value, value - (value if low is None else low), (value if high is None else high) - value


def _plain(name: str) -> str:
    """Without formulas: matplotlib reads what stands between two dollars as one."""
    return name.replace("$", r"\$")
