"""Reads a training checkpoint: plain types alone, with everything that a run resumes from."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from steer_lit.errors import SteerError
from steer_lit.terminal.visible import first_lines

OWN = "steer_lit"  # the key of what PolicyModule adds to Lightning's
PLACE = "SteerDataModule"  # Lightning's key for the state of our datamodule: where a run stands in its data
# What Lightning and this package take out of a checkpoint without looking whether it is there.
_RESUMED: Mapping[str, type] = {
    "state_dict": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "loops": dict,
    "epoch": int,
    "global_step": int,
    OWN: dict,
}
_WITHIN = {"loops": ("fit_loop",), OWN: ("fingerprint", "trained_as", "random_states")}
ANOTHER = "it is damaged, or of a run that trains something else: name another .ckpt of this run"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What the file holds, its tensors still on disk.

    Raises SteerError unless that is all a run resumes from, in plain types: nothing in it is ever run.
    """
    try:
        saved = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # hostile bytes: torch raises UnpicklingError, RuntimeError, KeyError, EOFError, ...
        reason = "is damaged, or no checkpoint at all"  # torch's own words advise to load it by running what is in it
        if isinstance(error, OSError):
            reason = f"cannot be read ({first_lines(error):.200})"
        elif isinstance(error, pickle.UnpicklingError) and (named := re.search(r"GLOBAL (\S+)", str(error))):
            reason = f"names {named[1]}, code that is not run"
        raise SteerError(f"ckpt_path={str(path)!r}: {reason}: name a .ckpt under <run>/checkpoints") from None
    if missing := _missing(saved):
        remedy = f"was not written by steer_lit, it holds no {missing[-1]}: name a .ckpt under <run>/checkpoints"
        raise SteerError(f"ckpt_path={str(path)!r}: {remedy}")
    return dict(saved)


def _missing(saved: Any) -> list[str]:
    """Names of what a run resumes from and `saved` lacks, or holds as another type."""
    if not isinstance(saved, dict):
        return list(_RESUMED)
    if missing := [key for key, kind in _RESUMED.items() if not isinstance(saved.get(key), kind)]:
        return missing
    return [f"{key}.{part}" for key, parts in _WITHIN.items() for part in parts if part not in saved[key]]
