"""The tables of a summary, for both the Markdown page and the HTML page.

published.json holds the paper's: its policies, its judge, its dialogues. Rows give each policy a (Safety, Helpfulness)
pair per column, in percent: a subset or "mean".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from math import inf
from operator import itemgetter
from pathlib import Path
from typing import Any

from steer_lit.bench.metrics import NO_TIER
from steer_lit.bench.resampling import DIGITS, NO_RATE, Rate
from steer_lit.bench.summary import Summary
from steer_lit.data.labels import SUBSETS

Cells = tuple[str, ...]

RATES = {
    "joint_pass": "joint pass",
    "safety_pass": "Safety",
    "helpfulness_pass": "Helpfulness",
    "over_refusal": "over-refusal",
}
STRICT = {
    "safety_strict": "Safety, every answer",
    "helpfulness_strict": "Helpfulness, every answer",
    "answer_safety": "Safety, last answer",
    "answer_helpfulness": "Helpfulness, last answer",
}
HELD = "held"
MEDIAN = "median failure turn"
CUT = "cut answers"
STAR = "*"
_MINUS = (
    f"The first policy minus the second, over the dialogues both have. {STAR} The 95% interval excludes 0, as of "
    "one in twenty comparisons without a real difference."
)
_FEWER = " n= beside an over-refusal: only so many dialogues have a harmless turn with both policies, and count in it."
DECIDED = (
    "In rows without gold facts the judge decides by each answer whether the turn was harmful: there policies may "
    "be compared over different turns."
)
_HEADER = ("policy", *RATES.values(), MEDIAN, "harmless", "helpful", "dialogues")
_PUBLISHED = Path(__file__).with_name("published.json")
_SOURCE = "SaFeR-Steer, arXiv 2604.16358: STEER-Bench, graded by GPT-5-nano"
_MORE_PUBLISHED = ("aligned_3b", "ablation", "granularity")


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of text. A row's first `names` cells name it. Those whose first cell is in `faint` are shown faintly."""

    title: str
    header: Cells
    rows: tuple[Cells, ...]
    note: str = ""
    faint: frozenset[str] = frozenset()
    names: int = 1


def main(summary: Summary) -> Grid:
    """Lay out the pass rates, with a column of cut answers if there are any. Seeds are fainter than their mean."""
    more = {HELD: held} | ({CUT: itemgetter("cut")} if cut(summary) else {})
    *columns, last = _HEADER
    rows = _rows(summary, lambda own: (*_cells(own), *(percent(rate(own)) for rate in more.values()), _counted(own)))
    return Grid("Pass rates", (*columns, *more, last), rows, faint=frozenset(summary.keys() - as_one(summary).keys()))


def _rows(summary: Summary, cells: Callable[[Mapping[str, Any]], Iterable[str]]) -> tuple[Cells, ...]:
    """Return a row per policy: its label, then the `cells` of its figures."""
    return tuple((label(name, figures), *cells(figures)) for name, figures in summary.items())


def held(figures: Mapping[str, Any]) -> Rate:
    """Return the share of dialogues without an unsafe answer at the end of the survival curve, in percent."""
    curve = figures["survival"]
    rate: Rate = curve[max(curve, key=int)] if curve else NO_RATE
    return rate


def cut(summary: Summary) -> dict[str, float]:
    """Return the percentage of dialogues with a cut answer, by policy, where above 0. Earlier summaries lack it."""
    shares = {name: figures["cut"]["value"] for name, figures in alone(summary).items() if "cut" in figures}
    return {name: share for name, share in shares.items() if share}


def strict(summary: Summary) -> Grid:
    """Lay out the shares with a score of exactly 3, and the last answers' means."""
    means = ("answer_harmless_mean", "answer_helpful_mean")
    rows = _rows(summary, lambda own: (*(percent(own[key]) for key in STRICT), *(_mean(own[key]) for key in means)))
    note = "The best score, 3, on every answer of the dialogue, and on its last one alone."
    return Grid("Exactly 3", ("policy", *STRICT.values(), "last answer harmless", "last answer helpful"), rows, note)


def alone(summary: Summary) -> Summary:
    """Return the policies without the groups of seeds."""
    return {name: figures for name, figures in summary.items() if "seeds" not in figures}


def as_one(summary: Summary) -> Summary:
    """Return the groups in place of their seeds, and every other policy."""
    members = {seed for figures in summary.values() for seed in figures.get("seeds", ())}
    return {name: figures for name, figures in summary.items() if name not in members}


def label(name: str, figures: Mapping[str, Any]) -> str:
    return f"{name} ({len(figures['seeds'])} seeds)" if "seeds" in figures else name


def by_part(summary: Summary, key: str, title: str, column: str) -> Grid:
    """Lay out the figures of every part under `key`, such as "by_kind"."""
    rows = tuple(
        (part or "-", label(name, figures), *_cells(figures[key][part]), str(figures[key][part]["n"]))
        for part in parts(summary, key)
        for name, figures in summary.items()
        if part in figures[key]
    )
    return Grid(title, (column, *_HEADER), rows, names=2)


def subset_means(summary: Summary) -> Grid:
    shown = {key: column for key, column in RATES.items() if key != "over_refusal"}
    rows = _rows(summary, lambda own: (percent(own["subset_mean"][key]) for key in shown))
    return Grid("Plain mean over subsets", ("policy", *shown.values()), rows)


def differences(summary: Summary) -> Grid:
    """Lay out the paired differences, one per row, such as "grpo - sft"; no rows if nothing was compared."""
    rows = tuple(
        (f"{name} - {other}", *compared(versus), _counted(versus))
        for name, figures in summary.items()
        for other, versus in figures.get("vs", {}).items()
    )
    note = _MINUS + (_FEWER if any(" n=" in cell for row in rows for cell in row[1:]) else "")
    return Grid("Paired differences", ("difference, in points", *RATES.values(), "dialogues"), rows, note)


def compared(versus: Mapping[str, Any]) -> list[str]:
    """Format the differences of RATES, that in over-refusal with its own n, if fewer. Earlier summaries lack it."""
    n = versus.get("over_refusal_n") or versus["n"]
    own = {"over_refusal": f" n={n}"} if n < versus["n"] else {}
    return [difference(versus[key]) + own.get(key, "") for key in RATES]


def tier_differences(summary: Summary) -> Grid:
    """Lay out the paired differences in harmful turns kept safe, by where the harm sits; no rows without gold facts."""
    every = [
        (f"{name} - {other}", versus.get("by_tier", {}))
        for name, figures in summary.items()
        for other, versus in figures.get("vs", {}).items()
    ]
    tiers = sorted({tier for _, found in every for tier in found} - {NO_TIER})
    rows = [(name, *(difference(found.get(tier, NO_RATE)) for tier in tiers)) for name, found in every if tiers]
    title = "Paired differences in harmful turns kept safe, by where the harm sits"
    return Grid(title, ("difference, in points", *tiers), tuple(rows), _MINUS)


def safe_shares(summary: Summary, key: str, title: str, note: str = "") -> Grid:
    """Lay out the percentages of harmful turns kept safe, with the number of turns, over all seeds, in brackets."""
    columns = parts(summary, key)
    told = "{safe:.1f} ({n})".format_map
    rows = _rows(summary, lambda own: (told(cell) if (cell := own[key].get(part)) else "-" for part in columns))
    return Grid(title, ("policy, % (turns)", *columns), rows, note)


@cache
def published() -> dict[str, dict[str, Any]]:
    """Return every table of the paper by name: {title, columns, rows}."""
    return {table["name"]: table for table in json.loads(_PUBLISHED.read_text(encoding="utf-8"))}


def beside_published(summary: Summary, protocol: str) -> tuple[Grid, ...]:
    """Lay out the paper's table for `protocol` with this run's rows below, and the paper's other figures.

    Return no tables if the run has none of the paper's subsets: nothing could be compared then.
    """
    if set(SUBSETS).isdisjoint(parts(summary, "by_subset")):
        return ()
    table = published()[protocol]
    ours = _rows(summary, partial(_ours, table))
    papers = [(f"paper: {policy}", *map(_pair, cells)) for policy, cells in table["rows"].items()]
    note = (
        f'Safety / Helpfulness, %. Rows with "paper:" are the paper\'s numbers ({_SOURCE}). The others are this '
        "run's: another judge, and unless every dialogue of a subset was played, other dialogues. Not comparable one "
        "to one."
    )
    faint = frozenset(row[0] for row in papers)
    grid = Grid(table["title"], ("policy", *table["columns"]), (*papers, *ours), note, faint)
    more = [published()[name] for name in _MORE_PUBLISHED]
    other = tuple(
        (each["title"], policy, *map(_pair, cells)) for each in more for policy, cells in each["rows"].items()
    )
    header = ("what", "policy", "mean")
    return grid, Grid("More of the paper's numbers", header, other, "Safety / Helpfulness, %.", names=2)


def percent(rate: Rate) -> str:
    """Format a rate as "83.3 (75-90)", omitting an interval without width; an unknown rate is a dash.

    Ends have as few decimals as leave the interval its width and the value inside, the value at least one.
    """
    value, low, high = rate["value"], rate["low"], rate["high"]
    if value is None:
        return "-"
    if low is None or high is None or low == high:
        return f"{value:.1f}"
    ends = ((digits, round(low, digits), round(high, digits)) for digits in range(DIGITS))
    digits = next((digits for digits, a, b in ends if a < b and (digits or a <= round(value, 1) <= b)), DIGITS)
    return f"{value:.{max(digits, 1)}f} ({low:.{digits}f}-{high:.{digits}f})"


def difference(rate: Rate) -> str:
    """Format a difference as "+4.2 (0.8 to 7.9) *": starred if the interval excludes 0, in decimals that show it."""
    value, low, high = rate["value"], rate["low"], rate["high"]
    if value is None:
        return "-"
    if low is None or high is None:
        return f"{value:+z.1f}"
    star = f" {STAR}" if low > 0 or high < 0 else ""
    nearest = min(abs(low), abs(high)) if star else 1.0
    digits = next((digits for digits in range(1, DIGITS) if round(nearest, digits)), DIGITS)
    shown = f"{value:+z.{digits}f}"
    return f"{shown}{star}" if low == high else f"{shown} ({low:z.{digits}f} to {high:z.{digits}f}){star}"


def parts(summary: Summary, key: str) -> list[str]:
    """Return the parts that any policy has under `key`: turns in their order, others as they first occur."""
    found = dict.fromkeys(part for figures in summary.values() for part in figures[key])
    return sorted(found, key=lambda part: int(part) if part.isdecimal() else inf)


def _cells(block: Mapping[str, Any]) -> Cells:
    rates = (percent(block[key]) for key in RATES)
    means = (_mean(block[key]) for key in ("harmless_mean", "helpful_mean"))
    median = block["median_failure_turn"]
    return (*rates, "-" if median is None else str(median), *means)


def _mean(value: float | None) -> str:
    return "-" if value is None else f"{value:z.2f}"


def _counted(figures: Mapping[str, Any]) -> str:
    failed = figures.get("failed")  # differences of earlier summaries lack it
    return f"{figures['n']} (+{failed} failed)" if failed else str(figures["n"])


def _pair(cell: Sequence[float | None]) -> str:
    return "-" if None in cell else " / ".join(f"{value:.2f}" for value in cell)


def _ours(table: Mapping[str, Any], figures: Mapping[str, Any]) -> Iterator[str]:
    """Yield a cell for each column. The paper's mean is over its five subsets, so ours needs exactly these."""
    known = dict(figures["by_subset"])
    if known.keys() == set(SUBSETS):
        known["mean"] = figures["subset_mean"]
    for column in table["columns"]:
        block = known.get(column)
        yield "-" if block is None else _pair([block[key]["value"] for key in ("safety_pass", "helpfulness_pass")])
