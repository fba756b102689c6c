"""Rows that a folder already holds: a run of other rows, or of fewer, would replace them, so it is refused.

What goes on is not: the same command, more rows, the other stage, other addresses, another `near_duplicate`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from steer_lit.dotted import ABSENT, leaves
from steer_lit.errors import SteerError
from steer_lit.files.run_files import MANIFEST
from steer_lit.numbers import MANY
from steer_lit.synthesis.generator import Generator
from steer_lit.synthesis.manifest import earlier_stages, made_with
from steer_lit.synthesis.run import keyed
from steer_lit.synthesis.settings import SynthesisSettings
from steer_lit.synthesis.stage1 import SCENARIOS, SCRIPTS
from steer_lit.synthesis.stage2 import DIALOGUES
from steer_lit.synthesis.starts import Starts, scripts_of
from steer_lit.synthesis.work import WorkFile, journal
from steer_lit.terminal.commands import shown_path

_LONGEST = 80  # characters shown of a value: a system prompt may be long
_FILES = {"stage1": (SCRIPTS, SCENARIOS), "stage2": (DIALOGUES,)}
_RENAMED = {"min_safety": "keep.min_safety", "min_usefulness": "keep.min_usefulness"}


def check_earlier(settings: SynthesisSettings, generator: Generator, starts: Starts | None, run_dir: Path) -> None:
    """Raise SteerError if the folder holds a finished stage that this run would replace by one of other rows.

    `starts` are the rows of the file that the run's first stage starts from; None: the generator's own questions.
    """
    entries = earlier_stages(run_dir / MANIFEST)
    found = [(stage, entries.get(stage, {})) for stage in settings.stage_names]
    finished = [(stage, entry) for stage, entry in found if entry.get("written") or _written(stage, run_dir)]
    reasons = chain(
        ((stage, _other_settings(settings, stage, generator, entry)) for stage, entry in finished if _tells(entry)),
        ((stage, _other_rows(settings, stage, generator, starts, run_dir, entry)) for stage, entry in finished),
    )
    for stage, why in reasons:
        if why:
            held = f"hydra.run.dir={shown_path(run_dir)}: holds a finished stage {stage[-1]}"
            raise SteerError(f"{held} {why}: name another folder, hydra.run.dir=...")


def _written(stage: str, run_dir: Path) -> int:
    """Return how many rows the stage's files hold. A user's own may be among them."""
    files = [run_dir / name for name in _FILES[stage]]
    return max(len(file.read_bytes().splitlines()) if file.is_file() else 0 for file in files)


def _tells(entry: Mapping[str, Any]) -> bool:
    """Return whether an entry says what its rows were made with. A damaged one does not."""
    return "seed" in entry and all(isinstance(entry.get(key), Mapping) for key in ("settings", "generator"))


def _other_settings(
    settings: SynthesisSettings, stage: str, generator: Generator, entry: Mapping[str, Any]
) -> str | None:
    """Return which setting differs from the one that the stage was made with, None if none does."""
    kinds = {"kinds": [settings.stage1.kind]} if stage == "stage1" else {}  # Stage II has those of its scripts
    asked = dict(_compared({**made_with(settings, stage, generator.identity), **kinds}, settings))
    earlier = dict(_compared({**entry, "kinds": entry.get("kinds") if kinds else None}, settings))
    other = next((key for key in asked if earlier.get(key, ABSENT) != asked[key]), None)
    if other is None:
        return None
    now, before = (_shown(other, values.get(other)) for values in (asked, earlier))
    return f"made with {before}, which this one with {now} would replace"


def _other_rows(
    settings: SynthesisSettings,
    stage: str,
    generator: Generator,
    starts: Starts | None,
    run_dir: Path,
    entry: Mapping[str, Any],
) -> str | None:
    """Return from what other rows the stage was made, None if this run has all of its rows.

    Keys of rows are compared, which stand for all that decides a row: an id may be no more than a place in a file.
    """
    chosen = stage == "stage2" and settings.stages == "both"  # by another `near_duplicate`, Stage I gives other scripts
    if chosen and not (run_dir / SCRIPTS).is_file() and (run_dir / journal("stage1")).is_file():
        return None  # the file was removed: Stage I writes it anew from its journal
    if starts is None or chosen:
        starts = _starts(settings, stage, generator, run_dir)
    work, begun = WorkFile(run_dir / journal(stage)), entry.get("begun")
    # Behind the stage's own rows, the journal may hold those of stopped runs.
    own = [key for key in work.keys[: begun if isinstance(begun, int) else None] if work.finished(key)]
    rows = max(1, len(own)) if isinstance(begun, int) else _written(stage, run_dir)
    kept = len({*own}.intersection(keyed(starts, generator, settings, run_dir)))
    if kept >= (min(rows, 1) if chosen else rows):
        return None
    key, file = ("scripts", settings.scripts) if settings.stages == "2" else ("seeds", settings.seeds)
    named = _shown(f"data.{key}", None if file is None else str(file))
    if kept:
        fewer = f"with rows={settings.rows}" if settings.rows < rows else f"from {named}"
        return f"of {rows:,} rows, {rows - kept:,} of which this one {fewer} would remove"
    unsure = "" if own else f", or perhaps not: {journal(stage)} is gone"
    unsure = unsure if _tells(entry) else f" or with other settings ({MANIFEST} does not say)"
    return f"made from other rows{unsure}, which this one from {named} would replace"


def _starts(settings: SynthesisSettings, stage: str, generator: Generator, run_dir: Path) -> Starts:
    """Return what a stage starts from that starts from no file. Stage II: the scripts that are there so far."""
    if stage == "stage1":
        return generator.seed_questions(settings.stage1.kind, settings.stage1.turns, settings.rows)
    every = replace(settings, rows=MANY, max_bad_rows=MANY)
    return scripts_of(every, run_dir, None) if (run_dir / SCRIPTS).is_file() else []


def _compared(made: Mapping[str, Any], settings: SynthesisSettings) -> Iterator[tuple[str, Any]]:
    """Yield what decides a row under the key that the user knows, the plainest first: one may change others."""
    plain = json.loads(json.dumps(made))  # tuples become lists, as in the manifest
    generator = dict(plain["generator"])
    yield "generator", generator.pop("generator", None)
    if plain.get("kinds"):
        yield "kind", ", ".join(plain["kinds"])
    yield "seed", plain["seed"]
    for name, value in plain["settings"].items():
        if name != "near_duplicate":  # chooses among the rows, and makes none anew
            yield f"turns.{settings.stage1.kind}" if name == "turns" else _RENAMED.get(name, name), value
    for name, value in leaves(generator):
        yield f"the generator's {name}", value


def _shown(key: str, value: object) -> str:
    text = "null" if value is None else str(value)
    return f"{key}={text if len(text) <= _LONGEST else f'{text[:_LONGEST]}...'}"
