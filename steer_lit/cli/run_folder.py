"""A run's folder: one run's at a time, with the config and the versions it was made by."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from steer_lit import __version__
from steer_lit.errors import SteerError
from steer_lit.files.atomic import replace_text
from steer_lit.files.locks import holding
from steer_lit.files.run_files import (
    ADAPTER,
    BASE,
    BEST,
    CONFIG,
    FAILED,
    LAST,
    MANIFEST,
    RECORDS,
    ROLLOUTS,
    TOWER,
    VERSIONS,
)
from steer_lit.prompts.fill import digests
from steer_lit.ranks import first_rank, local_rank, restarted
from steer_lit.terminal.commands import going_on, shown_path, sweeping, typed, typed_command

FROZEN = "--frozen="  # what a further process is told its run's config by
LOCK = ".lock"
_RUNS = "outputs"  # of conf/hydra/default.yaml; stays, though empty
CHECKPOINTS = (LAST, FAILED)
# What a training leaves that another one in its folder, from the start, would replace.
EXPORTED = (*(f"{name}/adapter_model.safetensors" for name in (ADAPTER, BEST)), TOWER, f"{BASE}/model.safetensors")
TRAINED = (*CHECKPOINTS, *EXPORTED, ROLLOUTS)
LEFT_BY = {"training": TRAINED, "benchmark": (RECORDS,), "synthesis": (MANIFEST,)}
_OWN: set[Path] = set()  # folders whose lock this process holds
RECORDED = ("torch", "lightning", "transformers", "peft", "bitsandbytes", "hydra-core", "datasets")


@contextmanager
def alone_in(run_dir: Path) -> Iterator[None]:
    """Make the run's folder and keep other runs out of it until this one ends; its other ranks write there with it.

    Raises SteerError where another run is at work.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    if not first_rank():
        yield
        return
    with holding(run_dir / LOCK) as taken:
        if taken is False:
            remedy = "another run is writing into this folder: wait until it has ended, or name another folder"
            raise SteerError(f"hydra.run.dir={shown_path(run_dir)}: {remedy}")
        _OWN.add(run_dir)
        try:
            yield
        finally:
            _OWN.discard(run_dir)


class AbsentFolders(Callback):
    """Hydra calls it before it makes a run's folder: `found` are those on the way there that do not exist yet. What it
    makes of them may go with a run that did nothing; what was there is the user's own, empty or not.
    """

    found: ClassVar[frozenset[Path]] = frozenset()

    def on_run_start(self, config: DictConfig, **_: object) -> None:
        # One that cannot be resolved is for Hydra to refuse: what is raised here, it warns of.
        named = OmegaConf.select(config, "hydra.run.dir", throw_on_resolution_failure=False)
        run_dir = Path(os.path.abspath(str(named)))
        AbsentFolders.found = frozenset(path for path in (run_dir, *run_dir.parents) if not path.exists())


def _hydra_made(folder: Path) -> bool:
    """Whether Hydra made the folder for this run; of a sweep, which keeps its own config in its folder, whatever lies
    below that.
    """
    if sweeping():
        return Path(os.path.abspath(HydraConfig.get().sweep.dir)) in folder.parents
    return folder in AbsentFolders.found and folder != Path.cwd() / _RUNS


def leave_nothing(run_dir: Path, *, ended: bool = True) -> None:
    """Remove the folder of a run that did nothing, one with no more in it than an empty log and a lock nobody holds,
    and those above it that Hydra made for it and that are empty then.

    The run itself may hold the lock where it is not `ended`, as while a signal is heard. One that cannot be removed
    stays: a disk of its own, or in a folder that may not be written.
    """
    with suppress(OSError):
        inside = list(run_dir.iterdir())
        if all(_is_log_or_lock(path) and not path.stat().st_size for path in inside):
            with holding(run_dir / LOCK) as taken:
                if taken is False and (ended or run_dir not in _OWN):
                    return
                for path in {*inside, run_dir / LOCK}:
                    path.unlink()
            for folder in takewhile(_hydra_made, (run_dir, *run_dir.parents)):
                folder.rmdir()  # refused where another run has its folder there


def holds_a_run(run_dir: Path) -> bool:
    """Whether there is more in the folder than what a run that is only starting writes."""
    return run_dir.is_dir() and not all(_is_log_or_lock(path) for path in run_dir.iterdir())


def _is_log_or_lock(path: Path) -> bool:
    return path.is_file() and (path.suffix == ".log" or path.name == LOCK)


def check_own(run_dir: Path, kind: str) -> None:
    """Raises SteerError where the folder holds a run of another kind: a run of `kind`, one of LEFT_BY, would put its
    config in place of that run's, and whoever reads that run again would go by the wrong one.
    """
    for other in LEFT_BY:
        if other != kind and _holds(run_dir, other):
            remedy = f"holds a {other}, whose config a {kind} would replace: name another folder, hydra.run.dir=..."
            raise SteerError(f"hydra.run.dir={shown_path(run_dir)}: {remedy}")


def _holds(run_dir: Path, kind: str) -> bool:
    return any(any(run_dir.glob(name)) for name in LEFT_BY[kind])


def check_unused(run_dir: Path, words: Sequence[str]) -> None:
    """Raises SteerError where the folder holds a training already: one with `words` would begin anew over it.

    Further ranks find there what the first has begun.
    """
    if not first_rank() or not _holds(run_dir, "training"):
        return
    folder, key = shown_path(run_dir), "hydra.sweep.dir" if sweeping() else "hydra.run.dir"
    said = f"hydra.run.dir={folder}: holds a training, which a new one would overwrite: name another folder, {key}=..."
    if not (saved := [run_dir / name for name in CHECKPOINTS if (run_dir / name).is_file()]):
        raise SteerError(f"{said}, or remove this one: it has no checkpoint to go on from")
    latest = max(saved, key=lambda path: path.stat().st_mtime)
    raise SteerError(
        f"{said}, or go on with that one:\n{going_on('train', words, run_dir)} {typed('ckpt_path', latest)}"
    )


def requeued(run_dir: Path) -> str | None:
    """What a training goes on from that Slurm has started again with the same words, in the folder it began in."""
    saved = run_dir / LAST
    return str(saved) if restarted() and saved.is_file() else None


def freeze(config: DictConfig, run_dir: Path, played: Mapping[str, object] | None = None) -> Path:
    """Write the resolved config, and command, versions and prompts it ran with, into the folder. Returns the config's
    path.

    `played` says whose records in the folder the config tells of. It is there before the config: a run killed between
    the two leaves a config that tells of no records, never one that tells of another run's.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    resolved = config.copy()
    OmegaConf.resolve(resolved)
    path = run_dir / CONFIG
    if local_rank() == 0:
        found: dict[str, Any] = {"python": platform.python_version(), "steer-lit": __version__}
        found |= {name: version(name) for name in RECORDED}
        found |= {"date": datetime.now().isoformat(" ", timespec="minutes"), "command": typed_command()}
        found["commands"] = _commands(run_dir)
        found["prompts"] = digests()
        found |= {} if played is None else {"played": played}
        replace_text(run_dir / VERSIONS, json.dumps(found, indent=2) + "\n")
        replace_text(path, OmegaConf.to_yaml(resolved))
    return path


def _commands(run_dir: Path) -> list[str]:
    """The commands that have made the run, oldest first: one that was resumed has several, each with its folder."""
    earlier, command = list(_versions(run_dir).get("commands", [])), typed_command(run_dir)
    return earlier if command in ("", *earlier[-1:]) else [*earlier, command]


def mark_finished(run_dir: Path) -> None:
    """Write down that the training in the folder went to its end. `freeze` takes it back: the next has to get there."""
    replace_text(run_dir / VERSIONS, json.dumps({**_versions(run_dir), "finished": True}, indent=2) + "\n")


def finished(run_dir: Path, config: DictConfig) -> bool:
    """Whether the folder holds a training by just this config, resumed or not, that went to its end."""
    if _versions(run_dir).get("finished") is not True or not (run_dir / CONFIG).is_file():
        return False
    saved, asked = OmegaConf.load(run_dir / CONFIG), config.copy()
    saved.ckpt_path = asked.ckpt_path = None
    return bool(OmegaConf.to_container(saved) == OmegaConf.to_container(asked, resolve=True))


def _versions(run_dir: Path) -> dict[str, Any]:
    """What `freeze` has written into the folder; empty where that is missing or damaged."""
    try:
        return dict(json.loads((run_dir / VERSIONS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


@contextmanager
def children_read(frozen: Path) -> Iterator[None]:
    """Processes that Lightning starts for further devices read this run's frozen config.

    Otherwise they would be given this process's own command line, which in a sweep names every run of it (TRAPS 40).
    """
    hydra_config = HydraConfig.instance()
    arguments, held = sys.argv, hydra_config.cfg
    sys.argv, hydra_config.cfg = [sys.argv[0], f"{FROZEN}{frozen}"], None
    try:
        yield
    finally:
        sys.argv, hydra_config.cfg = arguments, held
