"""What can be read of one row file, and why the rest cannot: see `survey.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TypeVar, cast

from steer_lit.data.files import BadRow, file_rows
from steer_lit.data.images import PLACE, broken_pictures
from steer_lit.data.plain import NO_DIALOGUE
from steer_lit.data.shapes import NO_SCENARIO, read_dialogue, read_scenario
from steer_lit.data.sources import Record, bare_answers, content_of, cut_after, pictures_of
from steer_lit.data.unused_keys import UnusedKey, told_of_unused, unused_keys, watched
from steer_lit.digests import digest
from steer_lit.errors import RowError, SteerError
from steer_lit.numbers import counted, few
from steer_lit.types import ImageRef, Kind, Scenario

T = TypeVar("T")
LONGEST = 100  # characters shown of a picture's name, which may be anything
DATA_MAX_TURNS = 10  # data.max_turns in conf/data/, which experiments may lower
_NO_KIND = "none"  # of a row that names none
_KINDS = ("red_team", "obfuscated", "benign", _NO_KIND)
_EVERY = 100  # reasons shown of a file by itself
_REASONS = 6  # shown for one file of several


@dataclass(frozen=True, slots=True)
class Found:
    """One row: why it gives no dialogue and why no scenario ("" if it does), and what it holds if it is not refused."""

    number: int
    no_dialogue: str
    no_scenario: str
    pictures: tuple[str, ...] = ()  # as often as they are shown
    bare_answers: tuple[int, int] = (0, 0)  # answers without an <answer> part, all answers
    turns: int = 0
    kind: str = _NO_KIND
    system: bool = False
    unused: tuple[UnusedKey, ...] = ()
    learned: str = ""  # a digest of what SFT learns from, "" if it is no dialogue
    played: str = ""  # a digest of what GRPO and a benchmark play, "" if it is no scenario

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

    def lines(self, *, alone: bool, learned: set[str], played: set[str]) -> Iterator[str]:
        """Yield what the readable rows hold; then each reason, in the words of its first row, with its rows.

        Of a file that is not surveyed `alone` only the first few reasons, and never thousands. Rows repeat those of
        this file, and those of earlier ones whose digests are in `learned` and `played`, which take in this file's.
        """
        earlier = f"the same as an earlier row{' of these files' if learned or played else ''}"
        yield from (f"  {line}" for line in _held_lines([row for row in self.rows if not row.refused], len(self.rows)))
        unused = Counter(key for row in self.rows for key in row.unused)
        yield from (f"  {line}" for _, line in told_of_unused(unused))
        seen = self.seen
        if again := _repeated(((row.number, row.learned) for row in seen), learned):
            yield f"  {earlier}, answers included, trained on once more by SFT: {_few_rows(again)}"
        if again := _repeated(((row.number, row.played) for row in seen), played):
            yield f"  played {earlier}, benchmarked once, trained on once more by GRPO: {_few_rows(again)}"
        of_reason: dict[tuple[str, str], list[tuple[str, int, str, str]]] = {}
        for fault in self.faults():
            of_reason.setdefault((fault[0], fault[2]), []).append(fault)
        reasons = sorted(of_reason.values(), key=len, reverse=True)
        shown = reasons[: _EVERY if alone else _REASONS]
        for faults in shown:
            uris = list(dict.fromkeys(uri for *_, uri in faults if uri))
            pictures = f"{few([repr(uri[:LONGEST]) for uri in uris])}: " if uris else ""
            sort, _, reason, _ = faults[0]
            yield f"  * {sort}, {_few_rows(number for _, number, _, _ in faults)}: {pictures}{reason}"
        if more := len(reasons) - len(shown):
            where = "" if alone else ", shown if the file is named by itself"
            yield f"  * and {counted(more, 'more reason')}{where}"
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
    value = watched(value)
    dialogue, no_dialogue = _read(read_dialogue, value, path, number)
    scenario, no_scenario = _read(partial(read_scenario, kind=cast(Kind, _NO_KIND)), value, path, number)
    record, played = dialogue or scenario, scenario or dialogue
    if record is None or played is None:
        return Found(number, no_dialogue, no_scenario)
    return Found(
        number,
        no_dialogue,
        no_scenario,
        pictures=tuple(ref.uri for ref in pictures_of(record)),
        bare_answers=bare_answers(dialogue) if dialogue else (0, 0),
        turns=len(played.attacks if isinstance(played, Scenario) else played.turns),
        kind=played.kind or _NO_KIND,
        system=played.system is not None,
        unused=unused_keys(value),
        learned=_content(dialogue),
        played=_content(scenario),
    )


def _content(record: Record | None) -> str:
    """Return a digest of all but the record's id, as far as a run takes it by default; "" for None."""
    return "" if record is None else digest(repr(content_of(cut_after(record, DATA_MAX_TURNS))), 24)


def _repeated(contents: Iterable[tuple[int, str]], known: set[str]) -> list[int]:
    """Return the numbers of rows, given as (number, content), whose content is `known` or an earlier row's, and add
    them to `known`; "" is no content.
    """
    again = []
    for number, content in contents:
        if content in known:
            again.append(number)
        elif content:
            known.add(content)
    return again


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


def _held_lines(rows: Sequence[Found], every: int) -> Iterator[str]:
    """Yield what the readable rows of `every` row hold, a line for each sort of fact; nothing if there are none."""
    if not rows:
        return
    if len(rows) < every:
        yield f"readable: {len(rows):,} of {counted(every, 'row')}; of these:"
    yield _turns([row.turns for row in rows])
    kinds = Counter(row.kind for row in rows)
    named = ", ".join(f"{kinds[kind]:,} {kind}" for kind in _KINDS if kinds[kind])
    yield f"kinds: {named}{' (data.source.kind decides)' if kinds[_NO_KIND] else ''}"
    yield f"system prompt: {_of(sum(row.system for row in rows), len(rows))}"
    pictures = Counter(min(len(row.pictures), 2) for row in rows)
    shown = {"one": pictures[1], "several": pictures[2], "none": pictures[0]}
    yield f"pictures: {', '.join(f'{word} {_of(count, len(rows))}' for word, count in shown.items() if count)}"


def _turns(turns: Sequence[int]) -> str:
    low, high = min(turns), max(turns)
    told = f"turns: {low} in every row" if low == high else f"turns: {low} to {high}, mean {fmean(turns):.1f}"
    long = sum(number > DATA_MAX_TURNS for number in turns)
    return f"{told}; {counted(long, 'row')} cut after {DATA_MAX_TURNS} (data.max_turns)" if long else told


def _of(count: int, rows: int) -> str:
    return "in every row" if count == rows else f"in {counted(count, 'row')}" if count else "in no row"


def _few_rows(numbers: Iterable[int]) -> str:
    """Return text such as `1 row (7)` or `43 rows (3, 7, 12, 13, 20 and 38 more)`."""
    named = list(dict.fromkeys(map(str, numbers)))
    return f"{counted(len(named), 'row')} ({few(named)})"
