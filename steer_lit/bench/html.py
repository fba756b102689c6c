"""The report as one page: tables, charts and a dialogue browser, with nothing to fetch.

Its parts lie in page/: Jinja templates with autoescape, a style sheet and three scripts, all inlined. The page's policy
allows its own script, by hash, and embedded pictures, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steer_lit.bench import archive, charts, report
from steer_lit.bench.page_dialogues import ShownDialogue
from steer_lit.bench.settings import BenchSettings
from steer_lit.bench.summary import Summary
from steer_lit.bench.tables import as_one, differences
from steer_lit.files.atomic import replacing
from steer_lit.terminal.visible import visible
from steer_lit.types import OpenImage

FOLDER = Path(__file__).with_name("page")
SCRIPTS = ("archive.js", "dialogue.js", "browser.js")
UNFOLDED = 12  # a table with more rows is folded at first


def page_results(summary: Summary, settings: BenchSettings) -> dict[str, Any]:
    """Return what the page shows above the dialogues, for report.html.j2."""
    main, *others = report.grids(summary, settings.protocol)
    return {
        "main": main,
        "legend": report.legend(summary, settings.protocol),
        "differences": differences(summary),
        "charts": charts.inline_charts(as_one(summary)),
        "tables": others,
    }


def write_page(
    path: Path,
    title: str,
    facts: Sequence[tuple[str, str]],
    dialogues: Sequence[ShownDialogue],
    open_image: OpenImage,
    results: Mapping[str, Any] | None = None,
) -> None:
    """Write the page, replacing an earlier one atomically. `facts` are the (label, value) pairs under its title.

    Without `results` the page is the dialogue browser alone.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    pictures = archive.thumbnails(dialogues, open_image)
    script = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,  # `| safe` makes another type
    )
    stream = environment.get_template("report.html.j2").stream(
        title=title,
        facts=facts,
        results=results,
        unfolded=UNFOLDED,
        style=charts.STYLE_SHEET.read_text(encoding="utf-8"),
        script=script,
        script_hash=f"sha256-{digest}",
        index=archive.packed(archive.index(dialogues, pictures)),
        blocks=archive.blocks(dialogues, pictures),
        pictures=pictures.data,
    )
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        stream.dump(file, encoding="utf-8", errors="replace")
