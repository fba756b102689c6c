"""Reports what can be read of row files, or of every file in a folder, before a run depends on it.

    python -m steer_lit.data.survey /data/steer
    python -m steer_lit.data.survey /data/steer/sft.jsonl
    python -m steer_lit.data.survey /data/rows --pictures /data/pictures      # as data.source.folder names it

The table: how many rows of each file can be learned from (SFT) and played (GRPO, the benchmark), and how many are of no
use for either: refused, or with a picture that does not open. Under it, for each file: unknown keys, rows that repeat
an earlier one, answers that a policy should not learn from as they are, and the most frequent reasons with the rows
they hold for, each in the words of its first row. The exit code is 1 where a row is of no use, and where a file holds
no row or cannot be read to its end; 2 where there is no row file.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import cast

from steer_lit.data.files import SUFFIXES, holds_rows
from steer_lit.data.plain import NO_DIALOGUE
from steer_lit.data.rows import Quarantine, source_problem
from steer_lit.data.shapes import told_of_unknown
from steer_lit.data.sources import FileSource, bare_answers, content_of, told_of_bare
from steer_lit.errors import RowError, SteerError
from steer_lit.numbers import counted, few
from steer_lit.terminal.stdout import carried_out, printing
from steer_lit.terminal.visible import visible_line
from steer_lit.types import Dialogue

_REASONS = 12  # shown of a file
_PICTURE = re.compile(r"picture (['\"]).*?\1: ")  # rows with different pictures may have the same reason


def survey_rows(path: Path, pictures: Path | None = None) -> tuple[tuple[int, int, int, int], list[str]]:
    """Return (all rows, rows for SFT, playable, of no use) of a file, and what else there is to say of it.

    Pictures are looked up in `pictures`, by default beside the file. All counts are 0 if it cannot be read to its end.
    """
    source = FileSource(sft=str(path), rl=str(path), folder=str(pictures or path.parent))
    aside, learning, playing = Quarantine(sys.maxsize), Counter[str](), Counter[str]()
    try:
        learned, played = dict(source.parsed("sft", aside, learning)), dict(source.parsed("rl", aside, playing))
    except (SteerError, OSError) as error:
        return (0, 0, 0, 0), [f"* cannot be read to its end: {error}"]
    whole = dict(source.with_sound_pictures(list((played | learned).items()), aside))
    rows = len({*whole, *((error.source, error.row) for error in aside.errors)})
    told = [told_of_unknown(unknown)] if (unknown := learning | playing) else []
    first: dict[object, int] = {}
    contents = [(number, content_of(record)) for (_, number), record in whole.items()]
    if again := [number for number, content in contents if first.setdefault(content, number) != number]:
        told.append(f"the same as an earlier row, whatever its id: {_few_rows(again)}")
    answers = [bare_answers(cast(Dialogue, record)) for record in learned.values()]
    if bare := sum(count for count, _ in answers):
        told.append(told_of_bare(bare, sum(count for _, count in answers)))
    told += _reasons([error for error in aside.errors if learned or NO_DIALOGUE not in error.reason])
    usable = (len(learned.keys() & whole), len(played.keys() & whole))
    return (rows, *usable, rows - len(whole)), told if rows else ["* holds no row: a run refuses it"]


def _reasons(errors: Iterable[RowError]) -> list[str]:
    found: dict[object, dict[int, RowError]] = {}  # by the reason, whatever the pictures' names
    for error in errors:
        alike = frozenset(_PICTURE.sub("", error.reason).split("; "))
        found.setdefault(alike, {}).setdefault(error.row, error)
    told = []
    for rows in sorted(found.values(), key=len, reverse=True)[:_REASONS]:
        error = next(iter(rows.values()))
        told.append(f"* {_few_rows(rows)}: {f'`{error.field}`: ' if error.field else ''}{error.reason}")
    return told + ([f"* and {counted(more, 'more reason')}"] if (more := len(found) - _REASONS) > 0 else [])


def _few_rows(numbers: Iterable[int]) -> str:
    """Return text such as `1 row (7)` or `43 rows (3, 7, 12, 13, 20 and 38 more)`."""
    named = list(map(str, numbers))
    return f"{counted(len(named), 'row')} ({few(named)})"


def main(arguments: Sequence[str]) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser("python -m steer_lit.data.survey", description=(__doc__ or "").split("\n")[0])
    said = "a row file, or a folder, of which every row file is read"
    parser.add_argument("rows", type=Path, nargs="+", help=said)
    parser.add_argument("--pictures", type=Path, help="where rows' pictures lie, without it beside the row file")
    return carried_out(parser, arguments, _survey)


def _survey(given: argparse.Namespace) -> int:
    if (pictures := given.pictures) is not None and not pictures.is_dir():
        raise SteerError(f"{pictures}: {'is a file: name its folder' if pictures.is_file() else 'no such folder'}")
    for rows in given.rows:
        if not rows.is_dir() and (problem := source_problem(str(rows))):
            raise SteerError(f"{rows}: {problem}")
    files = [path for rows in given.rows for path in (_files(rows) if rows.is_dir() else [rows])]
    if not files:
        raise SteerError(f"{few(list(map(str, given.rows)))}: no row file is here: {', '.join(SUFFIXES)}")
    root = os.path.commonpath([rows.absolute() if rows.is_dir() else rows.absolute().parent for rows in given.rows])
    found = {visible_line(os.path.relpath(path.absolute(), root)): survey_rows(path, pictures) for path in files}
    wide = max(map(len, found))
    print(f"{'file':<{wide}}     rows      SFT playable   no use")
    for name, (counts, _) in found.items():
        print(f"{name:<{wide}}", *(f"{count:>8,}" for count in counts))
    for name, (_, told) in found.items():
        if told:
            print(f"\n{name}:", *(f"  {visible_line(line)}" for line in told), sep="\n")
    return int(any(rows == 0 or useless for (rows, _, _, useless), _ in found.values()))


def _files(folder: Path) -> list[Path]:
    """Return the folder's row files, and its links to folders, which are not followed but reported."""
    return sorted(path for path in folder.rglob("*") if holds_rows(path) or (path.is_symlink() and path.is_dir()))


if __name__ == "__main__":
    sys.exit(printing(partial(main, sys.argv[1:])))
