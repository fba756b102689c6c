"""Where rows come from: STEER-mini, made on the fly, or row files.

There are five splits: "sft" has the dialogues that SFT learns from, "rl" and "bench" the scenarios that GRPO and the
benchmark play, "captions" the dialogues that teach a fresh vision tower to see, "primer" the dialogues that pretrain a
small model from nothing. `block` is the number of consecutive rows that belong together, `image_root` the only folder
that pictures are read from.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal, cast

from rich.console import Console

from steer_lit.answer_format import has_answer
from steer_lit.data.images import blank, broken_pictures, original
from steer_lit.data.mini import MiniSplit, caption_row
from steer_lit.data.mini_primer import primer_row
from steer_lit.data.rows import Quarantine, is_hub, read_records
from steer_lit.data.shapes import read_dialogue, read_scenario, told_of_unknown, unknown_keys
from steer_lit.digests import digest
from steer_lit.errors import ConfigError, Problem, RowError, SteerError
from steer_lit.numbers import counted, few
from steer_lit.ranks import first_rank
from steer_lit.stages import TaughtSplit
from steer_lit.terminal.bars import running_count
from steer_lit.types import Dialogue, ImageRef, Kind, Message, Scenario

log = logging.getLogger(__name__)

Record = Dialogue | Scenario
SourceSplit = Literal[TaughtSplit, "bench"]
BenchSplit = Literal["bench", "rl"]
Place = tuple[str, int]  # a row's file, and its number there
Placed = tuple[Place, Record]
Unfit = Callable[[Record], str | None]  # why a row of good shape and pictures cannot be used, or None


@dataclass(frozen=True, slots=True)
class MadeRows:
    """`size` rows, each made when it is asked for."""

    make: Callable[[int], Record]
    size: int

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, number: int, /) -> Record:
        if not 0 <= number < self.size:
            raise IndexError(f"row {number} of {self.size}")
        return self.make(number)


Rows = list[Record] | MadeRows  # rows of a file are held, made rows are made one by one


@dataclass(frozen=True, slots=True)
class MiniSource:
    """STEER-mini: `scale` times the named numbers of rows, of `mean_turns` turns (None: the paper's mean of the split).

    `seed` determines the rows. It is not the run's seed, so that runs with different seeds meet the same benchmark.
    """

    makes_rows: ClassVar[bool] = True
    block: ClassVar[int] = 10  # MiniSplit balances the kinds over 10 rows, and twins lie within them
    image_root: ClassVar[Path | None] = None

    sft: int
    rl: int
    bench: int
    captions: int
    primer: int
    scale: float = 1.0
    mean_turns: float | None = None
    seed: int = 0

    def size(self, split: SourceSplit) -> int:
        """Return the number of the split's rows, at least 1."""
        return max(1, round(getattr(self, split) * self.scale))

    def rows(self, split: SourceSplit, max_turns: int) -> Rows:
        """Return the split's rows, of at most `max_turns` turns. Raises ConfigError if `mean_turns` is out of reach."""
        size = self.size(split)
        if split == "captions":
            return MadeRows(partial(caption_row, self.seed), size)
        if split == "primer":
            return MadeRows(partial(primer_row, self.seed), size)
        if self.mean_turns is not None and not 2 <= self.mean_turns <= max_turns:
            remedy = f"must lie in 2..{max_turns}; dialogues have at most data.max_turns={max_turns}"
            raise ConfigError([Problem("data.source.mean_turns", self.mean_turns, remedy)])
        made = MiniSplit(split, self.seed, size, self.mean_turns, max_turns=max_turns)
        return MadeRows(made.dialogue if split == "sft" else made.scenario, size)


@dataclass(frozen=True, slots=True)
class FileSource:
    """Row files in any shape that `shapes.py` knows, or datasets on the hub (hf://owner/name), or None.

    A list of files gives the rows of the first, then those of the next. `folder` is where pictures are looked up; None
    means the folder that holds the row files. A scenario whose row names no kind gets `kind`; the default is the
    strictest.
    """

    block: ClassVar[int] = 1

    sft: str | Sequence[str] | None = None
    rl: str | Sequence[str] | None = None
    bench: str | Sequence[str] | None = None
    folder: str | None = None
    kind: Kind = "red_team"

    @property
    def image_root(self) -> Path | None:
        """The only folder that pictures are read from; None if all rows come from the hub.

        Raises ConfigError if no folder is named and the row files lie in different ones.
        """
        if self.folder is not None:
            return Path(self.folder)
        named = [file for split in (self.sft, self.rl, self.bench) for file in files_named(split) if not is_hub(file)]
        folders = list(dict.fromkeys(Path(file).parent for file in named))
        if len(folders) > 1:
            shown = few([str(folder) for folder in folders])
            remedy = f"name the folder of the pictures: the row files lie in different folders ({shown})"
            raise ConfigError([Problem("data.source.folder", None, remedy)])
        return folders[0] if folders else None

    def read(self, split: SourceSplit, max_turns: int, quarantine: Quarantine) -> list[Placed]:
        """Return (place, record) of each row that has a known shape and sound pictures, cut after `max_turns` turns.

        Every picture is decoded once before training starts: a broken one costs its rows, not the run. Raises
        TooManyBadRows, or SteerError if no row of a file is left, once all faults that need no policy are known.
        """
        read: list[Placed] = []
        cut, unknown = Counter[str](), Counter[str]()
        with running_count(Console(stderr=True, quiet=not first_rank()), "rows read") as one_read:
            for place, record in self.parsed(split, quarantine, unknown):
                one_read()
                read.append((place, short := cut_after(record, max_turns)))
                cut[place[0]] += short is not record
        if first_rank():
            for file, count in (+cut).items():
                log.info("%s: %s cut after %s (max_turns)", file, counted(count, "row"), counted(max_turns, "turn"))
            if unknown:
                log.warning("data.source.%s: %s", split, told_of_unknown(unknown))
        whole = self.with_sound_pictures(read, quarantine)
        self._settle(split, whole, quarantine)
        return whole

    def fitting(
        self, split: SourceSplit, read: Sequence[Placed], quarantine: Quarantine, unfit: Unfit | None = None
    ) -> list[Record]:
        """Return the records of rows that were `read`, except those that `unfit` refuses, under ids of their own."""
        fit = _fit(read, unfit, quarantine)
        self._settle(split, fit, quarantine)
        return _under_own_ids(fit)

    def first(
        self,
        count: int,
        max_turns: int,
        quarantine: Quarantine,
        unfit: Unfit | None = None,
        wanted: Callable[[Record], bool] = lambda record: True,
    ) -> list[Scenario]:
        """Return the first `count` usable rows to play that are `wanted`. What lies behind them is not looked at."""
        rows = (
            (place, cut_after(record, max_turns)) for place, record in self.parsed("rl", quarantine) if wanted(record)
        )
        found: list[Placed] = []
        while batch := list(islice(rows, count - len(found))):
            found += self.with_sound_pictures(_fit(batch, unfit, quarantine), quarantine)
        return cast(list[Scenario], self.fitting("rl", found, quarantine))

    def parsed(
        self, split: SourceSplit, quarantine: Quarantine, unknown: Counter[str] | None = None
    ) -> Iterator[Placed]:
        """Yield (place, record) of each row of a known shape, without opening pictures or settling the quarantine.

        `unknown` counts the rows that have each key that no reader asks for.
        """
        scenario = partial(read_scenario, kind=self.kind)
        reader: Callable[[object, str, int], Record] = read_dialogue if split == "sft" else scenario

        def parse(value: object, source: str, number: int) -> Placed:
            record = reader(value, source, number)
            if unknown is not None:
                unknown.update(unknown_keys(value))
            return (source, number), record

        for file in self._files(split):
            yield from read_records(file, parse, quarantine, check=False)

    def with_sound_pictures(self, read: Sequence[Placed], quarantine: Quarantine) -> list[Placed]:
        """Return the (place, record) whose pictures all open; the other rows are put aside, each with one error."""
        broken = broken_pictures({ref for _, record in read for ref in pictures_of(record)}, self.image_root)
        whole = []
        for place, record in read:
            if bad := dict.fromkeys(str(broken[ref]) for ref in pictures_of(record) if ref in broken):
                quarantine.add(RowError(*place, "images", "; ".join(bad)))
            else:
                whole.append((place, record))
        return whole

    def _settle(self, split: SourceSplit, left: Sequence[Placed], quarantine: Quarantine) -> None:
        """Settle the quarantine. Raises TooManyBadRows, and SteerError if a file has no row `left`."""
        quarantine.settle(any_left=bool(left))
        found = {file for (file, _), _ in left}
        for file in self._files(split):
            if file not in found:
                bad = [error for error in quarantine.errors if error.source == file]
                first = f"; the first: {bad[0]}" if bad else ""
                raise SteerError(f"data file {file} holds no usable row, {len(bad)} were put aside{first}")

    def _files(self, split: SourceSplit) -> list[str]:
        made = split in ("captions", "primer")
        files = [] if made else files_named(getattr(self, split))
        if not files:
            remedy = f"row files hold no {split}: use data=steer_mini" if made else "name a row file"
            raise ConfigError([Problem(f"data.source.{split}", None, remedy)])
        return files


def files_named(value: str | Sequence[str] | None) -> list[str]:
    """Return the row files that a config's key names: one, several or none."""
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def pictures_of(record: Record) -> Iterator[ImageRef]:
    """Return the record's pictures in the order they are shown."""
    return (ref for message in _messages(record) for ref in message.images)


def asked_digests(record: Record) -> list[str]:
    """Return digests of what the user says and shows up to each turn, which SFT and GRPO read alike from a row.

    White pictures count as those that they stand for.
    """
    users = [message for message in _messages(record) if message.role == "user"]
    asked = [(message.text, tuple(map(original, message.images))) for message in users]
    return [digest(repr(asked[: turn + 1]), 16) for turn in range(len(asked))]


def _messages(record: Record) -> Sequence[Message]:
    return record.messages if isinstance(record, Dialogue) else [attack.message for attack in record.attacks]


def content_of(record: Record) -> object:
    """Return all that decides how a record is learned from or played: not its id, nor its metadata."""
    if isinstance(record, Dialogue):
        return record.messages, record.kind, record.subset
    return record.attacks, record.kind, record.subset, record.system, record.picture


def blanked(record: Record) -> Record:
    """Return the record with a white picture in place of each of its pictures."""
    if isinstance(record, Dialogue):
        return replace(record, messages=tuple(map(_blanked, record.messages)))
    opening, *scripted = (replace(attack, message=_blanked(attack.message)) for attack in record.attacks)
    return replace(record, opening=opening, scripted=tuple(scripted))


def _blanked(message: Message) -> Message:
    return replace(message, parts=tuple(blank(part) if isinstance(part, ImageRef) else part for part in message.parts))


def bare_answers(dialogue: Dialogue) -> tuple[int, int]:
    """Return how many answers lack the <answer> part, for which helpfulness is given, and how many there are."""
    return sum(not has_answer(text) for text in dialogue.answers), len(dialogue.answers)


def told_of_bare(bare: int, answers: int) -> str:
    found = f"{bare:,} of {answers:,} answers {'has' if bare == 1 else 'have'} no <answer> part"
    return f"{found}: a policy that learns to answer so is given 0 for helpfulness"


def cut_after(record: Record, max_turns: int) -> Record:
    """Return the record cut after `max_turns` turns, or the same object if it is no longer."""
    if isinstance(record, Scenario):
        short = len(record.attacks) <= max_turns
        return record if short else replace(record, scripted=record.scripted[: max_turns - 1])
    end = int(record.system is not None) + 2 * max_turns
    return record if len(record.messages) <= end else replace(record, messages=record.messages[:end])


def _fit(rows: Sequence[Placed], unfit: Unfit | None, quarantine: Quarantine) -> list[Placed]:
    """Return the rows that `unfit` does not refuse."""
    fit = []
    for place, record in rows:
        if unfit is not None and (why := unfit(record)):
            quarantine.add(RowError(*place, "", f"{record.id!r} {why}"))
        else:
            fit.append((place, record))
    return fit


def _under_own_ids(rows: Sequence[Placed]) -> list[Record]:
    """Make ids unique, since results are filed by id: a second "q" becomes "q#2". A twin is a row of the same file."""
    taken: set[str] = set()
    copies: Counter[str] = Counter()
    renamed: dict[tuple[str, str], str] = {}  # by file and id, the first such row's new one
    own: list[Record] = []
    for (file, _), record in rows:
        name = record.id
        while name in taken:
            copies[record.id] += 1
            name = f"{record.id}#{1 + copies[record.id]}"
        taken.add(name)
        renamed.setdefault((file, record.id), name)
        own.append(record if name == record.id else replace(record, id=name))
    for at, ((file, _), record) in enumerate(rows):
        twin = record.metadata.get("twin")
        if isinstance(twin, str) and (name := renamed.get((file, twin), twin)) != twin:
            own[at] = replace(own[at], metadata={**record.metadata, "twin": name})
    return own
