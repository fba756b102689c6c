"""All rows of STEER-mini or of a row file at once, as tests want them."""

from __future__ import annotations

from typing import Any

from steer_lit.data.mini import MiniSplit
from steer_lit.data.rows import Quarantine
from steer_lit.data.sources import FileSource, Record, SourceSplit
from steer_lit.types import Scenario, Split


def mini_rows(split: Split, seed: int, size: int, **others: Any) -> list[Scenario]:
    return list(map(MiniSplit(split, seed, size, **others).scenario, range(size)))


def file_rows(source: FileSource, split: SourceSplit, quarantine: Quarantine, max_turns: int = 10) -> list[Record]:
    return source.fitting(split, source.read(split, max_turns, quarantine), quarantine)
