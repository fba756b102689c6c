"""What can be read of one row file, and why the rest cannot: see `survey.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from steer_lit.data.files import BadRow, file_rows
from steer_lit.data.images import PLACE, broken_pictures
from steer_lit.data.plain import NO_DIALOGUE
from steer_lit.data.shapes import NO_SCENARIO, read_dialogue, read_scenario, told_of_unknown, unknown_keys
from steer_lit.data.sources import bare_answers, content_of, pictures_of, told_of_bare
from steer_lit.digests import digest
from steer_lit.errors import RowError, SteerError
from steer_lit.numbers import counted, few
from steer_lit.types import ImageRef

T = TypeVar("T")
_LONGEST = 100  # characters shown of a picture's name, which may be anything
_REASONS = 12  # shown of a file


@dataclass(frozen=True, slots=True)
class Found:
    """One row: why it gives no dialogue and why no scenario ("" if it does), and what it holds if it is not refused."""

    number: int
    no_dialogue: str
    no_scenario: str
    pictures: tuple[str, ...] = ()
    bare_answers: tuple[int, int] = (0, 0)  # answers without an <answer> part, all answers
    unknown: Sequence[str] = ()  # keys
    content: str = ""  # a digest of what is learned from, or of what is played if it is no dialogue

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
    def seen(self) -> list[Found]:
        """The rows whose pictures open, if they show any."""
        return [row for row in self.rows if not any(self.pictures[uri] for uri in row.pictures)]

    @property
    def whole(self) -> bool:
        whole = len(self.seen) == len(self.rows) and not any(row.refused for row in self.rows)
        return bool(self.rows) and whole and not self.ended

    def counts(self) -> tuple[int, ...]:
        """Return the numbers of all rows, rows for SFT, playable, refused, and with a broken picture.

        Rows with a broken picture are neither for SFT nor playable.
        """
        seen = self.seen
        learned, played = sum(not row.no_dialogue for row in seen), sum(not row.no_scenario for row in seen)
        return len(self.rows), learned, played, sum(row.refused for row in self.rows), len(self.rows) - len(seen)

    def faults(self) -> Iterator[tuple[str, int, str, str]]:
        """Yield (sort, row, reason, picture) for each fault.

        A row to play without the keys of a dialogue is at fault only if its file has dialogues.
        """
        learned = any(not row.no_dialogue for row in self.rows)
        for row in self.rows:
            broken = [uri for uri in row.pictures if self.pictures[uri]]
            yield from (("picture missing", row.number, self.pictures[uri], uri) for uri in broken)
            if row.refused:  # by the reader that its keys call for, or by both
                reason = row.no_scenario.replace(NO_SCENARIO, "is nothing to learn from or to play")
                yield "refused", row.number, reason if _no_dialogue(row) else row.no_dialogue, ""
            elif row.no_dialogue and (learned or not _no_dialogue(row)):
                yield "not for SFT", row.number, row.no_dialogue, ""
            elif row.no_scenario:
                yield "not playable", row.number, row.no_scenario, ""

    def lines(self) -> Iterator[str]:
        """Yield what a run would warn of; then the most frequent reasons, each in the words of its first row."""
        if unknown := Counter(key for row in self.rows for key in row.unknown):
            yield f"  {told_of_unknown(unknown)}"
        if again := _repeated(self.seen):
            yield f"  the same as an earlier row, whatever its id: {_few_rows(again)}"
        if bare := sum(row.bare_answers[0] for row in self.rows):
            yield f"  {told_of_bare(bare, sum(row.bare_answers[1] for row in self.rows))}"
        of_reason: dict[tuple[str, str], list[tuple[int, str]]] = {}
        for sort, number, reason, uri in self.faults():
            of_reason.setdefault((sort, reason), []).append((number, uri))
        reasons = sorted(of_reason.items(), key=lambda found: len(found[1]), reverse=True)
        for (sort, reason), rows in reasons[:_REASONS]:
            uris = list(dict.fromkeys(uri for _, uri in rows if uri))
            pictures = f"{few([repr(uri[:_LONGEST]) for uri in uris])}: " if uris else ""
            yield f"  * {sort}, {_few_rows(number for number, _ in rows)}: {pictures}{reason}"
        if (more := len(reasons) - _REASONS) > 0:
            yield f"  * and {counted(more, 'more reason')}"
        if not self.rows and not self.ended:
            yield "  * holds no row: a run refuses it"
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
            found.append(_found(value, path, number))
    except (SteerError, OSError) as error:
        ended = str(error).replace(str(path), path.name)
    new = {uri: ImageRef(uri) for row in found for uri in row.pictures if uri not in opened}
    broken, place = broken_pictures(new.values(), folder), str(folder.resolve())
    for uri, ref in new.items():
        reason = broken[ref].reason if ref in broken else ""
        opened[uri] = reason.replace(place, "the folder of its pictures").removesuffix(f" ({PLACE})")
    return Surveyed(found, ended, opened)


def _found(value: object, path: Path, number: int) -> Found:
    dialogue, no_dialogue = _read(read_dialogue, value, path, number)
    scenario, no_scenario = _read(read_scenario, value, path, number)
    if (record := dialogue or scenario) is None:
        return Found(number, no_dialogue, no_scenario)
    return Found(
        number,
        no_dialogue,
        no_scenario,
        pictures=tuple(ref.uri for ref in pictures_of(record)),
        bare_answers=bare_answers(dialogue) if dialogue else (0, 0),
        unknown=unknown_keys(value),
        content=digest(repr(content_of(record)), 24),
    )


def _repeated(rows: Iterable[Found]) -> list[int]:
    """Return the numbers of rows with the content of an earlier one; refused rows have none."""
    first: dict[str, int] = {}
    return [row.number for row in rows if row.content and first.setdefault(row.content, row.number) != row.number]


def _read(reader: Callable[[object, str, int], T], value: object, path: Path, number: int) -> tuple[T | None, str]:
    """Return (record, ""), or (None, the reason)."""
    if isinstance(value, BadRow):
        return None, value.reason
    try:
        return reader(value, path.name, number), ""
    except RecursionError:
        return None, "is nested too deeply"
    except RowError as error:
        return None, f"{f'`{error.field}`: ' if error.field else ''}{error.reason}"


def _no_dialogue(row: Found) -> bool:
    """Return whether, by its keys, the row was never meant as a dialogue."""
    return NO_DIALOGUE in row.no_dialogue


def _few_rows(numbers: Iterable[int]) -> str:
    """Return text such as `1 row (7)` or `43 rows (3, 7, 12, 13, 20 and 38 more)`."""
    named = list(dict.fromkeys(map(str, numbers)))
    return f"{counted(len(named), 'row')} ({few(named)})"
