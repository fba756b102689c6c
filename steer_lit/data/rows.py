"""Local files of rows, read one row at a time, with the rows that cannot be used put aside.

One bad row must not end a run, and one bad file must not pass for data: a bad row is counted and written to the
quarantine, the rest is used, and past the limit the run stops. Rows are numbered from 1 as they stand in the file
(for JSON Lines: line numbers, blank lines counted).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from glob import escape
from pathlib import Path
from typing import TypeVar

from steer_lit.errors import MissingResource, RowError, SteerError, TooManyBadRows

T = TypeVar("T")
Parse = Callable[[object, str, int], T]  # (row, source, number) -> record, or RowError
_FEW = 5


class Quarantine:
    """The rows put aside: kept in `errors`, and appended to `path`, one JSON object each, where there is one.

    A row that `path` already names, from an earlier start of the same run, is not written again. Adding one row more
    than `limit` raises TooManyBadRows.
    """

    def __init__(self, limit: int, path: Path | None = None) -> None:
        self.limit = limit
        self.path = path
        self.errors: list[RowError] = []
        self._written = set(path.read_text(encoding="utf-8").splitlines()) if path and path.is_file() else set()

    def __len__(self) -> int:
        return len(self.errors)

    def add(self, error: RowError) -> None:
        """Put one row aside. Raises TooManyBadRows past the limit."""
        self.errors.append(error)
        self._write(error)
        if len(self.errors) > self.limit:
            shown = "\n".join(f"  * {bad}" for bad in self.errors[:_FEW])
            more = f"\n  ... and {len(self.errors) - _FEW} more" if len(self.errors) > _FEW else ""
            where = f"; all are in {self.path}" if self.path else ""
            raise TooManyBadRows(
                f"{len(self.errors)} rows cannot be used, data.max_bad_rows={self.limit} allows {self.limit}{where}. "
                f"Repair the file, or raise data.max_bad_rows to go on without them:\n{shown}{more}"
            )

    def _write(self, error: RowError) -> None:
        if self.path is None:
            return
        entry = {"source": error.source, "row": error.row, "field": error.field, "reason": error.reason}
        line = json.dumps(entry)  # ASCII, so that no broken text can break the quarantine as well
        if line not in self._written:
            self._written.add(line)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def read_records(path: Path, parse: Parse[T], quarantine: Quarantine) -> Iterator[T]:
    """`parse(row, source, number)` of every row of a .jsonl, .json or .parquet file, without those put aside.

    Raises MissingResource where there is no such file, SteerError where a .json array or .parquet file cannot be read
    at all, TooManyBadRows past the quarantine's limit.
    """
    if not path.is_file():
        raise MissingResource(f"data file {path} does not exist; rows are read from .jsonl, .json and .parquet files")
    if "::" in str(path):
        raise SteerError(
            f"data file {path}: `datasets` takes :: for a chain of archives and would read nothing; rename it"
        )
    if path.suffix == ".parquet":
        rows = _parquet_rows(path)
    elif path.suffix in (".jsonl", ".json"):
        rows = _array_rows(path) if path.suffix == ".json" and _opens_with_bracket(path) else _lines(path)
    else:
        raise SteerError(f"data file {path}: rows are read from .jsonl, .json and .parquet files")
    source = str(path)
    for number, row in rows:
        try:
            if isinstance(row, _BadLine):
                raise RowError(source, number, "", row.reason)
            record = parse(row, source, number)
        except RowError as error:
            quarantine.add(error)
        else:
            yield record


class _BadLine:
    """A line that is no JSON, and why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def _lines(path: Path) -> Iterator[tuple[int, object]]:
    """The lines of a JSON Lines file, decoded one by one.

    Read as text, not through Arrow's JSON reader: that one settles on one type per column, so a `content` that is a
    string in one row and a list in the next ends the file, and its errors do not say which row it was.
    """
    from datasets import load_dataset

    lines = load_dataset(
        "text",
        data_files={"train": [escape(str(path))]},
        split="train",
        streaming=True,
        encoding="utf-8-sig",
        # A byte that is not UTF-8 becomes `\xNN`, which JSON does not know: that line is bad, and only that line.
        encoding_errors="backslashreplace",
    )
    for number, line in enumerate(lines, start=1):
        text = line["text"]
        if not text.strip():
            continue
        try:
            yield number, json.loads(text)
        except (ValueError, RecursionError) as error:
            yield number, _BadLine(f"is not JSON ({error})")


def _array_rows(path: Path) -> Iterator[tuple[int, object]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise SteerError(
            f"data file {path} is not a JSON array ({error}): write it again, or use JSON Lines"
        ) from error
    yield from enumerate(rows, start=1)


def _parquet_rows(path: Path) -> Iterator[tuple[int, object]]:
    from datasets import load_dataset

    try:
        rows = load_dataset("parquet", data_files={"train": [escape(str(path))]}, split="train", streaming=True)
        # Pictures inside Parquet would be decoded here, before anything bounds their size.
        yield from enumerate(rows.decode(False), start=1)
    except (ValueError, OSError) as error:
        raise SteerError(f"data file {path} cannot be read as Parquet ({error}): fetch or write it again") from error


def _opens_with_bracket(path: Path) -> bool:
    """Whether the file is one JSON array: both kinds go by the name of .json."""
    with path.open("rb") as file:
        return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
