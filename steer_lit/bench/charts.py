"""Draws a summary's charts, as PNG files and as SVG inside the page.

Their colours are those of page/report.css. In the SVG they go by the names they have there, so that the page's dark
colours hold for the charts too; what a curve or bar says in words is shown by the browser when it is pointed at.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steer_lit.bench.suite import CONSTANTS, by_group
from steer_lit.bench.tables import RATES, Summary, parts

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE_SHEET = Path(__file__).with_name("page") / "report.css"
# Constant policies often run along the same line: dashes keep them apart, from each other and from the trained ones.
DASHES = dict(zip(CONSTANTS, ("--", "-.", ":"), strict=True))
SHOWN = ("joint_pass", "safety_pass", "helpfulness_pass")
_SHARE = 0.84  # of a column's width that its bars take
_TOLD = "told:"  # opens the SVG id of what can be pointed at
_GROUP = re.compile(rf"""<g id=(["'])({_TOLD})?([^<>]*?)\1>""")  # quoted by what the id does not hold
_ENDS = ("low", "high")  # of an interval
_UNKNOWN: Mapping[str, float | None] = {"value": None, "low": None, "high": None}


@dataclass(frozen=True, slots=True)
class InlineChart:
    """A chart as an `<svg>` element."""

    title: str
    svg: str


def survival(summary: Summary) -> Figure:
    """Kaplan-Meier curves, one a policy, with 95% bands. The curve steps down after the turn that failed."""
    figure, (axes,) = _figure()
    colours = _colours_of(summary)
    for name, figures in summary.items():
        if not (curve := figures["survival"]):
            continue
        points = [{"value": 100.0, "low": 100.0, "high": 100.0}, *curve.values()]
        points.append(points[-1])  # the last step needs some width to be seen
        turns = [*range(len(curve) + 1), len(curve) + 0.5]
        alive = [point["value"] for point in points]
        low, high = ([point["value"] if point[end] is None else point[end] for point in points] for end in _ENDS)
        colour = colours[name]
        (line,) = axes.step(turns, alive, where="post", color=colour, linestyle=DASHES.get(name, "-"))
        _tell(line, f"{name}: {alive[-1]:.1f}% without an unsafe answer after turn {len(curve)}")
        axes.fill_between(turns, low, high, step="post", color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="turn", ylabel="dialogues without an unsafe answer, %", ylim=(-2, 102), xlim=(0, None))
    axes.set_xticks(range(1 + max((len(figures["survival"]) for figures in summary.values()), default=0)))
    return figure


def failures(summary: Summary) -> Figure:
    """The turn of the first unsafe answer, as shares of each policy's dialogues."""
    figure, (axes,) = _figure()
    turns = parts(summary, "failure_turns")
    bars = {
        name: [{**_UNKNOWN, "value": 100 * figures["failure_turns"][turn] / figures["n"]} for turn in turns]
        if figures["n"]
        else []
        for name, figures in summary.items()
    }
    _draw_bars(axes, turns, bars)
    axes.set(xlabel="turn of the first unsafe answer", ylabel="dialogues, %", ylim=(0, 102))
    return figure


def kinds(summary: Summary) -> Figure:
    """Joint pass, Safety and Helpfulness by kind, side by side, with 95% intervals."""
    figure, all_axes = _figure(len(SHOWN))
    columns = parts(summary, "by_kind")
    for rate, axes in zip(SHOWN, all_axes, strict=True):
        bars = {
            name: [figures["by_kind"][kind][rate] if kind in figures["by_kind"] else _UNKNOWN for kind in columns]
            for name, figures in summary.items()
        }
        _draw_bars(axes, columns, bars)
        axes.set(title=RATES[rate], ylim=(0, 102), ylabel="dialogues, %" if axes is all_axes[0] else "")
        axes.tick_params(axis="x", labelrotation=20)  # charts abreast leave little room for names
    return figure


CHARTS: Mapping[str, tuple[str, Callable[[Summary], Figure]]] = {
    "survival": ("Survival", survival),
    "failures": ("First unsafe turn", failures),
    "kinds": ("Pass rates by kind", kinds),
}


def write_pictures(summary: Summary, folder: Path) -> None:
    """Write a PNG picture of every chart, each with a title and a legend of its own."""
    import matplotlib
    from matplotlib.lines import Line2D

    with matplotlib.rc_context(_style()):
        colours, groups = _colours_of(summary), by_group(summary)
        handles = [
            Line2D([], [], linewidth=3, color=colours[first], linestyle=DASHES.get(name, "-"))
            for name, (first, *_) in groups.items()
        ]
        labels = [f"{name} (n={summary[first]['n']})" for name, (first, *_) in groups.items()]
        for name, (title, draw) in CHARTS.items():
            figure = draw(summary)
            figure.suptitle(title)
            figure.legend(handles, labels, loc="outside right upper", frameon=False, handlelength=3)
            figure.savefig(folder / f"{name}.png", dpi=150)


def inline_charts(summary: Summary) -> list[InlineChart]:
    """Every chart for the page, which has titles and a legend for all of them."""
    import matplotlib

    with matplotlib.rc_context(_style()):
        return [InlineChart(title, _svg(draw(summary))) for title, draw in CHARTS.values()]


def _svg(figure: Figure) -> str:
    written = io.StringIO()
    figure.savefig(written, format="svg", transparent=True)
    svg = re.sub(r"<metadata>.*?</metadata>", "", written.getvalue().partition("<svg")[2], flags=re.DOTALL)
    # Groups have ids that say nothing and are the same in every chart, but for what is told.
    svg = re.sub(_GROUP, lambda group: f"<g><title>{group[3]}</title>" if group[2] else "<g>", svg)
    for name, colour in _colours().items():
        svg = svg.replace(colour, f"var(--{name})")
    return f"<svg{svg}"


def _draw_bars(axes: Axes, columns: Sequence[str], bars: Mapping[str, Sequence[Mapping[str, float | None]]]) -> None:
    """Grouped bars: for each policy a rate a column, without those that are not known."""
    width, colours = _SHARE / max(1, len(bars)), _colours_of(bars)
    for number, (name, rates) in enumerate(bars.items()):
        for column, rate in enumerate(rates):
            value, low, high = rate["value"], rate["low"], rate["high"]
            if value is None:
                continue
            at, told = column + width * (number - (len(bars) - 1) / 2), f"{name}, {columns[column]}: {value:.1f}%"
            (bar,) = axes.bar(at, value, width, color=colours[name])
            if low is not None and high is not None and low < high:
                axes.vlines(at, low, high, color=_colours()["ink"], linewidth=0.8)
                told += f" [{low:.1f}, {high:.1f}]"
            _tell(bar, told)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_xlim(-0.5, max(1, len(columns)) - 0.5)


def _figure(count: int = 1) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    return figure, [figure.add_subplot(1, count, place) for place in range(1, count + 1)]


def _tell(artist: Artist, words: str) -> None:
    artist.set_gid(f"{_TOLD}{words}")


def _style() -> dict[str, Any]:
    """Settings of matplotlib's: the page's colours, names without formulas, SVG with text that stays text."""
    ink, faint, rule = (_colours()[name] for name in ("ink", "faint", "rule"))
    return {
        "text.color": ink, "axes.titlecolor": ink, "axes.labelcolor": faint, "xtick.color": faint,
        "ytick.color": faint, "axes.edgecolor": rule, "grid.color": rule, "axes.grid": True, "axes.grid.axis": "y",
        "axes.axisbelow": True, "text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "steer_lit",
    }  # fmt: skip


def _colours_of(policies: Iterable[str]) -> dict[str, str]:
    """Each policy's colour. Seeds of one training share theirs; the ninth training has the first one's."""
    numbered = enumerate(by_group(policies).values())
    return {name: _colours()[f"p{number % 8}"] for number, names in numbered for name in names}


@cache
def _colours() -> Mapping[str, str]:
    """The style sheet's colours of ink, lines and policies on a light page, by the names they have there."""
    light = STYLE_SHEET.read_text(encoding="utf-8").partition("@media")[0]
    return dict(re.findall(r"--(ink|faint|rule|p\d): (#[0-9a-f]{6})", light))
