"""Rows of a file or of a hub dataset, read one at a time, with the rows that cannot be used put aside.

One bad row must not end a run, and one bad file must not pass for data. A bad row is counted and written to the
quarantine, the rest is used, and past the limit the run stops. A file is first read to its end, so that whoever mends
it learns of all its bad rows at once; a hub dataset is not fetched any further.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from steer_lit.data.files import SUFFIXES, BadRow, file_rows, holds_rows, is_row_file
from steer_lit.data.hub import ADDRESS, FORM, SCHEME, hub_rows
from steer_lit.errors import MissingResource, RowError, TooManyBadRows
from steer_lit.files.atomic import replace_text
from steer_lit.files.lines import as_line
from steer_lit.numbers import and_more, counted, few
from steer_lit.terminal.commands import shown_path
from steer_lit.terminal.nearest import did_you_mean

T = TypeVar("T")
Parse = Callable[[object, str, int], T]  # (row, source, number) -> record, or RowError
_FEW = 5  # reasons shown


class Quarantine:
    """The rows put aside, in `errors`. `settle` writes them to `path`, if there is one, as one JSON object each."""

    def __init__(self, limit: int, path: Path | None = None) -> None:
        self.limit = limit
        self.path = path
        self.errors: list[RowError] = []

    def __len__(self) -> int:
        return len(self.errors)

    def add(self, error: RowError) -> None:
        """Put one row aside."""
        self.errors.append(error.with_traceback(None))  # a traceback would hold on to the row, however large

    def told(self) -> str:
        """Return what to add where rows are counted: how many others were put aside, and why the first was, or ""."""
        found = counted(len(self.errors), "other row")
        return f"; {found} cannot be used, the first: {self.errors[0]}" if self.errors else ""

    def settle(self, *, any_left: bool = True) -> None:
        """Write the rows down, in place of those of an earlier start. Raises TooManyBadRows past the limit, which says
        what to do whether there are `any_left` that are not bad or none.
        """
        if self.path is not None and self.errors:
            replace_text(self.path, "".join(map(_line, self.errors)))
        elif self.path is not None:
            self.path.unlink(missing_ok=True)
        if (count := len(self.errors)) <= self.limit:
            return
        where = f"; {'all are' if count > 1 else 'it is'} in {shown_path(self.path)}" if self.path else ""
        source = self.errors[0].source
        survey = f"`python -m steer_lit.data.survey {shlex.quote(source)}` shows what can be read. "
        remedy = f"Repair the file, or raise data.max_bad_rows to go on without {'them' if count > 1 else 'it'}"
        if not any_left:
            remedy = "No row is left: repair the file, docs/rows.md describes what is read"
        raise TooManyBadRows(
            f"{counted(count, 'row')} cannot be used, data.max_bad_rows={self.limit} allows "
            f"{self.limit}{where}. {'' if is_hub(source) else survey}{remedy}:\n{_by_reason(self.errors)}"
        )


def _by_reason(errors: Sequence[RowError]) -> str:
    """List the first reasons, each by its first row and with the number of others that it holds for."""
    alike: dict[tuple[str, ...], list[RowError]] = {}
    for error in errors:
        field = re.sub(r"\d+", "", error.field)  # `messages.3.content` is that of every message
        alike.setdefault((error.source, field, error.reason), []).append(error)
    told = list(alike.values())[:_FEW]
    lines = [
        f"  * {first}" + (f" ({counted(len(others), 'more row')} likewise)" if others else "")
        for first, *others in told
    ]
    rest = len(errors) - sum(map(len, told))
    return "\n".join([*lines, *([f"  ... {and_more(rest).strip()}"] if rest else [])])


def _line(error: RowError) -> str:
    return as_line({"source": error.source, "row": error.row, "field": error.field, "reason": error.reason})


def read_records(source: Path | str, parse: Parse[T], quarantine: Quarantine, *, check: bool = True) -> Iterator[T]:
    """Yield `parse(row, source, number)` for every row of a file or hub dataset, without those put aside.

    Raises MissingResource if there is no such file or dataset, SteerError if it cannot be read at all, and
    TooManyBadRows past the quarantine's limit: on the hub at once, for a file at its end. With `check` False, a caller
    that may refuse more rows settles the quarantine itself at the end.
    """
    name = str(source)
    if problem := source_problem(name):
        raise MissingResource(f"data {name} {problem}")
    for number, row in hub_rows(name) if is_hub(name) else file_rows(Path(name)):
        try:
            if isinstance(row, BadRow):
                raise RowError(name, number, "", row.reason)
            record = parse(row, name, number)
        except RowError as error:
            quarantine.add(error)
        except RecursionError:
            quarantine.add(RowError(name, number, "", "is nested too deeply"))
        else:
            yield record
            continue
        if is_hub(name) and len(quarantine) > quarantine.limit:
            quarantine.settle()
    if check:
        quarantine.settle()


def is_hub(source: str) -> bool:
    """Return whether a source of rows is an address on the hub and not a file."""
    return source.startswith(SCHEME)


def source_problem(source: str) -> str | None:
    """Return why a file or a hub address cannot be read, as far as can be told without reading it, or None."""
    if is_hub(source):
        return None if ADDRESS.fullmatch(source) else f"is not the address of a hub dataset: {FORM}"
    allowed, path = f"rows are read from {', '.join(SUFFIXES)} files and from {FORM}", Path(source)
    if path.is_dir():
        there = few([str(path / name) for name in _row_files(path)])
        inside = f": name a row file in it, such as {there}" if there else f" without row files; {allowed}"
        return f"is a folder{inside}"
    if not path.is_file():
        meant = _meant_row_file(path)
        return f"is no such file{f'.{meant}' if meant else f'; {allowed}'}"
    return None if is_row_file(path) else f"is not a row file; {allowed}"


def _meant_row_file(path: Path) -> str:
    """Return ` Did you mean ...?` with the row files beside `path` that are spelt like it, or ""."""
    close = difflib.get_close_matches(path.name, _row_files(path.parent), cutoff=0.7)
    return did_you_mean([str(path.parent / name) for name in close])


def _row_files(folder: Path) -> list[str]:
    """Return the names of a folder's row files; none if there is no such folder."""
    return sorted(file.name for file in folder.glob("*") if holds_rows(file))
