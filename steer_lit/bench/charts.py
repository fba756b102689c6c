"""The charts of a summary, as PNG files and as SVG inside the page.

Each chart labels its marks directly, so that no colour has to be looked up, and grows with the number of policies. The
summaries drawn here hold groups in place of their seeds (`tables.as_one`). The colours come from page/report.css. The
SVG refers to them by name, so that the page's dark colours apply to the charts too. The browser shows a mark's figures
in words when it is pointed at; a screen reader reads them all, after the title.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steer_lit.bench.constant import CONSTANTS
from steer_lit.bench.summary import Summary
from steer_lit.bench.tables import RATES, held, label, parts, percent
from steer_lit.terminal.visible import visible_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE_SHEET = Path(__file__).with_name("page") / "report.css"
SHOWN = ("joint_pass", "safety_pass", "helpfulness_pass")
COLOURS, MARKERS = 7, "os^Dv<P*"  # 8 markers: the eighth policy repeats the first one's colour with another marker
# Constant policies are grey, and dashes tell them apart.
DASHES = dict(zip(CONSTANTS, ("--", "-.", ":"), strict=True))
_BANDS = 3  # no bands for more trained policies, as they would overlap; labels give the interval at the curve's end
_LONGEST = 26  # characters of a policy's name
_WIDTH = 6.4  # inches, of every chart: at half the page's width its letters are as large as the page's
_LINE = 4.4  # height of a label in percentage points
_SHADE = 0.55  # opacity of the largest share: numbers on it stay readable
_TOLD = "told:"  # prefix of the SVG id of a mark that can be pointed at
_GROUP = re.compile(rf"""<g id=(["'])({_TOLD})?([^<>]*?)\1>""")  # an id is in the quotes that it does not contain


def survival(summary: Summary) -> Figure:
    """Draw a Kaplan-Meier curve per policy. Labels give the end of each curve, from the highest to the lowest.

    A curve steps down after the turn that failed. With few policies, their 95% bands are drawn too.
    """
    curves = {name: figures["survival"] for name, figures in summary.items() if figures["survival"]}
    height = max(5.8, 1 + 0.17 * len(curves))  # at least that of the two charts beside it
    figure, (axes,) = _figure(height=height)
    banded = curves.keys() - CONSTANTS.keys()
    for name, curve in curves.items():
        points = [{"value": 100.0, "low": 100.0, "high": 100.0}, *curve.values()]
        points.append(points[-1])  # the last step needs some width to be seen
        turns = [*range(len(curve) + 1), len(curve) + 0.5]
        alive = [point["value"] for point in points]
        (line,) = axes.step(turns, alive, where="post", **_look(summary, name), markersize=4, markevery=slice(1, -1))
        line.set_gid(f"{_TOLD}{_name(summary, name)}: {percent(curve[str(len(curve))])}% held to turn {len(curve)}")
        if name in banded and len(banded) <= _BANDS:
            low, high = (
                [point["value"] if point[end] is None else point[end] for point in points] for end in ("low", "high")
            )
            axes.fill_between(turns, low, high, step="post", color=line.get_color(), alpha=0.15, linewidth=0)
    longest = max(map(len, curves.values()))
    axes.set(xlabel="turn", ylabel="dialogues without an unsafe answer, %", ylim=(-2, 102), xlim=(0, longest + 0.5))
    axes.set_xticks(range(longest + 1))
    _label_ends(axes, summary, curves, apart=_LINE * 4.5 / height)
    return figure


def _label_ends(axes: Axes, summary: Summary, curves: Mapping[str, Mapping[str, Any]], apart: float) -> None:
    """Label each curve, to the right of the axes and joined by a line, `apart` percentage points from the next."""
    ends = {name: held(summary[name])["value"] or 0.0 for name in curves}
    order = sorted(ends, key=lambda name: -ends[name])
    right = axes.get_xlim()[1]
    for name, place in zip(order, spread([ends[name] for name in order], apart), strict=True):
        last, value = len(curves[name]) + 0.5, ends[name]
        look = {**_look(summary, name), "linewidth": 0.8, "marker": ""}
        axes.plot([last, right, 1.025 * right], [value, value, place], clip_on=False, **look)
        mark = {**_look(summary, name), "linestyle": ""}
        axes.plot([1.035 * right], [place], clip_on=False, markersize=4, **mark)
        told = f"{_name(summary, name)} {percent(held(summary[name]))}"
        axes.text(1.065 * right, place, told, va="center", fontsize="small", color=_colours()["ink"])


def spread(places: Sequence[float], apart: float) -> list[float]:
    """Return `places`, high to low, pushed down until they are `apart`, then up again from 0."""
    down = list(accumulate(places, lambda above, place: min(place, above - apart)))
    return list(accumulate(reversed(down), lambda below, place: max(place, below + apart), initial=-apart))[:0:-1]


def failures(summary: Summary) -> Figure:
    """Draw the turn of the first unsafe answer, as shares of dialogues: a row per policy, shaded by the share."""
    from matplotlib.patches import Rectangle

    figure, (axes,) = _figure(height=1.1 + 0.28 * len(summary))
    turns = parts(summary, "failure_turns")
    shares: dict[str, dict[str, float]] = {}
    for name, figures in summary.items():
        counted = {turn: count for turn, count in figures["failure_turns"].items() if count}
        shares[name] = {turn: 100 * count / sum(counted.values()) for turn, count in counted.items()}
    most = max((share for row in shares.values() for turn, share in row.items() if turn != "none"), default=0.0)
    for y, (name, row) in enumerate(shares.items()):
        for turn, share in row.items():
            x = turns.index(turn)
            told = f"{share:.1f}" if share >= 0.05 else "<0.1"  # one dialogue of three thousand is not none
            if turn != "none":
                shade: dict[str, Any] = {"color": _colours()["accent"], "alpha": _SHADE * share / most, "linewidth": 0}
                cell = Rectangle((x - 0.5, y - 0.5), 1, 1, **shade)
                axes.add_patch(cell).set_gid(f"{_TOLD}{_name(summary, name)}, turn {turn}: {told}%")
            axes.text(x, y, told, ha="center", va="center", fontsize="small", color=_colours()["ink"])
    axes.set(xlabel="turn of the first unsafe answer, % of dialogues", xlim=(-0.5, len(turns) - 0.5))
    axes.set_xticks(range(len(turns)), turns)
    _rows(axes, summary)
    return figure


def kinds(summary: Summary) -> Figure:
    """Draw joint pass, Safety and Helpfulness by kind, with 95% intervals: a row per policy, a mark per kind."""
    columns = {kind: visible_line(kind) for kind in parts(summary, "by_kind")}
    figure, all_axes = _figure(len(SHOWN), height=1.4 + len(summary) * max(0.3, 0.14 * len(columns)))
    drawn = {}
    for rate, axes in zip(SHOWN, all_axes, strict=True):
        for number, (kind, shown) in enumerate(columns.items()):
            colour, marker = _colours()[f"p{number % COLOURS}"], MARKERS[number % len(MARKERS)]
            for y, (name, figures) in enumerate(summary.items()):
                cell = figures["by_kind"].get(kind, {}).get(rate)
                if cell is None or cell["value"] is None:
                    continue
                at = y + 0.8 * ((number + 0.5) / len(columns) - 0.5)
                if cell["low"] is not None and cell["low"] < cell["high"]:
                    axes.hlines(at, cell["low"], cell["high"], color=colour, linewidth=1)
                (drawn[shown],) = axes.plot([cell["value"]], [at], marker, color=colour, markersize=4.5)
                drawn[shown].set_gid(f"{_TOLD}{_name(summary, name)}, {shown}, {RATES[rate]}: {percent(cell)}%")
        axes.set(title=RATES[rate], xlim=(-4, 104), xlabel="dialogues, %", xticks=(0, 50, 100))
        _rows(axes, summary, named=axes is all_axes[0])
    figure.legend(drawn.values(), drawn, loc="outside lower right", ncols=len(drawn), frameon=False)
    return figure


CHARTS: Mapping[str, tuple[str, Callable[[Summary], Figure]]] = {
    "survival": ("Survival", survival),
    "failures": ("First unsafe turn", failures),
    "kinds": ("Pass rates by kind", kinds),
}


def charts_of(summary: Summary) -> Mapping[str, tuple[str, Callable[[Summary], Figure]]]:
    """Return CHARTS, or none of them if nothing was graded: they would be empty."""
    return CHARTS if any(figures["n"] for figures in summary.values()) else {}


def write_pictures(summary: Summary, folder: Path) -> None:
    """Write every chart with its title as a PNG file. Those of an earlier report with more to show are removed."""
    with _styled():
        for name in CHARTS.keys() - charts_of(summary).keys():
            (folder / f"{name}.png").unlink(missing_ok=True)
        for name, (title, draw) in charts_of(summary).items():
            figure = draw(summary)
            figure.suptitle(title)
            figure.savefig(folder / f"{name}.png", dpi=150)


def inline_charts(summary: Summary) -> dict[str, str]:
    """Return every chart as an `<svg>` element, by title; the page prints the title itself."""
    with _styled():
        return {title: _svg(title, draw(summary)) for title, draw in charts_of(summary).values()}


def _svg(title: str, figure: Figure) -> str:
    written = io.StringIO()
    figure.savefig(written, format="svg", transparent=True)
    svg = re.sub(r"<metadata>.*?</metadata>", "", written.getvalue().partition("<svg")[2], flags=re.DOTALL)
    told = "; ".join(group[3] for group in _GROUP.finditer(svg) if group[2]).replace('"', "&quot;")
    # matplotlib's group ids are meaningless and repeat in every chart. Only those with _TOLD are kept, as titles.
    svg = re.sub(_GROUP, lambda group: f"<g><title>{group[3]}</title>" if group[2] else "<g>", svg)
    for name, colour in _colours().items():
        svg = svg.replace(colour, f"var(--{name})")
    return f'<svg role="img" aria-label="{title}: {told}"{svg}'


def _rows(axes: Axes, summary: Summary, named: bool = True) -> None:
    """Lay out a row for each policy, the first on top, with lines between the rows."""
    axes.set_yticks(range(len(summary)), [_name(summary, name) for name in summary] if named else [])
    axes.set_yticks([y - 0.5 for y in range(1, len(summary))], minor=True)
    axes.set_ylim(len(summary) - 0.5, -0.5)
    axes.grid(visible=False, which="major")
    axes.grid(visible=True, which="minor", axis="y")
    axes.tick_params(axis="y", which="both", length=0)


def _figure(count: int = 1, height: float = 4.5) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, [figure.add_subplot(1, count, place) for place in range(1, count + 1)]


def _name(summary: Summary, name: str) -> str:
    """Return a policy's name, shortened to the room that a chart has."""
    shown = visible_line(label(name, summary[name]))
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"


def _look(summary: Summary, name: str) -> dict[str, Any]:
    """Return a policy's colour, marker and line style."""
    if name in CONSTANTS:
        return {"color": _colours()["faint"], "linestyle": DASHES[name], "marker": ""}
    number = [other for other in summary if other not in CONSTANTS].index(name)
    return {"color": _colours()[f"p{number % COLOURS}"], "linestyle": "-", "marker": MARKERS[number % len(MARKERS)]}


def _styled() -> AbstractContextManager[None]:
    """Set matplotlib to the page's colours, no formulas in names and text kept as text, whatever the user has set."""
    from matplotlib import style

    ink, faint, rule = (_colours()[name] for name in ("ink", "faint", "rule"))
    ours = {
        "text.color": ink, "axes.titlecolor": ink, "axes.labelcolor": faint, "xtick.color": faint,
        "ytick.color": faint, "axes.edgecolor": rule, "grid.color": rule, "axes.grid": True, "axes.grid.axis": "y",
        "axes.axisbelow": True, "text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "steer_lit",
    }  # fmt: skip
    return style.context(["default", ours], after_reset=True)


@cache
def _colours() -> Mapping[str, str]:
    """Return the style sheet's colours of ink, lines and policies on a light page, by their names there."""
    light = STYLE_SHEET.read_text(encoding="utf-8").partition("@media")[0]
    return dict(re.findall(r"--(ink|faint|rule|accent|p\d): (#[0-9a-f]{6})", light))
