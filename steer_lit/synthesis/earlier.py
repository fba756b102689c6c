"""Rows that a folder already holds: a run of other rows, or of fewer, would replace them, so it is refused. So is a
run that would undo what was changed in them by hand.

What goes on is not: the same command, more rows, the other stage, other addresses, another `near_duplicate`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from steer_lit.data.rows import Quarantine
from steer_lit.dotted import leaves
from steer_lit.errors import SteerError
from steer_lit.files.run_files import MANIFEST
from steer_lit.numbers import MANY
from steer_lit.synthesis.generator import Generator
from steer_lit.synthesis.manifest import earlier_stages, file_digest, file_digests, made_with
from steer_lit.synthesis.run import STAGES, keyed
from steer_lit.synthesis.settings import SynthesisSettings
from steer_lit.synthesis.stage1 import SCRIPTS
from steer_lit.synthesis.starts import Starts, scripts_of, stage_starts
from steer_lit.synthesis.work import WorkFile, journal
from steer_lit.terminal.commands import shown_path

_LONGEST = 80  # characters shown of a value: a system prompt may be long


def check_earlier(settings: SynthesisSettings, generator: Generator, read: Starts | None, run_dir: Path) -> None:
    """Raise SteerError if the folder holds a finished stage that this run would replace by one of other rows.

    `read` is what `read_starts` returned.
    """
    entries = earlier_stages(run_dir / MANIFEST)
    for stage in settings.stage_names:
        entry = entries.get(stage, {})
        if not entry.get("written") and not _written(stage, run_dir):
            continue
        why = _other_setting(settings, stage, generator, entry)
        if why := why or _other_rows(settings, stage, generator, read, run_dir, entry):
            held = f"hydra.run.dir={shown_path(run_dir)}: holds a finished stage {stage[-1]}"
            raise SteerError(f"{held} {why}: name another folder, hydra.run.dir=...")
        for name, digest in file_digests(entry).items():
            if (file := run_dir / name).is_file() and file_digest(file) != digest:
                said = "has changed since it was written, and this run would undo that"
                raise SteerError(f"{shown_path(file)} {said}: move it away, then it is written anew")


def _written(stage: str, run_dir: Path) -> int:
    """Return how many rows the stage's files hold. A user's own may be among them."""
    _, names = STAGES[stage]
    files = [run_dir / name for name in names]
    return max(len(file.read_bytes().splitlines()) if file.is_file() else 0 for file in files)


def _other_setting(
    settings: SynthesisSettings, stage: str, generator: Generator, entry: Mapping[str, Any]
) -> str | None:
    """Return which setting differs from the one that the stage was made with, None if the manifest names none.

    The plainest comes first, since one may change others.
    """
    made = json.loads(json.dumps(made_with(settings, stage, generator.identity)))  # lists for tuples, as in the file
    del made["settings"]["near_duplicate"]  # chooses among the rows, and makes none anew
    kinds = {"kinds": [settings.stage1.kind]} if stage == "stage1" else {}  # Stage II has those of its scripts
    asked, before = dict(leaves({**kinds, **made})), dict(leaves(entry))
    other = next((key for key in asked if key in before and before[key] != asked[key]), None)
    if other is None:
        return None
    typed = {
        "kinds": "kind",
        "settings.turns": f"turns.{settings.stage1.kind}",
        "settings.min_safety": "keep.min_safety",
        "settings.min_usefulness": "keep.min_usefulness",
        "generator.generator": "generator",
    }
    key = typed.get(other) or other.removeprefix("settings.").replace("generator.", "the generator's ")
    values = (str(value).strip("[']") if other == "kinds" else value for value in (before[other], asked[other]))
    then, now = (_shown(key, value) for value in values)
    return f"made with {then}, which this one with {now} would replace"


def _other_rows(
    settings: SynthesisSettings,
    stage: str,
    generator: Generator,
    read: Starts | None,
    run_dir: Path,
    entry: Mapping[str, Any],
) -> str | None:
    """Return from what other rows the stage was made, None if this run has all of its rows.

    Keys of rows are compared, which stand for all that decides a row: an id may be no more than a place in a file.
    """
    chosen = stage == "stage2" and settings.stages == "both"  # by another `near_duplicate`, Stage I gives other scripts
    if not chosen:
        starts = stage_starts(stage, generator, settings, run_dir, read)
    elif (run_dir / SCRIPTS).is_file():
        starts = scripts_of(replace(settings, rows=MANY), run_dir, Quarantine(MANY))
    elif (run_dir / journal("stage1")).is_file():
        return None  # the file was removed: Stage I writes it anew from its journal
    else:
        starts = []
    work, begun = WorkFile(run_dir / journal(stage)), entry.get("begun")
    # Behind the stage's own rows, the journal may hold those of stopped runs.
    own = [key for key in work.keys[: begun if isinstance(begun, int) else None] if work.finished(key)]
    rows = max(1, len(own)) if isinstance(begun, int) else _written(stage, run_dir)
    kept = len({*own}.intersection(keyed(stage, starts, generator, settings, run_dir)))
    if kept >= (min(rows, 1) if chosen else rows):
        return None
    key, file = ("scripts", settings.scripts) if settings.stages == "2" else ("seeds", settings.seeds)
    named = _shown(f"data.{key}", file)
    if kept:
        fewer = f"with rows={settings.rows}" if settings.rows < rows else f"from {named}"
        return f"of {rows:,} rows, {rows - kept:,} of which this one {fewer} would remove"
    said = f"made from other rows or with other settings ({journal(stage)} has none of this run's)"
    return f"{said}, which this one from {named} would replace"


def _shown(key: str, value: object) -> str:
    text = "null" if value is None else str(value)
    return f"{key}={text if len(text) <= _LONGEST else f'{text[:_LONGEST]}...'}"
