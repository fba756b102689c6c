"""Local row files, decoded one row at a time: .jsonl, .json, .csv and .parquet.

Rows are numbered from 1 in file order (JSON Lines: by line, blank lines counted; CSV: without the header). A fault in
one row yields a `BadRow` in its place; a fault of a whole file raises SteerError. A bad CSV row that spans several
lines may have swallowed other rows, and counts as that many bad rows.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from steer_lit.errors import SteerError
from steer_lit.files.lines import unique_keys
from steer_lit.files.run_files import NOTES

if TYPE_CHECKING:
    from pyarrow import Array, ChunkedArray, DataType, RecordBatch, Table

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
ONE_A_LINE = "a .jsonl file has one row a line; a file that holds one list or object is named .json"
_SHOWN = 6
_BATCH = 64  # rows of Parquet held at a time
# LookupError: an unknown time zone. TypeError: a map whose keys cannot be those of an object.
_UNREADABLE = (ValueError, OverflowError, LookupError, NotImplementedError, TypeError)
_LONGEST_CELL = 2**31 - 1  # characters: the most that `csv` accepts on every system


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be decoded, and why."""

    reason: str


def is_row_file(path: Path) -> bool:
    """Return whether rows are read from a file of this name."""
    return path.suffix.lower() in SUFFIXES


def holds_rows(path: Path) -> bool:
    """Return whether it is a row file, and not one that runs and conversions write beside rows."""
    return is_row_file(path) and not any(fnmatchcase(path.name, name) for name in NOTES)


def file_rows(path: Path) -> Iterator[tuple[int, object]]:
    """Yield (number, row) for each row of the file. Raises SteerError if the file cannot be read at all."""
    readers = {".jsonl": _lines, ".json": _json_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}
    return readers[path.suffix.lower()](path)


def _lines(path: Path) -> Iterator[tuple[int, object]]:
    """Yield the lines of a JSON Lines file, decoded one by one.

    Arrow's JSON reader is not used: it settles on one type per column, so a `content` that is a string in one row and
    a list in the next ends the file, and its errors do not name the row.
    """
    if _opens(path, rb"[\[{]\s*\n"):
        raise SteerError(f"data file {path} begins a list or an object of several lines: {ONE_A_LINE}")
    with path.open("rb") as file:  # as bytes: only a newline ends a line, and a broken character is one bad row
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield number, _decoded(line)


_JSON = json.JSONDecoder(object_pairs_hook=unique_keys)


def _decoded(line: bytes) -> object:
    try:
        return _JSON.decode(line.decode())
    except (ValueError, RecursionError) as error:
        return BadRow(f"cannot be read as JSON ({error})")


def _json_rows(path: Path) -> Iterator[tuple[int, object]]:
    """Yield the items of an array. JSON Lines named .json are read as well, and so is a file of one object."""
    try:
        value = _JSON.decode(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        if not _opens(path, rb"\[|\{\s*\n"):
            yield from _lines(path)
            return
        why = f"cannot be read as a JSON array or object ({error}): write it again, or use JSON Lines"
        raise SteerError(f"data file {path} {why}") from error
    yield from enumerate(value if isinstance(value, list) else [value], start=1)


def _csv_rows(path: Path) -> Iterator[tuple[int, object]]:
    """Yield each record under the names of the header, empty cells as None. All other cells are text, even `NA`."""
    csv.field_size_limit(_LONGEST_CELL)  # past its default limit `csv` goes on at the cell's next line as if at a row
    # A byte that is not UTF-8 becomes half of a surrogate pair, which no reader of rows lets through.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        records = csv.reader(file, strict=True)  # else an open quote silently swallows the rest of the file
        try:
            header = next(filter(None, records), [])  # blank lines may come before it
        except csv.Error as error:
            raise SteerError(f"data file {path} has a header that is not CSV ({error})") from error
        if len(header) == 1 and (other := re.search("[;\t]", header[0])):
            raise SteerError(f"data file {path} has {other[0]!r} between its names: cells are separated by commas")
        _check_names(path, header)
        number = 1
        while True:
            before = records.line_num
            try:
                cells = next(records)
            except StopIteration:
                return
            except csv.Error as error:
                reason = f"is not CSV ({error}): look for a quote that is not closed, or not doubled"
            else:
                if not cells:  # a blank line
                    continue
                if len(cells) == len(header):
                    yield number, {name: cell or None for name, cell in zip(header, cells, strict=True)}
                    number += 1
                    continue
                reason = f"has {len(cells)} cells under a header of {len(header)}"
            # An open quote swallows whole rows. Their number is unknown, but no more than that of the lines.
            yield number, BadRow(reason)
            last = number + records.line_num - before
            yield from ((lost, BadRow(f"belongs to what begins at row {number}")) for lost in range(number + 1, last))
            number = last


def _parquet_rows(path: Path) -> Iterator[tuple[int, object]]:
    """Yield the rows, with embedded pictures as raw bytes: nothing has bounded their size yet."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            _check_names(path, file.schema_arrow.names)
            batches = file.iter_batches(_BATCH)
            yield from enumerate((row for batch in batches for row in arrow_rows(batch)), start=1)
    except (pyarrow.ArrowException, ValueError, OverflowError, OSError) as error:
        raise SteerError(f"data file {path} cannot be read as Parquet ({error}): fetch or write it again") from error


def arrow_rows(table: Table | RecordBatch) -> Iterator[object]:
    """Yield the rows as Python values. One with a value that has no Python form becomes a BadRow.

    Times and decimals become text, as Arrow prints them: JSON has none, and Python cannot hold some, such as the year
    10000. A map becomes an object, whose keys are text if they were numbers.
    """
    plain = type(table).from_arrays(list(map(_in_json_types, table.columns)), table.schema.names)
    try:
        yield from plain.to_pylist(maps_as_pydicts="strict")
    except _UNREADABLE as error:
        if len(table) == 1:
            yield BadRow(f"holds a value that cannot be read ({error})")
            return
        for at in range(len(table)):
            yield from arrow_rows(table.slice(at, 1))


def _in_json_types(column: Array | ChunkedArray) -> Array | ChunkedArray:
    import pyarrow
    from pyarrow import types

    def in_utc(kind: DataType) -> DataType:  # in any zone, known here or not, a time counts from the same instant
        if types.is_null(kind):  # Arrow's casts make lists of nulls alone too short
            return pyarrow.string()
        return pyarrow.timestamp(kind.unit, "UTC") if types.is_timestamp(kind) and kind.tz else kind

    def as_text(kind: DataType) -> DataType:
        return pyarrow.string() if types.is_temporal(kind) or types.is_decimal(kind) else kind

    def nested(kind: DataType, change: Callable[[DataType], DataType]) -> DataType:
        if types.is_struct(kind):
            return pyarrow.struct([field.with_type(nested(field.type, change)) for field in kind])
        if types.is_map(kind):
            named = pyarrow.string() if types.is_integer(kind.key_type) else nested(kind.key_type, change)
            return pyarrow.map_(named, nested(kind.item_type, change))
        if types.is_list_view(kind) or types.is_large_list_view(kind):
            return kind  # Arrow 26 casts these to lists with the wrong items: their times stay times
        return pyarrow.list_(nested(kind.value_type, change)) if types.is_nested(kind) else change(kind)

    for change in (in_utc, as_text):
        if (kind := nested(column.type, change)) != column.type:
            column = column.cast(kind)
    return column


def _check_names(path: Path, names: Sequence[str]) -> None:
    """Raise SteerError if two columns share a name: a row would keep only the last one's cell."""
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice:
        shown = ", ".join(f"{name!r:.60}" for name in twice[:_SHOWN])
        raise SteerError(f"data file {path} has more than one column named {shown}: rename or remove the others")


def _opens(path: Path, pattern: bytes) -> bool:
    with path.open("rb") as file:
        return re.match(pattern, file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()) is not None
