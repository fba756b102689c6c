"""JSON Lines files that a run adds to as it goes. A kill may leave half a line at the end: no reader takes it for one,
and the next writer cuts it off.

Only a newline ends a line. `splitlines` also breaks at U+2028 and its like, which JSON leaves inside strings.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
MISREAD = (ValueError, TypeError, LookupError, AttributeError, RecursionError)  # what a line of another shape raises


def as_line(record: object) -> str:
    """The record with its newline. Half a surrogate pair, which has no UTF-8, is written as \\udXXX: JSON as well."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace").decode() + "\n"


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Add the lines to the file, which is made with its folder where there is none: all of them, or none where one
    cannot be made or the disk is full, which raises OSError.
    """
    rest = memoryview("".join(lines).encode())
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:  # closing a buffer would write again what the disk has refused
        begin = file.tell()
        if begin:
            file.seek(begin - 1)
            if file.read(1) != b"\n":
                begin = _end_of_whole_lines(path)
                file.truncate(begin)
        try:
            while rest:  # a disk that fills up takes a part before it refuses the rest
                rest = rest[file.write(rest) :]
        except OSError:
            file.truncate(begin)
            raise


def _end_of_whole_lines(path: Path) -> int:
    """Measure the file up to the end of its last whole line, in bytes."""
    with path.open("rb") as file:
        return sum(len(line) for line in file if line.endswith(b"\n"))


def whole_lines(path: Path) -> Iterator[str]:
    """The lines with their newlines; none where there is no file. What is not UTF-8 becomes U+FFFD."""
    if path.exists():
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            yield from (line for line in file if line.endswith("\n"))


def readable(path: Path, read: Callable[[str], T], kind: str) -> Iterator[T]:
    """Yield `read(line)` for each line. Those that it raises MISREAD for are left out and counted in warnings: one for
    lines that are no JSON, which a full disk or an editor left, one for those that are no `kind`, the first named.
    """
    lines = damaged = misfits = 0
    first = ""
    for line in whole_lines(path):
        lines += 1
        try:
            row = read(line)
        except (json.JSONDecodeError, RecursionError):
            damaged += 1
        except MISREAD as error:
            misfits += 1
            first = first or f"line {lines}: {error}"
        else:
            yield row
    if damaged:
        log.warning("%s: %d of %d lines are no JSON and are left out", path, damaged, lines)
    if misfits:
        log.warning("%s: %d of %d lines are no %s and are left out, such as %s", path, misfits, lines, kind, first)
