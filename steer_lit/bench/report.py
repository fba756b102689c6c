"""A summary as tables and a picture: for the terminal, for a page, and the survival curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from steer_lit.bench.suite import CONSTANTS

Summary = Mapping[str, Mapping[str, Any]]

_RATES = {
    "joint_pass": "joint pass",
    "safety_pass": "Safety",
    "helpfulness_pass": "Helpfulness",
    "over_refusal": "over-refusal",
}
_MEDIAN = "median failure turn"
_HEADER = ("policy", *_RATES.values(), _MEDIAN, "harmless", "helpful", "dialogues")

# Constant policies often run along the same line: dashes keep them apart, from each other and from the trained ones.
_DASHES = dict(zip(CONSTANTS, ("--", "-.", ":"), strict=True))

_LEGEND = """\
Rates in percent with 95% bootstrap intervals over dialogues. Safety and Helpfulness: the dialogue's mean harmlessness
(-3..3) or mean helpfulness (0..3) reaches its threshold; joint pass: both do. Over-refusal: harmless turns refused
(lower is better). Median failure turn: the turn by which half the dialogues have given an unsafe answer (Kaplan-Meier),
a dash where more than half never do."""


def table(summary: Summary) -> Table:
    """The main table for a terminal of 80 columns; means and counts are left to `markdown`."""
    counts = sorted({figures["n"] for figures in summary.values()})
    span = "-".join(str(count) for count in (counts[:1] + counts[-1:] if len(counts) > 1 else counts))
    title = f"{span} multi-turn dialogues, % (95% interval)"
    shown = Table(title=title, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    shown.add_column("policy", no_wrap=True)
    for column in (*_RATES.values(), _MEDIAN):
        shown.add_column(column, justify="right")
    for name, figures in summary.items():
        shown.add_row(name, *(_short(figures[key]) for key in _RATES), _turn(figures["median_failure_turn"]))
    return shown


def markdown(summary: Summary) -> str:
    """The whole summary as a page: main table, differences, and the tables by kind, subset, tier and turn."""
    blocks = [
        "# Multi-turn benchmark",
        _LEGEND,
        _grid(_HEADER, _main_rows(summary)),
        *(f"* {note}" for note in notes(summary)),
        "## By kind",
        _by(summary, "by_kind", "kind"),
    ]
    if any(len(figures["by_subset"]) > 1 for figures in summary.values()):
        blocks += ["## By subset", _by(summary, "by_subset", "subset"), "Plain mean over subsets:"]
        rows = [(name, *map(percent, figures["subset_mean"].values())) for name, figures in summary.items()]
        blocks.append(_grid(("policy", *list(_RATES.values())[:3]), rows))
    blocks += [
        "## Harmful turns kept safe, by where the harm sits",
        _shares(summary, "by_tier"),
        "## Harmful turns kept safe, by turn",
        _shares(summary, "by_turn"),
        "![Survival](survival.png)",
    ]
    return "\n\n".join(blocks) + "\n"


def notes(summary: Summary) -> list[str]:
    """The paired differences, one sentence each, such as "grpo - sft: joint pass +4.2 points [0.8, 7.9], ..."."""
    lines = []
    for name, figures in summary.items():
        for earlier, versus in figures.get("vs", {}).items():
            parts = [f"{label} {_points(versus[key])}" for key, label in _RATES.items()]
            lines.append(f"{name} - {earlier} over {versus['n']} dialogues, in points: {', '.join(parts)}")
    return lines


def plot(summary: Summary, path: Path) -> None:
    """Kaplan-Meier curves, one a policy, with 95% bands, as a PNG. The curve steps down after the turn that failed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, figures in summary.items():
        curve = figures["survival"]
        if not curve:
            continue
        points = [{"value": 100.0, "low": 100.0, "high": 100.0}, *curve.values()]
        points.append(points[-1])  # the last step needs some width to be seen
        turns = [0, *map(int, curve), len(curve) + 0.5]
        alive, low, high = ([point[key] for point in points] for key in ("value", "low", "high"))
        style, label = _DASHES.get(name, "-"), f"{name} (n={figures['n']})"
        (line,) = axes.step(turns, alive, where="post", linestyle=style, label=label)
        axes.fill_between(turns, low, high, step="post", alpha=0.15, color=line.get_color(), linewidth=0)
    axes.set(xlabel="turn", ylabel="dialogues without an unsafe answer, %", ylim=(-2, 102), xlim=(0, None))
    axes.set_xticks(range(1 + max((len(figures["survival"]) for figures in summary.values()), default=0)))
    axes.grid(alpha=0.25)
    if axes.lines:
        figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=150)


def percent(rate: Mapping[str, float | None]) -> str:
    """A rate as "83.3 [75.0, 90.2]"; a dash for what is not known."""
    return _bracketed(rate, ".1f")


def _short(rate: Mapping[str, float | None]) -> str:
    """A rate as "83.3 (75-90)", without an interval that has no width."""
    value, low, high = rate["value"], rate["low"], rate["high"]
    if value is None:
        return "-"
    return f"{value:.1f}" if low is None or high is None or low == high else f"{value:.1f} ({low:.0f}-{high:.0f})"


def _turn(median: int | None) -> str:
    return "-" if median is None else str(median)


def _points(rate: Mapping[str, float | None]) -> str:
    return _bracketed(rate, "+.1f")


def _bracketed(rate: Mapping[str, float | None], spec: str) -> str:
    value, low, high = rate["value"], rate["low"], rate["high"]
    if value is None:
        return "-"
    return format(value, spec) if low is None or high is None else f"{value:{spec}} [{low:{spec}}, {high:{spec}}]"


def _main_rows(summary: Summary) -> list[tuple[str, ...]]:
    return [(name, *_cells(figures), _counted(figures)) for name, figures in summary.items()]


def _cells(block: Mapping[str, Any]) -> tuple[str, ...]:
    rates = (percent(block[key]) for key in _RATES)
    means = ("-" if block[key] is None else f"{block[key]:.2f}" for key in ("harmless_mean", "helpful_mean"))
    return (*rates, _turn(block["median_failure_turn"]), *means)


def _counted(figures: Mapping[str, Any]) -> str:
    return f"{figures['n']} (+{figures['failed']} failed)" if figures["failed"] else str(figures["n"])


def _by(summary: Summary, key: str, label: str) -> str:
    rows = [
        (part, name, *_cells(figures[key][part]), str(figures[key][part]["n"]))
        for part in _parts(summary, key)
        for name, figures in summary.items()
        if part in figures[key]
    ]
    return _grid((label, *_HEADER), rows)


def _shares(summary: Summary, key: str) -> str:
    parts = _parts(summary, key)
    rows = []
    for name, figures in summary.items():
        cells = (figures[key].get(part) for part in parts)
        rows.append((name, *("-" if cell is None else f"{cell['safe']:.1f} ({cell['n']})" for cell in cells)))
    return _grid(("policy, % (turns)", *parts), rows)


def _parts(summary: Summary, key: str) -> list[str]:
    """The parts any policy has under `key`, in the order they first occur."""
    return list(dict.fromkeys(part for figures in summary.values() for part in figures[key]))


def _grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
