"""Where rows come from: STEER-mini, made on the fly, or STEER's files.

A source answers `rows(part, ...)` for four parts: "sft" gives the dialogues SFT learns from, "rl" and "bench" the
scenarios that GRPO and the benchmark play, "captions" the dialogues that teach a fresh vision tower to see. `block` is
how many consecutive rows belong together, `image_root` the only folder that pictures are read from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from steer_lit.data.formats import read_bench_row, read_rl_row, read_sft_row
from steer_lit.data.images import PictureError, image_size
from steer_lit.data.mini import CaptionSplit, MiniSplit
from steer_lit.data.rows import Parse, Quarantine, read_records
from steer_lit.errors import ConfigError, Problem, RowError, SteerError
from steer_lit.types import Dialogue, ImageRef, Message, Scenario

Record = Dialogue | Scenario
SourcePart = Literal["sft", "rl", "bench", "captions"]
_Record = TypeVar("_Record", Dialogue, Scenario)


class Rows(Protocol):
    """What of a list the loaders need: rows are fetched by number, and may be made only then."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Record: ...


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


@dataclass(frozen=True, slots=True)
class MiniSource:
    """STEER-mini: `scale` times the named numbers of rows, of `mean_turns` turns (None: the paper's mean of the split).

    `seed` makes the rows. It is not the run's seed, so that runs with different seeds meet the same benchmark.
    """

    sft: int
    rl: int
    bench: int
    captions: int
    scale: float = 1.0
    mean_turns: float | None = None
    seed: int = 0

    @property
    def block(self) -> int:
        return 10  # MiniSplit balances the kinds over 10 rows, and twins lie within them

    @property
    def image_root(self) -> None:
        return None

    def rows(self, part: SourcePart, max_turns: int, quarantine: Quarantine) -> Rows:
        size = max(1, round(getattr(self, part) * self.scale))
        if part == "captions":
            return MadeRows(CaptionSplit(self.seed, size).dialogue, size)
        try:
            split = MiniSplit(part, self.seed, size, self.mean_turns, max_turns=max_turns)
        except ValueError as error:
            value = {"mean_turns": self.mean_turns, "max_turns": max_turns}
            raise ConfigError([Problem("data.source, data.max_turns", value, str(error))]) from error
        return MadeRows(split.dialogue if part == "sft" else split.scenario, size)


@dataclass(frozen=True, slots=True)
class FileSource:
    """STEER in the authors' row shapes, or anything in those shapes: .jsonl, .json or .parquet files.

    `folder` is where pictures are looked up; None means the folder that holds the row files.
    """

    sft: str | None = None
    rl: str | None = None
    bench: str | None = None
    folder: str | None = None

    @property
    def block(self) -> int:
        return 1

    @property
    def image_root(self) -> Path:
        """The only folder pictures are read from. Raises ConfigError where the files do not agree on one."""
        if self.folder is not None:
            return Path(self.folder)
        folders = {Path(file).parent for file in (self.sft, self.rl, self.bench) if file is not None}
        if len(folders) != 1:
            remedy = "name the folder of the pictures: the row files lie in different folders"
            raise ConfigError([Problem("data.source.folder", None, remedy)])
        return folders.pop()

    def rows(self, part: SourcePart, max_turns: int, quarantine: Quarantine) -> Rows:
        """Every usable row of the part's file, cut after `max_turns` turns.

        A row is usable when it has the right shape and its pictures are there: files of the right kind and a
        reasonable size. Their pixels are decoded when they are needed, so damage there is found only then.
        """
        file = None if part == "captions" else getattr(self, part)
        if file is None:
            remedy = "STEER's files hold no captions: use data=steer_mini" if part == "captions" else "name a row file"
            raise ConfigError([Problem(f"data.source.{part}", None, remedy)])
        index = _Index(self.image_root, max_turns)
        parse: dict[str, Parse[Record]] = {
            "sft": index.dialogue,
            "rl": index.rl_scenario,
            "bench": index.bench_scenario,
        }
        records = list(read_records(Path(file), parse[part], quarantine))
        if not records:
            first = f"; the first: {quarantine.errors[0]}" if quarantine.errors else ""
            raise SteerError(f"data file {file} holds no usable row, {len(quarantine)} were put aside{first}")
        return records


class _Index:
    """Reads the rows of one file, remembering which ids are taken and which pictures were found."""

    def __init__(self, root: Path, max_turns: int) -> None:
        self._root = root
        self._max_turns = max_turns
        self._ids: set[str] = set()
        self._found: set[ImageRef] = set()

    def dialogue(self, value: object, source: str, number: int) -> Dialogue:
        dialogue = read_sft_row(value, source, number)
        head = int(dialogue.messages[0].role == "system")
        messages = dialogue.messages[: head + 2 * self._max_turns]
        self._look_up(messages, source, number)
        return self._named(replace(dialogue, messages=messages))

    def rl_scenario(self, value: object, source: str, number: int) -> Scenario:
        return self._scenario(read_rl_row(value, source, number), source, number)

    def bench_scenario(self, value: object, source: str, number: int) -> Scenario:
        return self._scenario(read_bench_row(value, source, number), source, number)

    def _scenario(self, scenario: Scenario, source: str, number: int) -> Scenario:
        cut = replace(scenario, scripted=scenario.scripted[: self._max_turns - 1])
        self._look_up([attack.message for attack in cut.attacks], source, number)
        return self._named(cut)

    def _look_up(self, messages: Sequence[Message], source: str, number: int) -> None:
        for ref in {ref for message in messages for ref in message.images} - self._found:
            try:
                image_size(ref, self._root)
            except PictureError as error:
                raise RowError(source, number, "images", str(error)) from error
            self._found.add(ref)

    def _named(self, record: _Record) -> _Record:
        """The record under an id of its own: results are filed by id, so a second "q" becomes "q#2"."""
        name, copies = record.id, 1
        while name in self._ids:
            copies += 1
            name = f"{record.id}#{copies}"
        self._ids.add(name)
        return record if name == record.id else replace(record, id=name)
