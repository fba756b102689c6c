"""The report as one page: tables, charts and a dialogue browser, with nothing to fetch.

Its parts lie in page/: Jinja templates with autoescape, a style sheet and three scripts, all inlined. The page's policy
allows its own script, by hash, and embedded pictures, and nothing else.

Text written by models and attackers must not be able to close a script element, and the page must show something before
it has read twenty thousand dialogues. So it holds blocks of dialogues, each as base64 of gzipped ASCII JSON, and an
index of them; page/archive.js unpacks them. Base64 has no `<`. Texts are stored as a page shows them (`visible`).
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steer_lit.bench import charts, report
from steer_lit.bench.page_dialogues import NO_ANSWER, OUTCOMES, ShownDialogue, ShownTurn
from steer_lit.bench.summary import Summary
from steer_lit.bench.tables import Grid, as_one, differences
from steer_lit.files.atomic import replacing
from steer_lit.terminal.visible import visible
from steer_lit.tutor.rubric import KEYWORDS
from steer_lit.types import ImageRef, OpenImage

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER = Path(__file__).with_name("page")
SCRIPTS = ("archive.js", "dialogue.js", "browser.js")
UNFOLDED = 12  # a table with more rows is folded at first
BLOCK = 32  # dialogues that are unpacked together
MAX_SIDE = 256  # pixels: the longer side of a picture in the page


@dataclass(frozen=True, slots=True)
class PageResults:
    """What the page shows above the dialogues: tables, the first with its legend, and charts by title, as SVG."""

    main: Grid
    legend: Sequence[str]
    differences: Grid
    charts: Mapping[str, str]
    tables: Sequence[Grid]

    @classmethod
    def of(cls, summary: Summary, protocol: str) -> PageResults:
        """Draw the charts, and lay out every table with the legend of the `protocol`."""
        main, *others = report.grids(summary, protocol)
        drawn = charts.inline_charts(as_one(summary))
        return cls(main, report.legend(summary, protocol), differences(summary), drawn, others)


def write_page(
    path: Path,
    title: str,
    facts: Sequence[tuple[str, str]],
    dialogues: Sequence[ShownDialogue],
    open_image: OpenImage,
    results: PageResults | None = None,
) -> None:
    """Write the page atomically, with (label, value) `facts` under its title; without `results`, the browser alone."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    places, pictures = thumbnails(dialogues, open_image)
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
        remarks=list(_remarks([turn for dialogue in dialogues for turn in dialogue.turns])),
        style=charts.STYLE_SHEET.read_text(encoding="utf-8"),
        script=script,
        script_hash=f"sha256-{digest}",
        index=_packed(_index(dialogues, places)),
        blocks=_blocks(dialogues, places),
        pictures=pictures,
    )
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        stream.dump(file, encoding="utf-8", errors="replace")


def _remarks(turns: Sequence[ShownTurn]) -> Iterator[str]:
    """Yield what explains the words of some verdict or score."""
    if any(KEYWORDS in turn.verdict for turn in turns):
        yield "The keywords of a verdict are the words that a full answer has."
    if any(NO_ANSWER in score for turn in turns for _, score in turn.scores):
        yield f"A score beside {NO_ANSWER} may have been set for lack of one, whatever the verdict says."


def _packed(value: object) -> str:
    """Return `value` as base64 of gzipped JSON, which is safe anywhere in a page. Its texts become `visible`."""
    text = json.dumps(_shown(value), ensure_ascii=True, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode("ascii"), compresslevel=6, mtime=0)).decode("ascii")


def _shown(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _shown(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(one) for one in value]
    return visible(value) if isinstance(value, str) else value


def by_scenario(dialogues: Iterable[ShownDialogue]) -> list[ShownDialogue]:
    """Group the dialogues by scenario, which makes them easy to compare and compresses best."""
    first: dict[str, int] = {}
    return sorted(dialogues, key=lambda dialogue: first.setdefault(dialogue.scenario, len(first)))


def _index(dialogues: Sequence[ShownDialogue], places: Mapping[str, int | str]) -> dict[str, Any]:
    """Return what the page's lists and filters need: {labels, block, rows, pictures}.

    A row is [policy, kind, subset, outcome, scenario, tones], the first four as indices into `labels`.
    """
    labels = {
        "policy": list(dict.fromkeys(dialogue.policy for dialogue in dialogues)),
        "kind": sorted({dialogue.kind for dialogue in dialogues}),
        "subset": sorted({dialogue.subset for dialogue in dialogues}),
        "outcome": [outcome for outcome in OUTCOMES if any(dialogue.outcome == outcome for dialogue in dialogues)],
    }
    at = {name: {label: number for number, label in enumerate(known)} for name, known in labels.items()}
    rows = [
        [*(at[name][getattr(dialogue, name)] for name in labels), dialogue.scenario, dialogue.tones]
        for dialogue in dialogues
    ]
    return {"labels": labels, "block": BLOCK, "rows": rows, "pictures": list(places.items())}


def _blocks(dialogues: Sequence[ShownDialogue], places: Mapping[str, int | str]) -> Iterator[str]:
    """Yield the packed texts of `BLOCK` dialogues at a time, with each picture's number in the index for its uri."""
    numbers = {uri: number for number, uri in enumerate(places)}

    def texts(dialogue: ShownDialogue) -> dict[str, Any]:
        turns = [{**asdict(turn), "pictures": [numbers[uri] for uri in turn.pictures]} for turn in dialogue.turns]
        return {"note": dialogue.note, "turns": turns}

    rest = iter(dialogues)
    while block := list(islice(rest, BLOCK)):
        yield _packed(list(map(texts, block)))


def thumbnails(dialogues: Iterable[ShownDialogue], open_image: OpenImage) -> tuple[dict[str, int | str], list[str]]:
    """Shrink each picture once. Return by uri its data URI's index, or why it cannot be opened, and the data URIs."""
    data: dict[str, int] = {}
    places: dict[str, int | str] = {}
    for uri in dict.fromkeys(uri for dialogue in dialogues for turn in dialogue.turns for uri in turn.pictures):
        try:
            places[uri] = data.setdefault(_data_uri(open_image(ImageRef(uri))), len(data))
        except (ValueError, OSError) as error:  # PictureError is a ValueError
            places[uri] = str(error)
    return places, list(data)


def _data_uri(image: Image) -> str:
    small = image.copy()
    small.thumbnail((MAX_SIDE, MAX_SIDE))
    written = io.BytesIO()
    small.save(written, "WEBP", quality=70, method=4)
    return f"data:image/webp;base64,{base64.b64encode(written.getvalue()).decode('ascii')}"
