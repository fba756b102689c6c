"""Rows that a folder already holds: a synthesis with other settings, or of fewer rows, would replace them, so it is
refused, and so is one that would undo what was changed in them by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from steer_lit.dotted import ABSENT, leaves, within
from steer_lit.errors import SteerError
from steer_lit.files.run_files import CONFIG
from steer_lit.numbers import counted, few
from steer_lit.synthesis.generator import Generator
from steer_lit.synthesis.run import STAGES, keyed
from steer_lit.synthesis.settings import SynthesisSettings
from steer_lit.synthesis.starts import Starts, stage_starts
from steer_lit.synthesis.work import WorkFile, journal
from steer_lit.terminal.commands import shown_path

# What changes no row, with the servers' addresses. `generator` repeats some keys of all programs.
_FREE = (
    "name", "run_dir", "dry_run", "stages", "near_duplicate", "data.max_bad_rows",
    "generator.seed", "generator.data", "generator.system_prompt",
)  # fmt: skip
_OF_STAGE = {"stage1": ("kind", "turns", "success", "data.seeds"), "stage2": ("keep", "max_turns", "data.scripts")}
_LONGEST = 80  # characters shown of a value: a system prompt may be long


def check_earlier(config: Mapping[str, Any], stages: Sequence[str], run_dir: Path) -> None:
    """Raise SteerError if the folder holds rows that a run of these `stages` with this `config` would replace.

    Rows of a stopped stage, which are in its journal alone, are no reason: their keys tell whose they are.
    """
    held = {stage: _held(stage, run_dir) for stage in STAGES}
    for stage in stages:
        known = WorkFile(run_dir / journal(stage)).lines() if held[stage] else {}
        for file, lines in held[stage].items():
            if others := len(lines - known.get(file, set())):
                said = f"holds {counted(others, 'row')} that {journal(stage)} does not, such as one changed by hand"
                raise SteerError(f"{shown_path(run_dir / file)} {said}: move it away, then it is written anew")
    free = {key for stage, keys in _OF_STAGE.items() if not held[stage] for key in keys}
    if any(held.values()) and (other := _differing(_saved(run_dir), config, {*_FREE, *free})):
        said = f"holds a synthesis with {few(other, 4)}, which this one would replace: name another folder"
        raise SteerError(f"hydra.run.dir={shown_path(run_dir)}: {said}, hydra.run.dir=...")


def check_rows(settings: SynthesisSettings, generator: Generator, read: Starts | None, run_dir: Path) -> None:
    """Raise SteerError if the folder holds rows of the first stage, and none is this run's: the settings are the same
    (`check_earlier`), so their file, its pictures or the prompts are others. `read` is what `read_starts` returned.
    """
    stage = settings.stage_names[0]
    if _held(stage, run_dir):
        starts = stage_starts(stage, generator, settings, run_dir, read)
        work = WorkFile(run_dir / journal(stage))
        if not any(map(work.finished, keyed(stage, starts, generator, settings, run_dir))):
            said = f"holds a finished stage {stage[-1]} made from other rows, pictures or prompts"
            raise SteerError(f"hydra.run.dir={shown_path(run_dir)}: {said}: name another folder, hydra.run.dir=...")


def _held(stage: str, run_dir: Path) -> dict[str, set[str]]:
    """Return the rows in a stage's files by the file's name, without files that hold none."""
    files = [name for name in STAGES[stage][1] if (run_dir / name).is_file()]
    texts = {name: (run_dir / name).read_text(encoding="utf-8", errors="replace") for name in files}
    return {
        name: lines for name, text in texts.items() if (lines := {*map(str.strip, text.split("\n"))} - {""})
    }  # editors leave it


def _saved(run_dir: Path) -> dict[str, Any]:
    try:
        saved = OmegaConf.to_container(OmegaConf.load(run_dir / CONFIG))
    except Exception as error:  # from YAML, OmegaConf or the disk
        said = f"holds rows, and {CONFIG} cannot be read, which says how they were made"
        raise SteerError(f"hydra.run.dir={shown_path(run_dir)}: {said}: name another folder") from error
    return {str(key): value for key, value in saved.items()} if isinstance(saved, dict) else {}


def _differing(saved: Mapping[str, Any], config: Mapping[str, Any], free: set[str]) -> list[str]:
    """Return each setting that decides the rows and has changed, such as `seed=1, now 2`; the generator first."""
    before, now = dict(leaves(saved)), dict(leaves(config))
    changed = [key for key in {**now, **before} if before.get(key, ABSENT) != now.get(key, ABSENT)]
    if isinstance(rows := before.get("rows"), int) and now["rows"] > rows:
        changed.remove("rows")
    deciding = [key for key in changed if not _of_server(key) and not any(within(key, part) for part in free)]
    deciding.sort(key=lambda key: key != "generator.name")
    return [f"{key}={_shown(before.get(key))}, now {_shown(now.get(key))}" for key in deciding]


def _of_server(key: str) -> bool:
    own = within(key, "server") or ".settings." in key or key.endswith((".base_url", ".api_key_env"))
    return own and key != "server.model"


def _shown(value: object) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
