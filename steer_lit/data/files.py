"""Local row files, decoded one row at a time: .jsonl, .json, .csv and .parquet.

Rows come numbered from 1 as they stand in the file (JSON Lines: line numbers, blank lines counted; CSV: the header is
not). What is wrong with one row comes out as a `BadRow` in its place; what is wrong with a whole file as a SteerError.
A bad row of CSV that runs over several lines may have taken other rows in, and counts as that many bad rows.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from steer_lit.errors import SteerError

if TYPE_CHECKING:
    from pyarrow import RecordBatch

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_SHOWN = 6
_BATCH = 64  # rows of Parquet held at a time
_UNREADABLE = (ValueError, OverflowError, LookupError, NotImplementedError)  # cells: the third is an unknown time zone
_LONGEST_CELL = 2**31 - 1  # characters: as many as `csv` takes on every system


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be decoded, and why."""

    reason: str


def file_rows(path: Path) -> Iterator[tuple[int, object]]:
    """(number, row) for each row of the file. Raises SteerError where it cannot be read at all."""
    readers = {".jsonl": _lines, ".json": _json_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}
    return readers[path.suffix](path)


def _lines(path: Path) -> Iterator[tuple[int, object]]:
    """The lines of a JSON Lines file, decoded one by one.

    Not through Arrow's JSON reader: that one settles on one type per column, so a `content` that is a string in one
    row and a list in the next ends the file, and its errors do not say which row it was.
    """
    with path.open("rb") as file:  # as bytes: only a newline ends a line, and a broken character is one bad row
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield number, _decoded(line)


def _object(pairs: list[tuple[str, object]]) -> object:
    """The object, or a BadRow in its place where it has a key twice, or where anything in it does: JSON leaves open
    which of the two counts, and a reader keeps the last.
    """
    if len(made := dict(pairs)) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return BadRow(f"key {twice!r:.60} stands twice in one object: remove one of them")
    return next(filter(None, map(_bad, made.values())), made)


def _bad(value: object) -> BadRow | None:
    """The BadRow that a value is, or that is in a list."""
    if isinstance(value, list):
        return next(filter(None, map(_bad, value)), None)
    return value if isinstance(value, BadRow) else None


_decode = json.JSONDecoder(object_pairs_hook=_object).decode


def _decoded(line: bytes) -> object:
    try:
        value = _decode(line.decode())
    except (ValueError, RecursionError) as error:
        return BadRow(f"is not JSON ({error})")
    return _bad(value) or value


def _json_rows(path: Path) -> Iterator[tuple[int, object]]:
    """The items of an array; lines go by the name of .json too, and so does a file that is one object."""
    try:
        value = _decode(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        if not _opens_with_bracket(path):
            yield from _lines(path)
            return
        raise SteerError(
            f"data file {path} is not a JSON array ({error}): write it again, or use JSON Lines"
        ) from error
    items = value if isinstance(value, list) else [value]
    yield from enumerate((_bad(item) or item for item in items), start=1)


def _csv_rows(path: Path) -> Iterator[tuple[int, object]]:
    """Each record under the names of the header, an empty cell as null. Cells are text: `NA` is text as well."""
    csv.field_size_limit(_LONGEST_CELL)  # past its own limit it goes on at the cell's next line, as if that were a row
    # A byte that is not UTF-8 becomes half of a surrogate pair, which no reader of rows lets through.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        records = csv.reader(file, strict=True)  # else an open quote takes the rest of the file, as if that were right
        try:
            header = next(filter(None, records), [])  # blank lines before it are none
        except csv.Error as error:
            raise SteerError(f"data file {path} has a header that is not CSV ({error})") from error
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
            # A quote left open takes whole rows. How many is not known, but no more than lines.
            yield number, BadRow(reason)
            last = number + records.line_num - before
            yield from ((lost, BadRow(f"belongs to what begins at row {number}")) for lost in range(number + 1, last))
            number = last


def _parquet_rows(path: Path) -> Iterator[tuple[int, object]]:
    """Pictures inside the rows come as the bytes they are: nothing has bounded their size yet."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            _check_names(path, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(_BATCH):
                for row in _batch_rows(batch):
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, ValueError, OverflowError, OSError) as error:
        raise SteerError(f"data file {path} cannot be read as Parquet ({error}): fetch or write it again") from error


def _batch_rows(batch: RecordBatch) -> Sequence[object]:
    """The rows of a batch; where one cannot be made Python's, such as for a time past the year 9999, that one alone is
    bad. A time that no reader looks at is left out.
    """
    from pyarrow.types import is_temporal

    try:
        return batch.to_pylist()
    except _UNREADABLE:
        read = [
            name for name, kind in zip(batch.schema.names, batch.schema.types, strict=True) if not is_temporal(kind)
        ]
    rows: list[object] = []
    for at in range(len(batch)):
        try:
            rows += batch.select(read).slice(at, 1).to_pylist()
        except _UNREADABLE as error:
            rows.append(BadRow(f"holds a value that cannot be read ({error})"))
    return rows


def _check_names(path: Path, names: Sequence[str]) -> None:
    """Raises SteerError where two columns have one name: a row would keep the last one's cell alone."""
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice:
        shown = ", ".join(f"{name!r:.60}" for name in twice[:_SHOWN])
        raise SteerError(f"data file {path} has more than one column named {shown}: rename or remove the others")


def _opens_with_bracket(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
