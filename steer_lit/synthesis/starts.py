"""What a run's stages start from: seed questions for Stage I, scripts for Stage II."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from steer_lit.data.rows import Quarantine
from steer_lit.numbers import counted
from steer_lit.synthesis.generator import Generator
from steer_lit.synthesis.seed_questions import SeedQuestion, read_scripts, read_seed_questions
from steer_lit.synthesis.settings import SynthesisSettings
from steer_lit.synthesis.stage1 import SCRIPTS
from steer_lit.terminal.visible import visible_line
from steer_lit.types import Scenario

log = logging.getLogger(__name__)

T = TypeVar("T", bound=SeedQuestion | Scenario)
Starts = Sequence[SeedQuestion] | Sequence[Scenario]


def read_starts(settings: SynthesisSettings, run_dir: Path, bad: Quarantine) -> Starts | None:
    """Return the rows of the file that the first stage starts from, None if it starts from the generator's questions.

    Rows of the file that cannot be used are added to `bad`. Raises what the readers of rows raise.
    """
    if settings.stages == "2":
        return scripts_of(settings, run_dir, bad)
    if (file := settings.seeds) is None:
        return None
    return _told(file, read_seed_questions(file, settings.folder, settings.stage1.kind, settings.rows, bad), bad)


def stage_starts(
    stage: str, generator: Generator, settings: SynthesisSettings, run_dir: Path, read: Starts | None
) -> Starts:
    """Return what one of the run's stages starts from. `read` is what `read_starts` returned."""
    if stage != settings.stage_names[0]:
        return scripts_of(settings, run_dir, Quarantine(settings.max_bad_rows))
    if read is None:
        return generator.seed_questions(settings.stage1.kind, settings.stage1.turns, settings.rows)
    return read


def scripts_of(settings: SynthesisSettings, run_dir: Path, bad: Quarantine) -> list[Scenario]:
    file = settings.scripts or run_dir / SCRIPTS
    return _told(file, read_scripts(file, settings.folder, settings.rows, settings.stage2.max_turns, bad), bad)


def _told(file: Path | str, rows: list[T], bad: Quarantine) -> list[T]:
    if bad:
        log.warning("%s: %s put aside, the first: %s", file, counted(len(bad), "row"), visible_line(str(bad.errors[0])))
    return rows
