"""A run's folder: used by one run at a time, with the config and the versions of that run."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.metadata import version
from itertools import count
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
    FAILED,
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
from steer_lit.ranks import first_rank, local_rank, restarted, several_ranks
from steer_lit.terminal.commands import (
    folder_key,
    path_word,
    resume_command,
    resuming_step,
    shown_path,
    typed_command,
)

log = logging.getLogger(__name__)

LOCK = ".lock"
CHECKPOINTS = (LAST, FAILED)
# Files of a training that a new training in the same folder would replace.
EXPORTED = (*(f"{name}/{ADAPTER_WEIGHTS}" for name in (ADAPTER, BEST)), TOWER, f"{BASE}/model.safetensors")
TRAINED = (*CHECKPOINTS, *EXPORTED, ROLLOUTS)
LEFT_BY = {"training": TRAINED, "benchmark": (RECORDS,), "synthesis": (MANIFEST,)}
_ASIDE = "before_restart_"
# Set by Lightning in the process that starts further ones; with LOCAL_RANK set, it would start none for the next run.
_OF_RANKS = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
RECORDED = ("torch", "lightning", "transformers", "peft", "bitsandbytes", "hydra-core", "datasets")


@contextmanager
def alone_in(run_dir: Path, kind: str) -> Iterator[None]:
    """Make the folder of a run of this `kind`, one of LEFT_BY, and keep other runs out of it until this one ends. The
    run's other ranks may write there.

    Raise SteerError if another run is at work in the folder, or if it holds a run of another kind: this one would
    replace that run's config, and later readers of that run would go by the wrong one.
    """
    if held := [other for other in kinds_in(run_dir) if other != kind]:
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
        try:
            yield
        finally:
            with suppress(OSError):
                if [path.name for path in run_dir.iterdir()] == [LOCK]:  # the run did nothing, as when it is refused
                    (run_dir / LOCK).unlink()
                    run_dir.rmdir()


def _is_log_or_lock(path: Path) -> bool:
    return path.is_file() and (path.suffix == ".log" or path.name == LOCK)


def kinds_in(run_dir: Path) -> list[str]:
    """Return of which kinds of run, of those in LEFT_BY, the folder holds files."""
    return [kind for kind, names in LEFT_BY.items() if any(any(run_dir.glob(name)) for name in names)]


def check_unused(run_dir: Path, words: Sequence[str], *, continued: bool = False) -> None:
    """Raise SteerError if the folder already holds a training, which one with `words` would overwrite.

    `continued` says that it is the same run, of a sweep that goes on: another folder would begin the sweep anew.
    If Slurm has restarted that training before its first save, what it wrote is set aside instead. Only the first rank
    checks: the others find there what it has written.
    """
    if not first_rank() or "training" not in kinds_in(run_dir):
        return
    said = f"hydra.run.dir={shown_path(run_dir)}: holds "
    if continued:
        said += "this run, begun before"
    else:
        said += f"a training, which a new one would overwrite: name another folder, {folder_key()}=..."
    if (latest := latest_checkpoint(run_dir)) is None:
        if restarted():
            _set_aside(run_dir)
            return
        remove = ": remove this folder first" if continued else ", or remove this one"
        raise SteerError(f"{said}{remove}: it has no checkpoint to go on from")
    resume = resume_command("train", words, run_dir, path_word("ckpt_path", latest))
    raise SteerError(f"{said}\n{resuming_step(resume)}" if continued else f"{said}, or go on with that one:\n{resume}")


def latest_checkpoint(run_dir: Path) -> Path | None:
    """Return the checkpoint in the folder that was written last."""
    saved = [run_dir / name for name in CHECKPOINTS if (run_dir / name).is_file()]
    return max(saved, key=lambda path: path.stat().st_mtime, default=None)


def _set_aside(run_dir: Path) -> None:
    """Move all but logs into a new folder inside."""
    inside = [path for path in run_dir.iterdir() if not _is_log_or_lock(path) and not path.match(f"{_ASIDE}*")]
    aside = next(at for number in count(1) if not (at := run_dir / f"{_ASIDE}{number}").exists())
    aside.mkdir()
    for path in inside:
        path.rename(aside / path.name)
    log.info(
        "Slurm restarts this run, which had saved nothing, from its beginning: what it had written is in %s", aside
    )


def requeued(run_dir: Path) -> str | None:
    """Return the checkpoint from which a training resumes that Slurm has restarted with the same words and folder."""
    saved = run_dir / LAST
    return str(saved) if restarted() and saved.is_file() else None


def freeze(config: DictConfig, run_dir: Path) -> Path:
    """Write the resolved config into the folder, with the command, the versions and the prompts; return its path."""
    run_dir.mkdir(parents=True, exist_ok=True)
    resolved = config.copy()
    OmegaConf.resolve(resolved)
    path = run_dir / CONFIG
    if local_rank() == 0:
        found: dict[str, Any] = {"python": platform.python_version(), "steer-lit": __version__}
        found |= {name: version(name) for name in RECORDED}
        found |= {"date": datetime.now().isoformat(" ", timespec="minutes"), "command": typed_command()}
        found["commands"] = _commands(run_dir)
        found["prompts"] = digests(_own_prompts(config))
        replace_text(run_dir / VERSIONS, json.dumps(found, indent=2) + "\n")
        replace_text(path, OmegaConf.to_yaml(resolved))
    return path


def _own_prompts(config: DictConfig) -> dict[str, str]:
    """Return the folders whose prompts replace the package's, by the name of the player that uses them."""
    return {name: own for name in ASKING if isinstance(own := at_ours(config, f"{name}.prompts"), str)}


def _commands(run_dir: Path) -> list[str]:
    """Return the commands of the run, oldest first and each with its folder. A resumed run has several."""
    earlier, command = list(saved_versions(run_dir).get("commands", [])), typed_command(run_dir)
    return earlier if command in ("", *earlier[-1:]) else [*earlier, command]


def mark_finished(run_dir: Path) -> None:
    """Record that the training in the folder ran to its end. `freeze` removes the record when a run begins there."""
    replace_text(run_dir / VERSIONS, json.dumps({**saved_versions(run_dir), "finished": True}, indent=2) + "\n")


def finished(run_dir: Path, config: DictConfig) -> bool:
    """Return whether the folder holds a training of exactly this config, resumed or not, that ran to its end."""
    return at_its_end(run_dir) and begun_as(run_dir, config)


def at_its_end(run_dir: Path) -> bool:
    """Return whether the folder holds a training that ran to its end."""
    return saved_versions(run_dir).get("finished") is True


def begun_as(run_dir: Path, config: DictConfig) -> bool:
    """Return whether the folder holds a training of exactly this config, resumed or not."""
    if not (run_dir / CONFIG).is_file():
        return False
    saved, asked = OmegaConf.load(run_dir / CONFIG), config.copy()
    saved.ckpt_path = asked.ckpt_path = None
    return bool(OmegaConf.to_container(saved) == OmegaConf.to_container(asked, resolve=True))


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
