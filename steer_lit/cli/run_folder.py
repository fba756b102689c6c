"""A run's folder: used by one run at a time, with the config and the versions of that run."""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from steer_lit import __version__
from steer_lit.checks.facts import at_ours
from steer_lit.cli.signals import FROZEN
from steer_lit.errors import SteerError
from steer_lit.files.atomic import replace_text
from steer_lit.files.locks import holding
from steer_lit.files.run_files import (
    ADAPTER,
    BASE,
    BEST,
    CONFIG,
    EARLIER,
    LAST,
    MANIFEST,
    RECORDS,
    ROLLOUTS,
    TOWER,
    VERSIONS,
    saved_versions,
)
from steer_lit.policy.model_facts import ADAPTER_WEIGHTS
from steer_lit.prompts.fill import ASKING, digests
from steer_lit.ranks import first_rank, local_rank, not_alone, several_ranks
from steer_lit.terminal.commands import folder_key, shown_path, typed_command

LOCK = ".lock"
# Files of a training that a new training in the same folder would replace.
EXPORTED = (*(f"{name}/{ADAPTER_WEIGHTS}" for name in (ADAPTER, BEST)), TOWER, f"{BASE}/model.safetensors")
TRAINED = (LAST, *EXPORTED, ROLLOUTS)
LEFT_BY = {"training": TRAINED, "benchmark": (RECORDS,), "synthesis": (MANIFEST,)}
# Set by Lightning in the process that starts further ones; with LOCAL_RANK set, it would start none for the next run.
_OF_RANKS = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
_OWN: set[Path] = set()  # folders whose lock this process holds
RECORDED = ("torch", "lightning", "transformers", "peft", "bitsandbytes", "hydra-core", "datasets")


@contextmanager
def alone_in(run_dir: Path, kind: str) -> Iterator[None]:
    """Make the folder of a run of this `kind`, one of LEFT_BY, and keep other runs out of it until this one ends. The
    run's other ranks may write there; only a training has any.

    Raise SteerError if another run is at work in the folder, or if it holds a run of another kind: this one would
    replace that run's config, and later readers of that run would go by the wrong one.
    """
    if kind != "training" and not first_rank():
        raise SteerError(not_alone())
    if held := [other for other in LEFT_BY if other != kind and holds(run_dir, other)]:
        remedy = f"holds a {held[0]}, whose config a {kind} would replace: name another folder, {folder_key()}=..."
        raise SteerError(f"hydra.run.dir={shown_path(run_dir)}: {remedy}")
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


def leave_nothing(run_dir: Path, *, ended: bool = True) -> None:
    """Remove the folder of a run that did nothing: it holds at most its empty log and a lock that nobody holds.

    If the run has not `ended`, as when a signal arrives, it may hold the lock itself. A folder that cannot be removed
    stays, such as a mount point or one in a read-only parent, and so does the folder that the user is in.
    """
    with suppress(OSError):
        inside = list(run_dir.iterdir())
        handlers = [one for one in logging.getLogger().handlers if isinstance(one, logging.FileHandler)]
        own = [run_dir.absolute() / LOCK, *(Path(one.baseFilename) for one in handlers)]  # not a log of the shell's
        if all(path.absolute() in own and not path.stat().st_size for path in inside):
            with holding(run_dir / LOCK) as taken:
                if taken is False and (ended or run_dir not in _OWN):
                    return
                for path in {*inside, run_dir / LOCK}:
                    path.unlink()
            if not run_dir.samefile(Path.cwd()):
                run_dir.rmdir()


def holds_a_run(run_dir: Path) -> bool:
    """Return whether the folder holds more than a run writes as it starts."""
    return not all(path.is_file() and (path.suffix == ".log" or path.name == LOCK) for path in run_dir.glob("*"))


def holds(run_dir: Path, kind: str) -> bool:
    """Return whether the folder holds what a run of this `kind`, one of LEFT_BY, would replace."""
    return any(any(run_dir.glob(name)) for name in LEFT_BY[kind])


def freeze(config: DictConfig, run_dir: Path, earlier: Sequence[tuple[int, dict[str, Any]]] = ()) -> Path:
    """Write the resolved config into the folder, with the command, the versions, the prompts and, of a training that is
    continued, the `earlier_settings`; return its path.
    """
    resolved = escaped(OmegaConf.to_container(config, resolve=True))
    path = run_dir / CONFIG
    if local_rank() == 0:
        commands, again = recorded_commands(run_dir), typed_command(run_dir)
        commands += [again] if again not in ("", *commands[-1:]) else []  # a resumed run has several
        found: dict[str, Any] = {"python": platform.python_version(), "steer-lit": __version__}
        found |= {name: version(name) for name in RECORDED}
        found |= {"date": datetime.now().isoformat(" ", timespec="minutes"), "command": typed_command()}
        found |= {"commands": commands, "prompts": prompts_of(config)} | ({EARLIER: earlier} if earlier else {})
        replace_text(run_dir / VERSIONS, json.dumps(found, indent=2) + "\n")
        replace_text(path, OmegaConf.to_yaml(OmegaConf.create(resolved)))
    return path


def escaped(value: Any) -> Any:
    """Return a resolved config as it is read again: a `${` that is left was escaped itself, and is no reference."""
    if isinstance(value, dict):
        return {key: escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return list(map(escaped, value))
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def prompts_of(config: DictConfig) -> dict[str, str]:
    """Return every prompt's digest, by name; those in a player's own folder replace the package's."""
    return digests({name: own for name in ASKING if isinstance(own := at_ours(config, f"{name}.prompts"), str)})


def recorded_commands(run_dir: Path) -> list[str]:
    """Return the commands that the folder's run has recorded, oldest first and each with its folder."""
    found = saved_versions(run_dir).get("commands")
    return list(map(str, found)) if isinstance(found, list) else []


@contextmanager
def children_read(frozen: Path) -> Iterator[None]:
    """Make the processes that Lightning starts for further devices read this run's frozen config.

    Otherwise they would get this process's own command line, which in a sweep names every run of it (TRAPS 40). After a
    success nothing of them is left, so that a sweep's next run can start its own.
    """
    hydra_config = HydraConfig.instance()
    arguments, held, environment = sys.argv, hydra_config.cfg, {name: os.environ.get(name) for name in _OF_RANKS}
    sys.argv, hydra_config.cfg = [sys.argv[0], f"{FROZEN}{frozen}"], None
    try:
        yield
        if several_ranks():
            sys.modules["torch.distributed"].destroy_process_group()
    finally:
        sys.argv, hydra_config.cfg = arguments, held
        for name, value in environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
