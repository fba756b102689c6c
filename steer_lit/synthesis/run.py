"""A synthesis run: its cost, rows made side by side, a bar, a journal to go on from, files and a manifest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from rich.console import Console

from steer_lit.data.images import picture_digest
from steer_lit.data.sources import pictures_of
from steer_lit.digests import digest
from steer_lit.errors import NothingWritten, ServerDown, SteerError
from steer_lit.synthesis.generator import Generator, SeedQuestion
from steer_lit.synthesis.manifest import StageResult, made_with, write_manifest, write_stage
from steer_lit.synthesis.outcome import Outcome
from steer_lit.synthesis.screen import notes, nothing_written, row_bar, table, tell_plan
from steer_lit.synthesis.settings import SynthesisSettings
from steer_lit.synthesis.stage1 import SCENARIOS, SCRIPTS, write_script
from steer_lit.synthesis.stage2 import DIALOGUES, bootstrap
from steer_lit.synthesis.starts import Starts, stage_starts
from steer_lit.synthesis.work import WorkFile, journal, make_rows
from steer_lit.terminal.commands import shown_path
from steer_lit.terminal.visible import print_lines
from steer_lit.types import ImageRef, Scenario

# What makes a stage's rows, from a start, the generator and the stage's rules, and the files that hold them.
STAGES: dict[str, tuple[Callable[[Any, Generator, Any], Outcome], tuple[str, ...]]] = {
    "stage1": (write_script, (SCRIPTS, SCENARIOS)),
    "stage2": (bootstrap, (DIALOGUES,)),
}


def check_unclaimed(stages: Sequence[str], run_dir: Path) -> None:
    """Raise SteerError if a row file of these `stages` has no journal: it is somebody's own, and would be replaced."""
    for stage in stages:
        for file in (run_dir / name for name in STAGES[stage][1]):
            if not (run_dir / journal(stage)).exists() and file.exists() and file.stat().st_size:
                said = f"has rows, but no {journal(stage)} lies beside it: no synthesis made it"
                raise SteerError(f"{shown_path(file)} {said}, and this one would replace it: move it away")


def run_synthesis(
    generator: Generator,
    settings: SynthesisSettings,
    run_dir: Path,
    read: Starts | None,
    console: Console,
    begin: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Make the rows, write the files, print what came of them. Returns what `manifest.json` holds.

    `read` is what `read_starts` returned. `begin` is called once, before anything is written.

    A run stopped in the same folder goes on: finished rows are not made again. If any are to be made, the plan is
    printed first, once the servers have been greeted: a run that is refused costs nothing. If a stage wrote nothing,
    raises ServerDown if servers left some of its rows without an answer, else NothingWritten.
    """
    tell = cache(partial(tell_plan, settings, str(generator.identity["generator"]), console, read))
    stages: dict[str, dict[str, Any]] = {}
    manifest: dict[str, Any] = {}
    for name in settings.stage_names:
        began = time.perf_counter()
        starts = _keyed(name, stage_starts(name, generator, settings, run_dir, read), generator, settings, run_dir)
        work = WorkFile(run_dir / journal(name))
        if any(work.finished(key) is None for key in starts):
            generator.greet()
            tell()
        if not stages:
            begin()
        result = StageResult.of(name, _made(name, starts, work, generator, settings, console), settings.near_duplicate)
        write_stage(result, files := STAGES[name][1], run_dir)
        seconds = round(time.perf_counter() - began, 1)
        kinds = {start.kind if isinstance(start, Scenario) else settings.stage1.kind for start in starts.values()}
        made = {"kinds": sorted(kinds), **made_with(settings, name, generator.identity)}
        came = {**result.counts(), "files": list(files), "seconds": seconds, "usage_of_last_start": generator.usage()}
        stages[name] = {**made, **came}
        manifest = write_manifest(run_dir, stages)
        if not result.rows:
            unanswered = any(outcome.status == "failed" for outcome in result.outcomes)
            raise (ServerDown if unanswered else NothingWritten)(nothing_written(result, run_dir))
    console.print(table(stages))
    print_lines(console, *notes(stages))
    return manifest


def _made(
    stage: str,
    starts: dict[str, SeedQuestion | Scenario],
    work: WorkFile,
    generator: Generator,
    settings: SynthesisSettings,
    console: Console,
) -> list[Outcome]:
    make, rules = STAGES[stage][0], getattr(settings, stage)
    with row_bar(stage, len(starts), console) as show:
        return make_rows(
            starts, lambda start: make(start, generator, rules), work, generator.workers, show, generator.stop
        )


def _keyed(
    stage: str, starts: Starts, generator: Generator, settings: SynthesisSettings, run_dir: Path
) -> dict[str, SeedQuestion | Scenario]:
    """Return the starts of a stage by the keys of their rows. Raises PictureError."""
    rules, folder = getattr(settings, stage), settings.folder or run_dir  # where their reader looks pictures up
    return {_key(generator, rules, start, _pictures(start), folder): start for start in starts}


def _pictures(start: SeedQuestion | Scenario) -> Iterable[ImageRef]:
    return pictures_of(start) if isinstance(start, Scenario) else filter(None, [start.image])


def _key(generator: Generator, rules: object, start: object, pictures: Iterable[ImageRef], folder: Path | None) -> str:
    """Return a digest of all that decides a row: its start in full, its pictures' content, the stage's rules, the
    generator's identity. A `mini://` picture's name says all of its content. Raises PictureError.
    """
    shown = [content for ref in pictures if (content := picture_digest(ref, folder))]
    return digest(repr((start, rules, sorted(generator.identity.items()), *shown)), 24)
