"""Reports what can be read of row files, or of every file in a folder, before a run depends on it.

    python -m steer_lit.data.survey /data/steer
    python -m steer_lit.data.survey /data/steer/sft.jsonl
    python -m steer_lit.data.survey /data/rows --pictures /data/pictures      # as data.source.folder names it

The table: how many rows of each file can be learned from (SFT) and how many played (GRPO, the benchmark), how many are
refused, and how many name a picture that does not open, which are good for neither. Under it, for each file: unknown
keys, rows that repeat an earlier one, answers that a policy should not learn from as they are, and the most frequent
reasons with the rows they hold for. The exit code is 1 where a run would put a row aside - it is refused, a picture of
it does not open, or its file cannot be read to the end - where it holds no row, and where files are not read, or there
are none.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from textwrap import wrap

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from steer_lit.data.files import SUFFIXES, holds_rows
from steer_lit.data.rows import meant_row_file, source_problem
from steer_lit.data.survey_file import Surveyed, survey_rows
from steer_lit.errors import SteerError
from steer_lit.numbers import few
from steer_lit.terminal.stdout import carried_out, printing
from steer_lit.terminal.visible import print_lines, visible_line

_WIDE = 1000  # columns of the table in a file or a pipe, where no name is folded
_COLUMNS = 80  # of the text below it


@dataclass(slots=True)
class Survey:
    """What the files in `root` hold; rows' pictures are looked up in `folder`, by default beside their file."""

    root: Path
    folder: Path | None = None
    files: list[tuple[str, Surveyed]] = field(default_factory=list)  # row files, with their names
    opened: dict[Path, dict[str, str]] = field(default_factory=dict)  # by folder, what rows' pictures were found to be
    unread: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether there is something to read, all of it was read, and a run would put no row aside."""
        return bool(self.files) and not self.unread and all(file.whole for _, file in self.files)

    def read(self, files: Iterable[Path]) -> None:
        """Read the row files and skip other kinds, and what runs note. Links to no file are skipped but reported."""
        for path in files:
            if not path.is_file():
                self.unread.append(f"{self._name(path)} (a linked folder, or no file)")
            elif holds_rows(path):
                opened = self.opened.setdefault(self.folder or path.parent, {})
                self.files.append((self._name(path), survey_rows(path, self.folder, opened)))

    def table(self) -> Table:
        """Return a table of the row files, named by their paths under `root`."""
        shown = Table(box=box.MINIMAL, show_edge=False, pad_edge=False)
        for heading in ("file", "rows", "SFT", "playable", "refused", "picture missing"):
            figure = heading != "file"
            shown.add_column(heading, justify="right" if figure else "left", no_wrap=figure, overflow="fold")
        for name, file in self.files:
            shown.add_row(Text(name), *(f"{count:,}" for count in file.counts()))
        return shown

    def lines(self) -> Iterator[str]:
        """Yield what the table does not say: what is wrong with each file, and which were skipped."""
        for name, file in self.files:
            if told := list(file.lines()):
                yield from ("", f"{name}:", *told)
        if not self.files:
            yield from ("", f"No row file is here: {', '.join(SUFFIXES)}.")
        if self.unread:
            yield from ("", f"Not read: {few(self.unread)}.")

    def _name(self, path: Path) -> str:
        return visible_line(str(path.absolute().relative_to(self.root)))


def main(arguments: Sequence[str]) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser("python -m steer_lit.data.survey", description=(__doc__ or "").split("\n")[0])
    said = "a row file, or a folder, of which every row file is read"
    parser.add_argument("rows", type=Path, nargs="+", help=said)
    parser.add_argument("--pictures", type=Path, help="where rows' pictures lie, without it beside the row file")
    return carried_out(parser, arguments, _survey)


def _survey(given: argparse.Namespace) -> int:
    pictures = given.pictures
    for rows in given.rows:
        if not rows.exists():
            meant = meant_row_file(rows)
            raise SteerError(f"{rows}: no such file or folder{'.' if meant else ''}{meant}")
        if not rows.is_dir() and (problem := source_problem(str(rows))):
            raise SteerError(f"{rows}: {problem}")
    if pictures is not None and not pictures.is_dir():
        raise SteerError(f"{pictures}: {'is a file: name its folder' if pictures.is_file() else 'no such folder'}")
    folders = [rows.absolute() if rows.is_dir() else rows.absolute().parent for rows in given.rows]
    files = [path for rows in given.rows for path in (_files(rows) if rows.is_dir() else [rows])]
    console, shown = Console(stderr=True), Console(emoji=False)
    if not shown.is_terminal:
        shown.width = _WIDE
    survey = Survey(Path(os.path.commonpath(folders)), pictures)
    survey.read(track(files, "reading", console=console, transient=True, disable=not console.is_terminal))
    shown.print(survey.table())
    print_lines(shown, *(part for line in survey.lines() for part in _folded(line)))
    return 0 if survey.whole else 1


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def _folded(line: str) -> list[str]:
    """Return a line in parts of at most 80 characters; words, such as names of pictures, stay whole."""
    shown, indent = visible_line(line), " " * 4
    return wrap(shown, _COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or [""]


if __name__ == "__main__":
    sys.exit(printing(partial(main, sys.argv[1:])))
