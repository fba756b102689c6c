"""Checks of a model's config before anything heavy loads: bad values, missing weights, no GPU.

No torch, no transformers: a config check must answer at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from steer_lit.errors import MissingResource, Problem
from steer_lit.policy import base_model_files, gpus
from steer_lit.policy.model_facts import BUILT_HERE, SHIPPED, nano_folder, tower_file
from steer_lit.policy.model_values import DEVICE, value_problems

# The sizes by which nano's architecture is recognised.
_SIZES = {"text_config": ("vocab_size", "hidden_size", "num_hidden_layers"), "vision_config": ("hidden_size", "depth")}


def preflight(model: Mapping[str, Any]) -> list[Problem]:
    """Return every problem of the `model` section (plain containers, interpolations resolved) on this machine."""
    return value_problems(model) + resource_problems(model)


def resource_problems(model: Mapping[str, Any]) -> list[Problem]:
    """Return what the config asks for and this machine lacks."""
    name, source = model.get("name"), model.get("source")
    problems = []
    if model.get("quantize") == "nf4":
        if find_spec("bitsandbytes") is None:
            problems.append(Problem("model.quantize", "nf4", "needs bitsandbytes: pip install bitsandbytes"))
        if name not in BUILT_HERE and not gpus.has_gpu():
            here = ", ".join(f"model={small}" for small in BUILT_HERE)
            remedy = f"no NVIDIA GPU is visible, and {name} in 4 bits needs one; a CPU runs {here}"
            problems.append(Problem("model.quantize", "nf4", remedy))
    problems += _device_problems(model.get("device"))
    if name == "smol":
        problems += _smol_problems()
    elif name not in BUILT_HERE and source:
        problems += _source_problems(source)
    if (tower := tower_file(str(name), model.get("tower"))) and not tower.is_file():
        remedy = "is not a file; `trained` is the tower that comes with the package, null is the base's own"
        problems.append(Problem("model.tower", model["tower"], remedy))
    if (weights := nano_folder(model.get("weights"))) and not _is_nano(weights):
        remedy = (
            "is no <run>/base of +experiment=pretrain_nano: `shipped` is the package's, null starts from fresh weights"
        )
        problems.append(Problem("model.weights", model["weights"], remedy))
    return problems


def _is_nano(folder: Path) -> bool:
    """Return whether the checkpoint has nano's sizes: layers that it lacks would be random weights."""
    if not _is_checkpoint(folder):
        return False
    try:
        own, given = (json.loads((at / "config.json").read_text(encoding="utf-8")) for at in (SHIPPED, folder))
        return all(given[part][size] == own[part][size] for part, sizes in _SIZES.items() for size in sizes)
    except (ValueError, LookupError, TypeError):
        return False


def _device_problems(device: object) -> list[Problem]:
    if not (isinstance(device, str) and device.startswith("cuda") and (named := DEVICE.fullmatch(device))):
        return []
    count = gpus.visible_gpus()
    if int(named[1] or 0) < count:
        return []
    found = "no NVIDIA GPU is visible" if not count else f"the last NVIDIA GPU visible here is cuda:{count - 1}"
    return [Problem("model.device", device, f"{found}: name another, or leave it at null, which takes what there is")]


def _smol_problems() -> list[Problem]:
    from steer_lit.policy.smollm2 import find_source

    try:
        source = find_source()
    except MissingResource as error:
        return [Problem("model.name", "smol", str(error))]
    if source.gguf_file and find_spec("gguf") is None:
        return [Problem("model.name", "smol", "reading SmolLM2's GGUF file needs gguf: pip install gguf")]
    return []


def _source_problems(source: str) -> list[Problem]:
    if Path(source).is_dir():
        if _is_checkpoint(Path(source)):
            return []
        return [Problem("model.source", source, "is not a checkpoint folder (config.json and *.safetensors)")]
    if not (missing := base_model_files.uncached(source)):
        return []
    lacking = f"is no folder, and its {missing[0]} is not in the Hugging Face cache"
    if base_model_files.is_offline():
        return [Problem("model.source", source, f"{lacking}, and HF_HUB_OFFLINE is set")]
    if not base_model_files.hub_answers():
        from huggingface_hub import constants

        remedy = f"{lacking}, and {constants.ENDPOINT} does not answer; give a folder instead"
        return [Problem("model.source", source, remedy)]
    return []


def _is_checkpoint(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
