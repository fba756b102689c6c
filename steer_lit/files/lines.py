"""JSON Lines files that a run appends to. A kill may leave half a line at the end: readers skip it, and the next writer
cuts it off.

Only a newline ends a line. `splitlines` would also break at U+2028 and the like, which JSON allows inside strings.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
MISREAD = (ValueError, TypeError, LookupError, AttributeError, RecursionError)  # raised by a line of another shape


def as_line(record: object) -> str:
    """Return the record as JSON with a newline. Half a surrogate pair, which has no UTF-8, is escaped as \\udXXX."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace").decode() + "\n"


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Append all the lines, or none if one cannot be made or the disk is full (OSError). The folder may be missing."""
    rest = memoryview("".join(lines).encode())
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:  # closing a buffered file would retry what the disk has refused
        begin = file.tell()
        if begin:
            file.seek(begin - 1)
            if file.read(1) != b"\n":
                with path.open("rb") as buffered:
                    begin = sum(len(line) for line in buffered if line.endswith(b"\n"))
                file.truncate(begin)
        try:
            while rest:  # a disk that fills up accepts a part before it refuses the rest
                rest = rest[file.write(rest) :]
        except OSError:
            file.truncate(begin)
            raise


def whole_lines(path: Path) -> Iterator[str]:
    """Yield the whole lines with their newlines; none if the file is missing. Bytes not in UTF-8 become U+FFFD."""
    if path.exists():
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            yield from (line for line in file if line.endswith("\n"))


def readable(path: Path, read: Callable[[str], T], kind: str) -> Iterator[T]:
    """Yield `read(line)` for each whole line. Lines for which `read` raises MISREAD are left out and counted.

    One warning counts lines that are not JSON, as left by a full disk or an editor. Another counts lines that are no
    `kind`, and quotes the first error.
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


def unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, for `json` to call. Raises ValueError if a key occurs twice: `json` would keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"key {twice!r:.60} occurs twice")
    return found
