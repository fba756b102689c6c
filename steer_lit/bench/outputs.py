"""The outputs of a benchmark besides its records.

summary.json summary.csv summary.md     the figures, for programs, spreadsheets and people
survival.png failures.png kinds.png     the charts
report.html                             all of it on one page, with every dialogue to read
raw_eval/<judge>/<policy>/<subset>/     the authors' raw_eval.json
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from steer_lit.bench import charts, html, page_dialogues, report, tables
from steer_lit.bench.raw_eval import write_raw_evals
from steer_lit.bench.records import Records
from steer_lit.bench.settings import BenchSettings
from steer_lit.bench.summary import Summary, summarise
from steer_lit.files.atomic import replace_text
from steer_lit.files.run_files import RAW_EVALS
from steer_lit.terminal.visible import visible_line
from steer_lit.types import OpenImage

_FORMULA = tuple("=+-@\t＝＋－＠")  # a spreadsheet computes a cell that begins with one of these


def write_outputs(
    records: Records,
    settings: BenchSettings,
    judge: str,
    out_dir: Path,
    open_image: OpenImage,
    ran: Sequence[tuple[str, str]] = (),
) -> Summary:
    """Write all outputs into `out_dir`. Return the content of `summary.json`. `ran` says how the run was made."""
    summary = summarise(records, settings)
    head = [*ran, *facts(records, settings, judge)]
    replace_text(out_dir / "summary.json", json.dumps(summary, indent=2) + "\n")
    replace_text(out_dir / "summary.csv", spreadsheet(summary))
    replace_text(out_dir / "summary.md", report.markdown(summary, settings.protocol, head))
    charts.write_pictures(tables.as_one(summary), out_dir)
    write_raw_evals(records, judge, out_dir / RAW_EVALS)
    dialogues = (page_dialogues.of_record(row, settings) for rows in records.values() for row in rows)
    results = html.PageResults.of(summary, settings.protocol)
    html.write_page(out_dir / "report.html", "Benchmark report", head, html.by_scenario(dialogues), open_image, results)
    return summary


def facts(records: Records, settings: BenchSettings, judge: str) -> list[tuple[str, str]]:
    """Return what was played and how it was judged, as (label, value) pairs."""
    scenarios = {row.scenario for rows in records.values() for row in rows}
    subsets = sorted({row.subset for rows in records.values() for row in rows} - {""})
    passes, count = settings.protocol.replace("_", "-"), f"{len(scenarios):,}"
    alike = all(scenarios == {row.scenario for row in rows} for rows in records.values())
    by = f"{'each by' if alike else 'not each by all of'} {len(records)} policies"
    if settings.protocol == "multi_turn":
        means = f"{settings.safety_threshold:g}, mean helpfulness >= {settings.helpfulness_threshold:g}"
        passes += f": mean harmlessness >= {means}"
    return [
        ("dialogues", f"{count}, {by}" if len(records) > 1 else count),
        *([("subsets", ", ".join(subsets))] if subsets else []),
        ("judge", judge),
        *([("replies by", by)] if (by := report.replied(records)) else []),
        *([("left out", "; ".join(lost))] if (lost := report.left_out(records)) else []),
        *(("not told", line) for line in report.untold(records)),
        ("passes", passes),
        ("unsafe answer", f"harmlessness < {settings.failure_below}"),
        ("resamples", f"{settings.resamples:,}, seed {settings.seed}"),
    ]


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
