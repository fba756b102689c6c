"""The questions that Stage I starts from: one a row, about one picture or none, from a file or STEER-mini."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from steer_lit.data.mini import MiniSplit
from steer_lit.data.rows import Quarantine
from steer_lit.data.sources import FileSource, Record
from steer_lit.numbers import counted
from steer_lit.types import Attack, ImageRef, Kind, Scenario, Split, TurnGold

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SeedQuestion:
    """The start of one script: a question (or, to press for, a request) and the picture that it is about."""

    id: str
    question: str
    image: ImageRef | None = None


def read_scripts(
    file: Path | str, root: Path | None, rows: int, max_turns: int, quarantine: Quarantine
) -> list[Scenario]:
    """Return a file's first `rows` scripts, cut after `max_turns` turns; pictures are looked up under `root`."""
    found = _source(file, root).first(rows, max_turns, quarantine)
    return [script for script in found if isinstance(script, Scenario)]


def read_seed_questions(
    file: Path | str, root: Path | None, kind: Kind, rows: int, quarantine: Quarantine
) -> list[SeedQuestion]:
    """Return the opening questions of a file's first `rows` usable rows, in any shape that scenarios are read from.

    Rows that are benign if `kind` is not, or the reverse, are passed over: their scripts would be judged as what they
    are not. Put aside are rows that open without words.
    """
    passed_over = []

    def wanted(row: Record) -> bool:
        if (row.kind == "benign") == (kind == "benign"):
            return True
        passed_over.append(row)
        return False

    try:
        found = _source(file, root, kind).first(rows, 1, quarantine, _no_question, wanted)
    finally:
        if passed_over:
            others = "not benign, for another kind" if kind == "benign" else "benign, for kind=benign"
            log.warning("%s: %s passed over as %s", file, counted(len(passed_over), "row"), others)
    return [_opening(row) for row in found if isinstance(row, Scenario)]


def _source(file: Path | str, root: Path | None, kind: Kind = "red_team") -> FileSource:
    return FileSource(rl=str(file), folder=None if root is None else str(root), kind=kind)


def _no_question(row: Record) -> str | None:
    """Return why no script can start from a row. From a picture alone, a model makes up the question."""
    asked = isinstance(row, Scenario) and row.opening.message.text.strip()
    return None if asked else "opens with a picture and no words: give it a question"


def _opening(scenario: Scenario) -> SeedQuestion:
    """Return the scenario's opening. Of several pictures, the first is kept."""
    message = scenario.opening.message
    return SeedQuestion(scenario.id, message.text.strip(), message.images[0] if message.images else None)


def mini_scenarios(split: Split, seed: int, kind: Kind, turns: tuple[int, int]) -> Iterator[Scenario]:
    """Yield STEER-mini's rows of one kind, in order and without end, with a number of turns within `turns`."""
    rows = MiniSplit(split, seed, size=sys.maxsize, min_turns=turns[0], max_turns=turns[1])
    for row in count():
        if (scenario := rows.scenario(row)).kind == kind:
            yield scenario


def mini_seed_questions(seed: int, kind: Kind, turns: tuple[int, int], rows: int) -> list[SeedQuestion]:
    """Return STEER-mini questions that need no history to be understood: harmful ones unless the kind is benign."""
    found: list[SeedQuestion] = []
    for scenario in mini_scenarios("sft", seed, kind, turns):
        asked = [attack.message.text for attack in scenario.attacks if _speaks_for_itself(attack, kind)]
        if asked:
            found.append(SeedQuestion(scenario.id, asked[0], scenario.opening.message.images[0]))
        if len(found) == rows:
            break
    return found


def _speaks_for_itself(attack: Attack, kind: Kind) -> bool:
    if kind == "benign":
        return attack.strategy == "describe"
    return isinstance(attack.gold, TurnGold) and attack.gold.tier in ("words", "picture")
