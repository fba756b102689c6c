"""Rows that a folder already holds: a run of other rows would replace them, so it is refused.

What goes on is not: the same command, more rows, the other stage, other addresses, another `near_duplicate`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from steer_lit.dotted import ABSENT, leaves
from steer_lit.errors import SteerError
from steer_lit.files.run_files import MANIFEST
from steer_lit.synthesis.generator import Generator
from steer_lit.synthesis.manifest import earlier_stages
from steer_lit.synthesis.settings import SynthesisSettings
from steer_lit.synthesis.work import Start, WorkFile, journal
from steer_lit.terminal.commands import shown_path

_LONGEST = 80  # characters shown of a value: a system prompt may be long
_RENAMED = {"min_safety": "keep.min_safety", "min_usefulness": "keep.min_usefulness"}


def made_with(settings: SynthesisSettings, stage: str, generator: Mapping[str, object]) -> dict[str, Any]:
    """Return what a stage's rows are made with, as its entry in the manifest holds it."""
    rules = {**asdict(getattr(settings, stage)), "near_duplicate": settings.near_duplicate}
    rules.pop("kind", None)  # Stage I's setting; `kinds` has the kinds of the rows
    return {"seed": rules.pop("seed"), "settings": rules, "generator": dict(generator)}


def check_earlier(
    settings: SynthesisSettings, generator: Generator, starts: Iterable[Start] | None, run_dir: Path
) -> None:
    """Raise SteerError if the folder holds a finished stage that this run would replace by one of other rows.

    `starts` are the rows of the file that the run's first stage starts from; None: the generator's own questions.
    """
    entries = earlier_stages(run_dir / MANIFEST)
    for stage in settings.stage_names:
        entry = entries.get(stage, {})
        if not entry.get("written") or not _tells(entry):
            continue
        kinds = {"kinds": [settings.stage1.kind]} if stage == "stage1" else {}  # Stage II has those of its scripts
        asked = dict(_compared({**made_with(settings, stage, generator.identity), **kinds}, settings))
        earlier = dict(_compared({**entry, "kinds": entry.get("kinds") if kinds else None}, settings))
        other = next((key for key in asked if earlier.get(key, ABSENT) != asked[key]), None)
        held = f"hydra.run.dir={shown_path(run_dir)}: holds a finished stage {stage[-1]}"
        way_out = "would replace: name another folder, hydra.run.dir=..."
        if other is not None:
            now, before = (_shown(other, values.get(other)) for values in (asked, earlier))
            raise SteerError(f"{held} made with {before}, which this one with {now} {way_out}")
        if starts is None:
            starts = generator.seed_questions(settings.stage1.kind, settings.stage1.turns, settings.rows)
        ids = WorkFile(run_dir / journal(stage)).ids
        if ids and ids.isdisjoint(start.id for start in starts):
            key, file = ("scripts", settings.scripts) if settings.stages == "2" else ("seeds", settings.seeds)
            named = _shown(f"data.{key}", None if file is None else str(file))
            raise SteerError(f"{held} made from other rows, which this one from {named} {way_out}")


def _tells(entry: Mapping[str, Any]) -> bool:
    """Return whether an entry says what its rows were made with. A damaged one does not."""
    return "seed" in entry and all(isinstance(entry.get(key), Mapping) for key in ("settings", "generator"))


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
