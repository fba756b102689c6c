"""Reads a training checkpoint: plain types alone, with everything that a run resumes from."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steer_lit.errors import SteerError
from steer_lit.numbers import is_whole
from steer_lit.policy.tensors import tensor_mismatch
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
_NUMBERS = ("seed", "epoch", "position", "rows")  # of a place
_GROUP = ("params", "lr", "initial_lr", "betas", "eps", "weight_decay")  # of an AdamW's parameters
_MOMENTS = ("exp_avg", "exp_avg_sq")
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
    if not _is_place(saved.get(PLACE)):
        raise SteerError(f"ckpt_path={str(path)!r}: its place in the data is damaged: name another .ckpt of that run")
    return dict(saved)


def _missing(saved: Any) -> list[str]:
    """Names of what a run resumes from and `saved` lacks, or holds as another type."""
    if not isinstance(saved, dict):
        return list(_RESUMED)
    if missing := [key for key, kind in _RESUMED.items() if not isinstance(saved.get(key), kind)]:
        return missing
    return [f"{key}.{part}" for key, parts in _WITHIN.items() for part in parts if part not in saved[key]]


def _is_place(place: Any) -> bool:
    """Whether it is a position in some data, or None."""
    if place is None:
        return True
    whole = isinstance(place, dict) and all(is_whole(place.get(key)) for key in _NUMBERS)
    return whole and isinstance(place.get("facts"), str) and 0 <= place["position"] <= place["rows"]


def checkpoint_mismatch(saved: Mapping[str, Any], trains: Mapping[str, Tensor]) -> str | None:
    """Why the weights and the optimizer's state in a checkpoint cannot be those of what `trains`, by name; None where
    they can. Lightning takes them as they come: what is missing keeps its start, what has another shape fails late.
    """
    weights = {f"policy.{name}": tensor for name, tensor in trains.items()}
    if reason := tensor_mismatch(saved.get("state_dict"), weights):
        return f"has other weights than this run trains, {reason}"
    optimizers, schedules = saved.get("optimizer_states"), saved.get("lr_schedulers")
    if not isinstance(optimizers, list) or len(optimizers) != 1 or not isinstance(optimizers[0], dict):
        return "has no state of one optimizer"
    if reason := _optimizer_mismatch(optimizers[0], trains, stepped=saved.get("global_step") != 0):
        return f"has an optimizer state that does not fit, {reason}"
    schedule = schedules[0] if isinstance(schedules, list) and len(schedules) == 1 else None
    if not isinstance(schedule, dict) or not is_whole(schedule.get("last_epoch")) or "lr_lambdas" not in schedule:
        return "has no state of one learning rate schedule"
    return None


def _optimizer_mismatch(saved: Mapping[str, Any], trains: Mapping[str, Tensor], *, stepped: bool) -> str | None:
    """Why `saved` cannot be the optimizer's state, None where it can. It has moments of every parameter, or of
    none where it has not `stepped`.
    """
    if reason := tensor_mismatch(saved.get("masters"), trains):
        return f"masters: {reason}"
    groups, state = saved.get("param_groups"), saved.get("state")
    group = groups[0] if isinstance(groups, list) and len(groups) == 1 else None
    if not isinstance(group, dict) or any(key not in group for key in _GROUP):
        return "param_groups"
    if group["params"] != list(range(len(trains))) or not isinstance(state, dict):
        return "state"
    if sorted(state, key=str) != (sorted(range(len(trains)), key=str) if stepped or state else []):
        return f"it has moments of {len(state)} parameters, not {len(trains)}"
    for number, (name, tensor) in enumerate(trains.items() if state else ()):
        moments = state[number]
        wanted = {**dict.fromkeys(_MOMENTS, tensor), "step": torch.zeros(())}
        if reason := tensor_mismatch(moments, wanted):
            return f"{name}: {reason}"
    return None
