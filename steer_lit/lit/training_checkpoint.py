"""Writes and reads a training checkpoint, which may hold plain types only (TRAPS 33), and the random state for it."""

from __future__ import annotations

import os
import pickle
import random
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from steer_lit.errors import SteerError
from steer_lit.stages import STAGES
from steer_lit.terminal.commands import path_word
from steer_lit.texts import first_lines

OWN = "steer_lit"  # the key under which PolicyModule adds to Lightning's checkpoint
PLACE = "SteerDataModule"  # Lightning's key for our datamodule's state: the stage, and where a run stands in its data
_RESUMED = (PLACE, "optimizer_states", OWN)  # checkpoints of other programs lack at least one
ANOTHER = "it is damaged, or of a run that trains something else: name another .ckpt of this run"


class CheckpointFile(TorchCheckpointIO):
    """Writes a checkpoint beside its place, then puts it there whole.

    Lightning's own goes through memory twice, and through $TMPDIR, which may have less room: GRPO of 7B saves 3 GB.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Raise OSError if there is no room, and leave none of the file. What a killed save left is overwritten."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        try:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
            os.replace(part, path)
        except RuntimeError as error:  # torch's, which covers the system's and Ctrl-C's
            covered = error.__context__
            raise covered if isinstance(covered, OSError | KeyboardInterrupt) else error from None
        finally:
            part.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the file's content, its tensors still on disk.

    Raise SteerError unless it is a training checkpoint of ours, in plain types: no code in it is ever run.
    """
    try:
        saved = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # hostile bytes: torch raises UnpicklingError, RuntimeError, KeyError, EOFError, ...
        reason = "is damaged, or no checkpoint at all"  # torch's message advises weights_only=False, to run its code
        if isinstance(error, OSError):
            reason = f"cannot be read ({first_lines(error):.200})"
        elif isinstance(error, pickle.UnpicklingError) and (named := re.search(r"GLOBAL (\S+)", str(error))):
            reason = f"names {named[1]}, code that is not run"
        raise SteerError(f"ckpt_path={str(path)!r}: {reason}: name a .ckpt under <run>/checkpoints") from None
    if missing := [key for key in _RESUMED if not isinstance(saved, dict) or key not in saved]:
        remedy = f"was not written by steer_lit, it holds no {missing[-1]}: name a .ckpt under <run>/checkpoints"
        raise SteerError(f"ckpt_path={str(path)!r}: {remedy}")
    return dict(saved)


def check_stage(saved: Mapping[str, Any], stage: str, path: Path) -> None:
    """Raise SteerError if the checkpoint `saved`, the file `path`, is of another stage than `stage`."""
    there = saved[PLACE]["stage"]
    if there == stage:
        return
    facts = STAGES[there]
    said = f"ckpt_path={str(path)!r}: is a checkpoint of stage {there}, this run is of stage {stage}"
    if stage not in facts.followed_by:
        raise SteerError(f"{said}: resume with the experiment that wrote it")
    export = facts.export
    here = path.parent.parent / export.path
    start = shlex.quote(path_word(export.key, here)) if here.exists() else f"{export.key}=<run>/{export.path}"
    raise SteerError(f"{said}, which starts from its {export.label}: {start} in place of ckpt_path")


def random_state() -> dict[str, Any]:
    """Return the state of the torch (CPU and this process's GPU), numpy and Python generators."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    words_of_numpy = torch.from_numpy(np.asarray(keys, dtype=np.int64))
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "python": [version, list(words), gauss],
        "numpy": [str(name), words_of_numpy, int(position), int(has_gauss), float(cached)],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Restore what `random_state` returned. Do it last: building a model consumes random numbers (TRAPS 34)."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
