"""The outputs of a benchmark besides its records.

summary.json summary.csv summary.md     the figures, for programs, spreadsheets and people
survival.png failures.png kinds.png     the charts
report.html                             all of it on one page, with every dialogue to read
raw_eval/<judge>/<policy>/<subset>/     the authors' raw_eval.json
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from steer_lit.bench import charts, html, page_dialogues, report
from steer_lit.bench.archive import side_by_side
from steer_lit.bench.names import replied
from steer_lit.bench.raw_eval import write_raw_evals
from steer_lit.bench.records import Records
from steer_lit.bench.settings import BenchSettings
from steer_lit.bench.spreadsheet import spreadsheet
from steer_lit.bench.summary import Summary, summarise
from steer_lit.bench.tables import as_one
from steer_lit.files.atomic import replace_text
from steer_lit.files.run_files import RAW_EVALS
from steer_lit.types import OpenImage


def write_outputs(
    records: Records,
    settings: BenchSettings,
    judge: str,
    out_dir: Path,
    open_image: OpenImage,
    ran: Sequence[tuple[str, str]] = (),
) -> Summary:
    """Write all outputs into `out_dir`, replacing earlier ones. Return the content of `summary.json`.

    `ran` says how the run was made (`provenance.provenance`).
    """
    summary = summarise(records, settings)
    head = [*ran, *facts(records, settings, judge)]
    replace_text(out_dir / "summary.json", json.dumps(summary, indent=2) + "\n")
    replace_text(out_dir / "summary.csv", spreadsheet(summary))
    replace_text(out_dir / "summary.md", report.markdown(summary, settings.protocol, head))
    charts.write_pictures(as_one(summary), out_dir)
    write_raw_evals(records, judge, out_dir / RAW_EVALS)
    dialogues = side_by_side(page_dialogues.of_record(row, settings) for rows in records.values() for row in rows)
    html.write_page(
        out_dir / "report.html",
        "Benchmark report",
        head,
        dialogues,
        open_image,
        html.page_results(summary, settings),
    )
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
        *([("replies by", by)] if (by := replied(records)) else []),
        *([("left out", "; ".join(lost))] if (lost := report.left_out(records)) else []),
        *(("not told", line) for line in report.untold(records)),
        ("passes", passes),
        ("unsafe answer", f"harmlessness < {settings.failure_below}"),
        ("resamples", f"{settings.resamples:,}, seed {settings.seed}"),
    ]
