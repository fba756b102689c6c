"""Checks for values in a model's config that are wrong on any machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from steer_lit.errors import Problem
from steer_lit.numbers import Bound, bound_problems, is_whole, whole
from steer_lit.policy.model_facts import BUILT_HERE, LINEAR_LAYERS, LORA_ALPHA, LORA_RANK, NumberType, Quantization

_NUMBERS = ("auto", *get_args(NumberType))
_CHOICES = {"quantize": get_args(Quantization), "dtype": _NUMBERS, "lora.dtype": _NUMBERS}
_BOUNDS = {
    "lora.r": LORA_RANK,
    "lora.alpha": LORA_ALPHA,
    "lora.dropout": Bound(0, 1, below=True),
    "min_pixels": whole(1),
}
DEVICE = re.compile(r"cpu|cuda(?::(\d+))?")


def value_problems(model: Mapping[str, Any]) -> list[Problem]:
    """Return the values that cannot work on any machine."""
    lora: Mapping[str, Any] = model.get("lora") or {}
    flat = {**model, **{f"lora.{key}": value for key, value in lora.items()}}
    problems = [
        Problem(f"model.{key}", flat[key], f"must be one of {', '.join(allowed)}")
        for key, allowed in _CHOICES.items()
        if key in flat and flat[key] not in allowed
    ]
    device = model.get("device")
    if device is not None and not (isinstance(device, str) and DEVICE.fullmatch(device)):
        problems.append(Problem("model.device", device, "must be null, cpu, cuda or cuda:<number>"))
    fewest = model["min_pixels"] if is_whole(model.get("min_pixels")) else 1
    bounds = {**_BOUNDS, "max_pixels": whole(fewest, said="must be a whole number from model.min_pixels up")}
    problems += bound_problems(flat, bounds, "model.")
    targets = flat.get("lora.targets", LINEAR_LAYERS)
    if not targets or set(targets) - set(LINEAR_LAYERS):
        problems.append(Problem("model.lora.targets", targets, f"must name some of {', '.join(LINEAR_LAYERS)}"))
    name = model.get("name")
    if name not in BUILT_HERE and not model.get("source"):
        problems.append(Problem("model.source", model.get("source"), f"model {name!r} needs a hub id or a folder"))
    if name in BUILT_HERE and model.get("source"):
        problems.append(Problem("model.source", model["source"], f"model {name!r} is built here and reads no source"))
    if name not in ("nano", "smol") and model.get("tower"):
        remedy = "only model=nano and model=smol take vision tower weights"
        problems.append(Problem("model.tower", model["tower"], remedy))
    if name != "nano" and model.get("weights"):
        remedy = "only model=nano takes these: the others name a model.source or are built here"
        problems.append(Problem("model.weights", model["weights"], remedy))
    if name == "nano" and model.get("weights") != "shipped" and model.get("tower") == "trained":
        remedy = "learnt to see for model.weights=shipped: name a file of +experiment=ground_nano, or null"
        problems.append(Problem("model.tower", "trained", remedy))
    return problems
