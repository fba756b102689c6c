"""What a run's stages start from: seed questions for Stage I, scripts for Stage II, from files or from STEER-mini."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import TypeVar

from steer_lit.data.mini import MiniSplit
from steer_lit.data.rows import Quarantine
from steer_lit.data.sources import FileSource, Record
from steer_lit.numbers import counted
from steer_lit.synthesis.generator import Generator, SeedQuestion
from steer_lit.synthesis.settings import SynthesisSettings
from steer_lit.synthesis.stage1 import SCRIPTS
from steer_lit.terminal.visible import visible_line
from steer_lit.types import Attack, Kind, Scenario

log = logging.getLogger(__name__)

T = TypeVar("T", bound=SeedQuestion | Scenario)
Starts = Sequence[SeedQuestion] | Sequence[Scenario]


def read_starts(settings: SynthesisSettings, run_dir: Path, bad: Quarantine) -> Starts | None:
    """Return the rows of the file that the first stage starts from, None if it starts from the generator's questions.

    Rows of the file that cannot be used are added to `bad`. Raises what the readers of rows raise.
    """
    if settings.stages == "2":
        return _scripts_of(settings, run_dir, bad)
    if (file := settings.seeds) is None:
        return None
    return _told(file, read_seed_questions(file, settings.folder, settings.stage1.kind, settings.rows, bad), bad)


def stage_starts(
    stage: str, generator: Generator, settings: SynthesisSettings, run_dir: Path, read: Starts | None
) -> Starts:
    """Return what one of the run's stages starts from. `read` is what `read_starts` returned."""
    if stage != settings.stage_names[0]:
        return _scripts_of(settings, run_dir, Quarantine(settings.max_bad_rows))
    if read is None:
        return generator.seed_questions(settings.stage1.kind, settings.stage1.turns, settings.rows)
    return read


def _scripts_of(settings: SynthesisSettings, run_dir: Path, bad: Quarantine) -> list[Scenario]:
    """Return the first scripts of the file that Stage II starts from, cut after its `max_turns`."""
    file = settings.scripts or run_dir / SCRIPTS
    source = _source(file, settings.folder, settings.stage1.kind)
    return _told(file, source.first(settings.rows, settings.stage2.max_turns, bad), bad)


def _told(file: Path | str, rows: list[T], bad: Quarantine) -> list[T]:
    if bad:
        log.warning("%s: %s put aside, the first: %s", file, counted(len(bad), "row"), visible_line(str(bad.errors[0])))
    return rows


def read_seed_questions(
    file: Path | str, root: Path | None, kind: Kind, rows: int, quarantine: Quarantine
) -> list[SeedQuestion]:
    """Return the opening questions of a file's first `rows` usable rows, in any shape that scenarios are read from.

    Rows that are benign if `kind` is not, or the reverse, are passed over: their scripts would be judged as what they
    are not. Put aside are rows that open without words, or with several pictures.
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
            others = "not benign: another kind= reads them" if kind == "benign" else "benign: kind=benign reads them"
            log.warning("%s: %s passed over, %s", file, counted(len(passed_over), "row"), others)
    return [_opening(row) for row in found]


def _source(file: Path | str, root: Path | None, kind: Kind) -> FileSource:
    return FileSource(rl=str(file), folder=None if root is None else str(root), kind=kind)


def _no_question(row: Record) -> str | None:
    """Return why no script can start from a row. From a picture alone, a model makes up the question."""
    assert isinstance(row, Scenario)
    if len(row.opening.message.images) > 1:
        return "opens with several pictures: a script is written about one, so leave the others out"
    return None if row.opening.message.text.strip() else "opens with a picture and no words: give it a question"


def _opening(scenario: Scenario) -> SeedQuestion:
    message = scenario.opening.message
    return SeedQuestion(scenario.id, message.text.strip(), message.images[0] if message.images else None)


def mini_scenarios(seed: int, kind: Kind, turns: tuple[int, int]) -> Iterator[Scenario]:
    """Yield STEER-mini's SFT rows of one kind, in order and without end, with a number of turns within `turns`."""
    rows = MiniSplit("sft", seed, size=sys.maxsize, min_turns=turns[0], max_turns=turns[1])
    for row in count():
        if (scenario := rows.scenario(row)).kind == kind:
            yield scenario


def mini_seed_questions(seed: int, kind: Kind, turns: tuple[int, int], rows: int) -> list[SeedQuestion]:
    """Return STEER-mini questions that need no history to be understood: harmful ones unless the kind is benign."""
    found: list[SeedQuestion] = []
    for scenario in mini_scenarios(seed, kind, turns):
        asked = [attack.message.text for attack in scenario.attacks if _speaks_for_itself(attack, kind)]
        if asked:
            found.append(SeedQuestion(scenario.id, asked[0], scenario.opening.message.images[0]))
        if len(found) == rows:
            break
    return found


def _speaks_for_itself(attack: Attack, kind: Kind) -> bool:
    if kind == "benign":
        return attack.strategy == "describe"
    return attack.gold is not None and attack.gold.tier in ("words", "picture")
