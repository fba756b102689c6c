"""A synthesis run: rows made side by side, a bar, a journal to go on from, files and a manifest at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from steer_lit.data.images import picture_digest
from steer_lit.data.sources import pictures_of
from steer_lit.digests import digest
from steer_lit.errors import ServerDown, SteerError
from steer_lit.synthesis.generator import Generator
from steer_lit.synthesis.manifest import StageResult, made_with, write_manifest, write_stage
from steer_lit.synthesis.outcome import Outcome
from steer_lit.synthesis.screen import notes, nothing_written, row_bar, table
from steer_lit.synthesis.seed_questions import SeedQuestion
from steer_lit.synthesis.settings import SynthesisSettings
from steer_lit.synthesis.stage1 import SCENARIOS, SCRIPTS, write_script
from steer_lit.synthesis.stage2 import DIALOGUES, bootstrap
from steer_lit.synthesis.starts import Starts, read_starts, scripts_of
from steer_lit.synthesis.work import Start, WorkFile, journal, make_rows
from steer_lit.terminal.visible import print_lines
from steer_lit.types import ImageRef, Kind

T = TypeVar("T", bound=Start)


def run_synthesis(
    generator: Generator,
    settings: SynthesisSettings,
    run_dir: Path,
    console: Console | None = None,
    starts: Starts | None = None,
) -> dict[str, Any]:
    """Make the rows, write the files, print what came of them. Returns what `manifest.json` holds.

    `starts` are the rows of the file that the first stage starts from, if they have been read.

    A run stopped in the same folder goes on: finished rows are not made again. If a stage wrote nothing, raises
    ServerDown if servers left some of its rows without an answer, else SteerError.
    """
    console = console or Console()
    run_dir.mkdir(parents=True, exist_ok=True)
    starts = starts or read_starts(settings, run_dir, run_dir)
    stages: dict[str, dict[str, Any]] = {}
    manifest: dict[str, Any] = {}
    for name in settings.stage_names:
        began = time.perf_counter()
        make = {"stage1": _stage1, "stage2": _stage2}[name]
        outcomes, files, kinds = make(generator, settings, starts, run_dir, console)
        result = StageResult.of(name, outcomes, settings.near_duplicate)
        written = write_stage(result, files, run_dir)
        seconds = round(time.perf_counter() - began, 1)
        made = {"kinds": kinds, **made_with(settings, name, generator.identity)}
        came = {**result.counts(), "files": written, "seconds": seconds, "usage_so_far": generator.usage()}
        stages[name] = {**made, **came}
        manifest = write_manifest(run_dir, stages)
        if not result.rows:
            unanswered = any(outcome.status == "failed" for outcome in result.outcomes)
            raise (ServerDown if unanswered else SteerError)(nothing_written(result, run_dir))
    console.print(table(stages))
    print_lines(console, *notes(stages))
    return manifest


_Stage = tuple[Sequence[Outcome], Sequence[str], list[Kind]]  # its outcomes, its files' names, its rows' kinds


def _stage1(generator: Generator, settings: SynthesisSettings, asked: Any, run_dir: Path, console: Console) -> _Stage:
    rules = settings.stage1
    if asked is None:
        asked = generator.seed_questions(rules.kind, rules.turns, settings.rows)
    starts = keyed(asked, generator, settings, run_dir)
    outcomes = _made("stage1", starts, lambda each: write_script(each, generator, rules), generator, run_dir, console)
    return outcomes, (SCRIPTS, SCENARIOS), [rules.kind]


def _stage2(generator: Generator, settings: SynthesisSettings, scripts: Any, run_dir: Path, console: Console) -> _Stage:
    rules = settings.stage2
    if settings.stages == "both":
        scripts = scripts_of(settings, run_dir, run_dir)
    starts = keyed(scripts, generator, settings, run_dir)
    outcomes = _made("stage2", starts, lambda script: bootstrap(script, generator, rules), generator, run_dir, console)
    return outcomes, (DIALOGUES,), sorted({script.kind for script in scripts})


def keyed(starts: Starts, generator: Generator, settings: SynthesisSettings, run_dir: Path) -> dict[str, Any]:
    """Return the starts of a stage by the keys of their rows. Raises PictureError."""
    folder = settings.folder or run_dir  # where their reader looks pictures up
    keys: dict[str, Any] = {}
    for start in starts:
        if isinstance(start, SeedQuestion):
            keys[_key(generator, settings.stage1, start, [start.image] if start.image else [], folder)] = start
        else:
            keys[_key(generator, settings.stage2, start, pictures_of(start), folder)] = start
    return keys


def _key(generator: Generator, rules: object, start: object, pictures: Iterable[ImageRef], folder: Path | None) -> str:
    """Return a digest of all that decides a row: its start in full, its pictures' content, the stage's rules, the
    generator's identity. A `mini://` picture's name says all of its content. Raises PictureError.
    """
    shown = [content for ref in pictures if (content := picture_digest(ref, folder))]
    return digest(repr((start, rules, sorted(generator.identity.items()), *shown)), 24)


def _made(
    name: str,
    starts: Mapping[str, T],
    make: Callable[[T], Outcome],
    generator: Generator,
    run_dir: Path,
    console: Console,
) -> list[Outcome]:
    work = WorkFile(run_dir / journal(name))
    if any(work.finished(key) is None for key in starts):
        generator.greet()
    with row_bar(name, len(starts), console) as show:
        outcomes = make_rows(starts, make, work, generator.workers, show, generator.stop)
    work.put_in_front(starts)
    return outcomes
