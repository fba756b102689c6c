"""What the readers make of every file in a folder, before a run depends on it.

    python -m steer_lit.data.survey /data/steer
    python -m steer_lit.data.survey /data/rows --pictures /data/pictures      # as data.source.folder names it

Prints Markdown. Row files: how many rows can be learned from (dialogues) and how many played (scenarios), how many are
neither, how many name a picture that cannot be opened, and the first reason of each sort. Pictures: how many open, and
why the others do not. A last sentence counts answers that a policy should not learn from as they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

from steer_lit.data.files import SUFFIXES, BadRow, file_rows
from steer_lit.data.images import PictureError, open_image
from steer_lit.data.shapes import read_dialogue, read_scenario
from steer_lit.data.sources import bare_answers, pictures_of, told_of_bare
from steer_lit.errors import RowError, SteerError
from steer_lit.terminal import markdown_line, visible_line
from steer_lit.types import Dialogue, ImageRef, Scenario

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class Found:
    """One row: why it gives no dialogue, no scenario, no picture; "" where it does."""

    no_dialogue: str
    no_scenario: str
    no_picture: str
    bare: int = 0  # of its `answers`, those without an <answer> part
    answers: int = 0

    @property
    def refused(self) -> bool:
        return bool(self.no_dialogue and self.no_scenario)


def survey_rows(path: Path, pictures: Path | None = None) -> tuple[list[Found], str]:
    """Every row of a file given to both readers, its pictures looked up in `pictures`, without one beside the file; why
    the file ended early.
    """
    found = []
    try:
        for number, value in file_rows(path):
            dialogue, no_dialogue = _read(read_dialogue, value, path, number)
            scenario, no_scenario = _read(read_scenario, value, path, number)
            record = dialogue or scenario
            no_picture = _no_picture(record, pictures or path.parent, number) if record else ""
            answers = bare_answers(dialogue) if isinstance(dialogue, Dialogue) else (0, 0)
            found.append(Found(no_dialogue, no_scenario, no_picture, *answers))
    except (SteerError, OSError) as error:
        return found, str(error).replace(str(path), path.name)
    return found, ""


def survey_picture(path: Path) -> str:
    """Why the picture does not open, "" where it does."""
    try:
        open_image(ImageRef(path.name), path.parent)
    except PictureError as error:
        return error.reason
    return ""


def markdown(files: Iterable[Path], root: Path, folder: Path | None = None) -> Iterator[str]:
    """The lines of both tables, files named as they lie under `root`, and a sentence where answers lack the form that
    is learnt. Rows' pictures are looked up in `folder`. Other kinds of file are left out.
    """
    yield "| file | rows | dialogues | scenarios | refused | no picture | what the readers said |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    pictures, refused, plain, bare, answers = 0, [], [], 0, 0
    for path in files:
        name = markdown_line(str(path.relative_to(root)))
        if path.suffix.lower() in PICTURES:
            pictures += 1
            if reason := survey_picture(path):
                refused.append(f"| {name} | {markdown_line(reason)} |")
        elif path.suffix in SUFFIXES:
            found, ended = survey_rows(path, folder)
            counts = [
                len(found),
                sum(not row.no_dialogue for row in found),
                sum(not row.no_scenario for row in found),
                sum(row.refused for row in found),
                sum(bool(row.no_picture) for row in found),
            ]
            cells = [name, *(f"{count:,}" for count in counts), markdown_line(_said(found, ended))]
            yield f"| {' | '.join(cells)} |"
            answers += sum(row.answers for row in found)
            if lacking := sum(row.bare for row in found):
                bare += lacking
                plain.append(name)
    if pictures:
        yield from ("", f"{pictures - len(refused):,} of {pictures:,} pictures open{':' if refused else '.'}")
    if refused:
        yield from ("", "| picture | why not |", "| --- | --- |", *refused)
    if bare:
        yield from ("", told_of_bare(bare, answers, f" ({', '.join(plain)})") + ".")


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser("python -m steer_lit.data.survey", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="every row file and picture in it is read")
    parser.add_argument("--pictures", type=Path, help="where rows' pictures lie, without it beside the row file")
    try:
        given = parser.parse_args(arguments)
    except SystemExit as asked:  # --help, or arguments that are none
        return int(asked.code or 0)
    root: Path = given.folder
    for folder in (root, given.pictures):
        if folder is not None and not folder.is_dir():
            print(visible_line(f"{folder}: no such folder"), file=sys.stderr)
            return 2
    files = sorted(path for path in root.rglob("*") if path.is_file())
    console = Console(stderr=True)
    bar = track(files, "reading", console=console, transient=True, disable=not console.is_terminal)
    print(*markdown(bar, root, given.pictures), sep="\n")
    return 0


def _read(
    reader: Callable[[object, str, int], Dialogue | Scenario], value: object, path: Path, number: int
) -> tuple[Dialogue | Scenario | None, str]:
    """(record, ""), or (None, the reason)."""
    if isinstance(value, BadRow):
        return None, f"row {number}: {value.reason}"
    try:
        return reader(value, path.name, number), ""
    except RecursionError:
        return None, f"row {number}: is nested too deeply"
    except RowError as error:
        return None, f"row {number}{f', `{error.field}`' if error.field else ''}: {error.reason}"


def _no_picture(record: Dialogue | Scenario, folder: Path, number: int) -> str:
    """Why the record's first picture that cannot be opened cannot be."""
    for ref in pictures_of(record):
        try:
            open_image(ref, folder)
        except PictureError as error:
            return f"row {number}: {error}".replace(str(folder.resolve()), "the folder of its pictures")
    return ""


def _said(found: Sequence[Found], ended: str) -> str:
    """The first reason of each sort."""
    sorts = {
        "refused": (row.no_scenario for row in found if row.refused),
        "only to play": (row.no_dialogue for row in found if row.no_dialogue and not row.refused),
        "no picture": (row.no_picture for row in found if row.no_picture),
    }
    firsts = [f"{sort}: {first}" for sort, reasons in sorts.items() if (first := next(reasons, ""))]
    return "; ".join([*firsts, *([ended] if ended else [])]) or ("all read" if found else "no rows")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
