"""A summary as a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from steer_lit.bench import tables
from steer_lit.bench.summary import Summary
from steer_lit.terminal.visible import visible_line

_FORMULA = tuple("=+-@\t＝＋－＠")  # a spreadsheet computes a cell that begins with one of these


def spreadsheet(summary: Summary) -> str:
    """Return the figures as CSV. Each policy or group has a line for all its dialogues, each kind, each subset, the
    mean over subsets, and its difference from each policy it is compared with.

    Rates are in percent, in three columns each: the value and its 95% interval. Unknown values are empty.
    """
    lines = list(_lines(summary))
    written = io.StringIO()
    columns = list(dict.fromkeys(column for line in lines for column in line))
    writer = csv.DictWriter(written, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return written.getvalue()


def _lines(summary: Summary) -> Iterator[dict[str, Any]]:
    for policy, figures in summary.items():
        seeds = " ".join(figures.get("seeds", ()))
        blocks = [("seeds" if seeds else "all", seeds, {**figures, "held": tables.held(figures)})]
        blocks += [("kind", kind, block) for kind, block in figures["by_kind"].items()]
        blocks += [("subset", subset, block) for subset, block in figures["by_subset"].items()]
        blocks.append(("subset mean", "", figures["subset_mean"]))
        blocks += [("minus", other, versus) for other, versus in figures.get("vs", {}).items()]
        for part, name, block in blocks:
            yield {"policy": _inert(policy), "part": part, "name": _inert(name), **_columns(block)}


def _inert(name: str) -> str:
    """Return a name, which rows or a file of dialogues may have chosen, so that no spreadsheet computes it."""
    name = visible_line(name)
    return f"'{name}" if name.startswith(_FORMULA) else name


def _columns(block: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in block.items():
        if isinstance(value, Mapping) and set(value) == {"value", "low", "high"}:
            found |= {key: value["value"], f"{key}_low": value["low"], f"{key}_high": value["high"]}
        elif not isinstance(value, Mapping | list):
            found[key] = value
    return found
