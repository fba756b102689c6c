"""Reports what can be read of a row file, or of every file in a folder, before a run depends on it.

    python -m steer_lit.data.survey /data/steer
    python -m steer_lit.data.survey /data/steer/sft.jsonl
    python -m steer_lit.data.survey /data/rows --pictures /data/pictures      # as data.source.folder names it

Row files: how many rows can be learned from (SFT) and how many played (GRPO, the benchmark), how many are refused, and
how many name a picture that does not open, which are good for neither. Under the table, for each file: turns, kinds,
system prompts and pictures of the readable rows, rows that repeat another, keys that have no effect, and reasons with
the rows they hold for: of a file by itself all (up to a hundred), of several the most frequent.
Pictures: how many of those that rows name open, and which files do not. A last sentence counts answers that a policy
should not learn from as they are. The exit code is 1 where a run would put a row aside - it is refused, a picture of it
does not open, or its file cannot be read to the end - and where files are not read, or there are none.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from textwrap import wrap

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from steer_lit.data.files import SUFFIXES
from steer_lit.data.rows import meant_row_file, source_problem
from steer_lit.data.sources import told_of_bare
from steer_lit.data.survey_file import LONGEST, Surveyed, survey_pictures, survey_rows
from steer_lit.errors import SteerError
from steer_lit.files.run_files import NOTES
from steer_lit.numbers import few
from steer_lit.terminal.stdout import carried_out, printing
from steer_lit.terminal.visible import print_lines, visible_line

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_WIDE = 1000  # columns of the table in a file or a pipe, where no name is folded
_COLUMNS = 80  # of the text below it


@dataclass(slots=True)
class Survey:
    """What the files in `root` hold; rows' pictures are looked up in `folder`, by default beside their file."""

    root: Path
    folder: Path | None = None
    files: list[tuple[str, Surveyed]] = field(default_factory=list)  # row files, with their names
    opened: dict[Path, dict[str, str]] = field(default_factory=dict)  # by folder, what rows' pictures were found to be
    lying: dict[Path, str] = field(default_factory=dict)  # picture files: why each does not open, "" if it does
    notes: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether there is something to read, all of it was read, and a run would put no row aside."""
        return bool(self.files or self.lying) and not self.unread and all(file.whole for _, file in self.files)

    def read(self, files: Iterable[Path]) -> None:
        """Read the row files and pictures, and skip other kinds of files.

        A run's own notes, links to no file, and endings in capitals, which no run reads, are skipped but reported.
        """
        lying: dict[Path, list[Path]] = {}  # by folder
        for path in files:
            if not path.is_file():
                self.unread.append(f"{self._name(path)} (a linked folder, or no file)")
            elif any(fnmatchcase(path.name, name) for name in NOTES):
                self.notes.append(self._name(path))
            elif path.suffix.lower() in PICTURES:
                lying.setdefault(path.parent, []).append(path)
            elif path.suffix in SUFFIXES:
                opened = self.opened.setdefault(self.folder or path.parent, {})
                self.files.append((self._name(path), survey_rows(path, self.folder, opened)))
            elif path.suffix.lower() in SUFFIXES:
                self.unread.append(f"{self._name(path)} (its ending in small letters, please)")
        for folder, paths in lying.items():
            known = {path: self._found(path) for path in paths}
            new = survey_pictures([path.name for path, why in known.items() if why is None], folder)
            self.lying |= {path: new[path.name] if why is None else why for path, why in known.items()}

    def _found(self, path: Path) -> str | None:
        """Return what a picture file was found to be when a row named it, None if none has."""
        for folder in path.parents:
            if path.relative_to(folder).as_posix() in (opened := self.opened.get(folder, {})):
                return opened[path.relative_to(folder).as_posix()]
        return None

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
        """Yield what the table does not say: reasons, skipped files, pictures, and answers without <answer> parts."""
        for name, file in self.files:
            if reasons := list(file.lines(alone=len(self.files) == 1)):
                yield from ("", f"{name}:", *reasons)
        if not self.files:
            yield from ("", f"No row file is here: {', '.join(SUFFIXES)}.")
        if self.unread:
            yield from ("", f"Not read: {few(self.unread)}.")
        yield from self._pictures()
        rows = [row for _, file in self.files for row in file.rows]
        if bare := sum(row.bare for row in rows):
            names = [name for name, file in self.files if any(row.bare for row in file.rows)]
            yield from ("", told_of_bare(bare, sum(row.answers for row in rows), f" ({', '.join(names)})") + ".")
        if self.notes:
            yield from ("", f"Left out, since runs write them: {few(self.notes)}.")

    def _pictures(self) -> Iterator[str]:
        """Yield how many picture files open, of those that rows name and of those in the folder."""
        looked = [(folder, uri, why) for folder, opened in self.opened.items() for uri, why in opened.items()]
        named = {_file(folder, uri): why for folder, uri, why in looked if "://" not in uri}
        if named:
            lost = [self._name(path) for path, why in named.items() if why]
            told = f"Every picture that rows name opens ({len(named):,})."
            if lost and len(named) == 1:
                told = f"The only picture that rows name does not open: {lost[0]}."
            elif lost:
                count, fail = len(named) - len(lost), "does" if len(lost) == 1 else "do"
                told = f"{count:,} of the {len(named):,} pictures that rows name {'opens' if count == 1 else 'open'}; "
                told += f"{len(lost):,} {fail} not: {few(lost)}."
            yield from ("", told)
        if self.lying:
            broken = {path: why for path, why in self.lying.items() if why}
            unnamed = sum(path.resolve() not in named for path in self.lying)
            opening = f"Every picture file in the folder opens ({len(self.lying):,})"
            if broken:
                opening = f"{len(self.lying) - len(broken):,} of {len(self.lying):,} picture files in the folder open"
            told = f"; {unnamed:,} {'is' if unnamed == 1 else 'are'} named by no row" if unnamed and self.files else ""
            yield from ("", f"{opening}{told}{':' if broken else '.'}")
            yield from (f"  * {self._name(path)}: {why}" for path, why in broken.items())

    def _name(self, path: Path) -> str:
        for folder in (self.root, self.root.resolve()):
            if path.is_relative_to(folder):
                path = path.relative_to(folder)
                break
        name = str(path)
        return visible_line(name if len(name) <= LONGEST else f"{name[:LONGEST]}..")


def main(arguments: Sequence[str]) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser("python -m steer_lit.data.survey", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("rows", type=Path, help="a row file, or a folder, of which every row file and picture is read")
    parser.add_argument("--pictures", type=Path, help="where rows' pictures lie, without it beside the row file")
    return carried_out(parser, arguments, _survey)


def _survey(given: argparse.Namespace) -> int:
    rows, pictures = given.rows, given.pictures
    if not rows.exists():
        meant = meant_row_file(rows)
        raise SteerError(f"{rows}: no such file or folder{'.' if meant else ''}{meant}")
    if not rows.is_dir() and (problem := source_problem(str(rows))):
        raise SteerError(f"{rows}: {problem}")
    if pictures is not None and not pictures.is_dir():
        raise SteerError(f"{pictures}: {'is a file: name its folder' if pictures.is_file() else 'no such folder'}")
    files = sorted(path for path in rows.rglob("*") if path.is_symlink() or path.is_file()) if rows.is_dir() else [rows]
    console, shown = Console(stderr=True), Console(emoji=False)
    if not shown.is_terminal:
        shown.width = _WIDE
    survey = Survey(rows if rows.is_dir() else rows.parent, pictures)
    survey.read(track(files, "reading", console=console, transient=True, disable=not console.is_terminal))
    shown.print(survey.table())
    print_lines(shown, *(part for line in survey.lines() for part in _folded(line)))
    return 0 if survey.whole else 1


def _folded(line: str) -> list[str]:
    """Return a line in parts of at most 80 characters; words, such as names of pictures, stay whole."""
    shown, indent = visible_line(line), " " * 4
    return wrap(shown, _COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or [""]


def _file(folder: Path, uri: str) -> Path:
    """Return where a picture would lie, links followed."""
    try:
        return (folder / uri).resolve()
    except (OSError, ValueError, RuntimeError):  # not a file name
        return folder / uri[:LONGEST]


if __name__ == "__main__":
    sys.exit(printing(partial(main, sys.argv[1:])))
