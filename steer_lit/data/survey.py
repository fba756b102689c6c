"""Reports what can be read of every file in a folder, before a run depends on it.

    python -m steer_lit.data.survey /data/steer
    python -m steer_lit.data.survey /data/rows --pictures /data/pictures      # as data.source.folder names it

Row files: how many rows can be learned from (SFT) and how many played (GRPO, the benchmark), how many are refused, and
how many name a picture that does not open, which are good for neither; under the table every reason with the rows it
holds for. Pictures: how many of those that rows name open, and which files do not. A last sentence counts answers that
a policy should not learn from as they are. The exit code is 1 where a run would put a row aside - it is refused, a
picture of it does not open, or its file cannot be read to the end - and where files are not read, or there are none.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from itertools import islice
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from steer_lit.data.broken_pictures import broken_pictures
from steer_lit.data.files import SUFFIXES, BadRow, file_rows
from steer_lit.data.images import picture_named
from steer_lit.data.shapes import NO_DIALOGUE, read_dialogue, read_scenario
from steer_lit.data.sources import bare_answers, pictures_of, told_of_bare
from steer_lit.errors import RowError, SteerError
from steer_lit.files.run_files import NOTES
from steer_lit.numbers import counted
from steer_lit.terminal.stdout import carried_out, printing
from steer_lit.terminal.visible import print_lines, visible_line
from steer_lit.types import Dialogue, Scenario

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_REASONS = 6  # shown for a file
_FEW = 5  # rows or pictures shown for a reason
_WIDE = 1000  # columns of a file or a pipe, where nothing is folded
_LONGEST = 100  # characters shown of a picture's name, which may be anything


@dataclass(frozen=True, slots=True)
class Found:
    """One row: why it gives no dialogue and why no scenario ("" if it does), and the pictures it names."""

    number: int
    no_dialogue: str
    no_scenario: str
    pictures: tuple[str, ...] = ()
    bare: int = 0  # of its `answers`, those without an <answer> part
    answers: int = 0

    @property
    def refused(self) -> bool:
        return bool(self.no_dialogue and self.no_scenario)


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A file's rows, why it ended early, and why each picture they name does not open ("" if it does)."""

    rows: Sequence[Found]
    ended: str
    pictures: Mapping[str, str]

    @property
    def blind(self) -> list[Found]:
        """The rows with a picture that does not open."""
        return [row for row in self.rows if any(self.pictures[uri] for uri in row.pictures)]

    @property
    def whole(self) -> bool:
        return not (self.ended or self.blind or any(row.refused for row in self.rows))

    def counts(self) -> tuple[int, ...]:
        """Return the numbers of all rows, rows for SFT, playable, refused, and with a broken picture.

        Rows with a broken picture are neither for SFT nor playable.
        """
        blind = {row.number for row in self.blind}
        seen = [row for row in self.rows if row.number not in blind]
        learned, played = sum(not row.no_dialogue for row in seen), sum(not row.no_scenario for row in seen)
        return len(self.rows), learned, played, sum(row.refused for row in self.rows), len(blind)

    def faults(self) -> Iterator[tuple[str, int, str, str]]:
        """Yield (sort, row, reason, picture) for each fault, refusals first.

        A row to play without the keys of a dialogue is at fault only if its file has dialogues.
        """
        for row in self.rows:
            if row.refused:  # by the reader that its keys call for
                yield "refused", row.number, row.no_scenario if _no_dialogue(row) else row.no_dialogue, ""
        for row in self.rows:
            broken = [uri for uri in row.pictures if self.pictures[uri]]
            yield from (("picture missing", row.number, self.pictures[uri], uri) for uri in broken)
        learned = any(not row.no_dialogue for row in self.rows)
        for row in self.rows:
            if row.no_dialogue and not row.no_scenario and (learned or not _no_dialogue(row)):
                yield "not for SFT", row.number, row.no_dialogue, ""
            elif row.no_scenario and not row.no_dialogue:
                yield "not playable", row.number, row.no_scenario, ""

    def lines(self) -> Iterator[str]:
        """Yield each reason with the rows that it holds for."""
        reasons: dict[tuple[str, str], list[tuple[int, str, str]]] = {}
        for sort, number, reason, picture in self.faults():
            alike = re.sub(r"\d+", "0", reason)  # another place in the row is not another reason
            reasons.setdefault((sort, alike), []).append((number, reason, picture))
        for (sort, _), faults in islice(reasons.items(), _REASONS):
            numbers = list(dict.fromkeys(str(number) for number, _, _ in faults))
            uris = list(dict.fromkeys(uri for _, _, uri in faults if uri))
            pictures = f"{_few([repr(uri[:_LONGEST]) for uri in uris])}: " if uris else ""
            yield f"  * {sort}, {counted(len(numbers), 'row')} ({_few(numbers)}): {pictures}{faults[0][1]}"
        if (more := len(reasons) - _REASONS) > 0:
            yield f"  * and {counted(more, 'more reason')}"
        if self.ended:
            yield f"  * cannot be read to its end: {self.ended}"


def survey_rows(path: Path, pictures: Path | None = None, opened: dict[str, str] | None = None) -> Surveyed:
    """Give every row of a file to both readers; look its pictures up in `pictures`, by default beside the file.

    `opened` holds what other files have found of pictures in the same folder, and takes in what this one finds.
    """
    found: list[Found] = []
    opened = {} if opened is None else opened
    folder, ended = pictures or path.parent, ""
    try:
        for number, value in file_rows(path):
            dialogue, no_dialogue = _read(read_dialogue, value, path, number)
            scenario, no_scenario = _read(read_scenario, value, path, number)
            record = dialogue or scenario
            named = tuple(dict.fromkeys(ref.uri for ref in pictures_of(record))) if record else ()
            answers = bare_answers(dialogue) if isinstance(dialogue, Dialogue) else (0, 0)
            found.append(Found(number, no_dialogue, no_scenario, named, *answers))
    except (SteerError, OSError) as error:
        ended = str(error).replace(str(path), path.name)
    new = dict.fromkeys(uri for row in found for uri in row.pictures if uri not in opened)
    opened |= survey_pictures(new, folder)
    return Surveyed(found, ended, opened)


def survey_pictures(names: Iterable[str], folder: Path) -> dict[str, str]:
    """Return why each picture of the folder does not open, "" if it does."""
    refs = {name: picture_named(name) for name in names}
    broken = broken_pictures(refs.values(), folder)
    reasons = {name: broken[ref].reason if ref in broken else "" for name, ref in refs.items()}
    place = str(folder.resolve())
    return {
        name: reason.replace(place, "the folder of its pictures").replace(" (data.source.folder)", "")
        for name, reason in reasons.items()
    }


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
            if reasons := list(file.lines()):
                yield from ("", f"{name}:", *reasons)
        if not self.files:
            yield from ("", f"No row file is here: {', '.join(SUFFIXES)}.")
        if self.unread:
            yield from ("", f"Not read: {_few(self.unread)}.")
        yield from self._pictures()
        rows = [row for _, file in self.files for row in file.rows]
        if bare := sum(row.bare for row in rows):
            names = [name for name, file in self.files if any(row.bare for row in file.rows)]
            yield from ("", told_of_bare(bare, sum(row.answers for row in rows), f" ({', '.join(names)})") + ".")
        if self.notes:
            yield from ("", f"Left out, since runs write them: {_few(self.notes)}.")

    def _pictures(self) -> Iterator[str]:
        """Yield how many picture files open, of those that rows name and of those in the folder."""
        looked = [(folder, uri, why) for folder, opened in self.opened.items() for uri, why in opened.items()]
        named = {_file(folder, uri): why for folder, uri, why in looked if "://" not in uri}
        if named:
            lost = [self._name(path) for path, why in named.items() if why]
            told = f"Every picture that rows name opens ({len(named):,})."
            if lost:
                count, fail = len(named) - len(lost), "does" if len(lost) == 1 else "do"
                told = f"{count:,} of the {len(named):,} pictures that rows name {'opens' if count == 1 else 'open'}; "
                told += f"{len(lost):,} {fail} not: {_few(lost)}."
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
        return visible_line(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..")


def main(arguments: Sequence[str]) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser("python -m steer_lit.data.survey", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="every row file and picture in it is read")
    parser.add_argument("--pictures", type=Path, help="where rows' pictures lie, without it beside the row file")
    return carried_out(parser, arguments, _survey)


def _survey(given: argparse.Namespace) -> int:
    root: Path = given.folder
    for folder in (root, given.pictures):
        if folder is not None and not folder.is_dir():
            reason = "is a file: name its folder" if folder.is_file() else "no such folder"
            raise SteerError(f"{folder}: {reason}")
    files = sorted(path for path in root.rglob("*") if path.is_symlink() or path.is_file())
    console, shown = Console(stderr=True), Console(emoji=False)
    if not shown.is_terminal:
        shown.width = _WIDE
    survey = Survey(root, given.pictures)
    survey.read(track(files, "reading", console=console, transient=True, disable=not console.is_terminal))
    shown.print(survey.table())
    print_lines(shown, *survey.lines())
    return 0 if survey.whole else 1


def _read(
    reader: Callable[[object, str, int], Dialogue | Scenario], value: object, path: Path, number: int
) -> tuple[Dialogue | Scenario | None, str]:
    """Return (record, ""), or (None, the reason)."""
    if isinstance(value, BadRow):
        return None, value.reason
    try:
        return reader(value, path.name, number), ""
    except RecursionError:
        return None, "is nested too deeply"
    except RowError as error:
        return None, f"{f'`{error.field}`: ' if error.field else ''}{error.reason}"


def _file(folder: Path, uri: str) -> Path:
    """Return where a picture would lie, links followed."""
    try:
        return (folder / uri).resolve()
    except (OSError, ValueError, RuntimeError):  # not a file name
        return folder / uri[:_LONGEST]


def _no_dialogue(row: Found) -> bool:
    """Return whether, by its keys, the row was never meant as a dialogue."""
    return NO_DIALOGUE in row.no_dialogue


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _FEW:,} more" if len(names) > _FEW else ""
    return f"{', '.join(names[:_FEW])}{more}"


if __name__ == "__main__":
    sys.exit(printing(partial(main, sys.argv[1:])))
