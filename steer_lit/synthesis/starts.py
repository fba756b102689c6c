"""What a run's stages start from when that is a file: seed questions for Stage I, scripts for Stage II."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from steer_lit.data.rows import Quarantine
from steer_lit.synthesis.seed_questions import SeedQuestion, read_scripts, read_seed_questions
from steer_lit.synthesis.settings import SynthesisSettings
from steer_lit.synthesis.stage1 import SCRIPTS
from steer_lit.types import Scenario


def read_starts(
    settings: SynthesisSettings, run_dir: Path, aside: Path | None
) -> Sequence[SeedQuestion] | Sequence[Scenario] | None:
    """Return the rows of the file that the first stage starts from, None if it starts from the generator's questions.

    Bad rows are noted in the folder `aside`, if there is one. Raises what the readers of rows raise.
    """
    if settings.stages == "2":
        return scripts_of(settings, run_dir, aside)
    return None if settings.seeds is None else seeds_of(settings, settings.seeds, aside)


def seeds_of(settings: SynthesisSettings, file: Path, aside: Path | None) -> list[SeedQuestion]:
    return read_seed_questions(file, settings.folder, settings.rows, _quarantine(settings, aside, "seeds"))


def scripts_of(settings: SynthesisSettings, run_dir: Path, aside: Path | None) -> list[Scenario]:
    file, turns = settings.scripts or run_dir / SCRIPTS, settings.stage2.max_turns
    return read_scripts(file, settings.folder, settings.rows, turns, _quarantine(settings, aside, "scripts"))


def _quarantine(settings: SynthesisSettings, aside: Path | None, name: str) -> Quarantine:
    return Quarantine(settings.max_bad_rows, None if aside is None else aside / f"quarantine.{name}.jsonl")
