"""Checks of a model's config before anything heavy loads: bad values, missing weights, no GPU.

No torch, no transformers: a config check must answer at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from steer_lit.allowed import type_problems
from steer_lit.errors import MissingResource, Problem
from steer_lit.numbers import is_whole
from steer_lit.policy import base_model_files, gpus
from steer_lit.policy.model_facts import (
    BUILT_HERE,
    LINEAR_LAYERS,
    SHIPPED,
    LinearLayer,
    LoraAlpha,
    LoraRank,
    NumberType,
    Quantization,
    nano_folder,
    tower_file,
)

_DEVICE = re.compile(r"^(?:cpu|cuda(?::(\d+))?)\Z")
_LAYERS = f"a list of some of {', '.join(LINEAR_LAYERS)}"
_KINDS: Mapping[str, Any] = {
    "model.quantize": Quantization,
    "model.dtype": Literal["auto", NumberType],
    "model.device": Annotated[str | None, Field(pattern=_DEVICE, description="null, cpu, cuda or cuda:<number>")],
    "model.min_pixels": PositiveInt,
    "model.lora.dtype": Literal["auto", NumberType],
    "model.lora.r": LoraRank,
    "model.lora.alpha": LoraAlpha,
    "model.lora.dropout": Annotated[float, Field(ge=0, lt=1)],
    "model.lora.targets": Annotated[list[LinearLayer], Field(min_length=1, description=_LAYERS)],
}
_ARCHITECTURE = "qwen2_5_vl"
# The sizes by which nano's architecture is recognised.
_SIZES = {"text_config": ("vocab_size", "hidden_size", "num_hidden_layers"), "vision_config": ("hidden_size", "depth")}


def preflight(model: Mapping[str, Any]) -> list[Problem]:
    """Return every problem of the `model` section (plain containers, interpolations resolved) on this machine."""
    return value_problems(model) + resource_problems(model)


def value_problems(model: Mapping[str, Any]) -> list[Problem]:
    """Return the values that cannot work on any machine."""
    fewest = model["min_pixels"] if is_whole(model.get("min_pixels")) else 1
    most = Annotated[int, Field(ge=fewest, description="a whole number from model.min_pixels up")]
    problems = type_problems({"model": model}, {**_KINDS, "model.max_pixels": most})
    name = model.get("name")
    if name not in BUILT_HERE and not model.get("source"):
        built = f"only with model.name={', '.join(BUILT_HERE[:-1])} or {BUILT_HERE[-1]} is it built here"
        remedy = f"model {name!r} needs a hub id or a folder: {built}"
        problems.append(Problem("model.source", model.get("source"), remedy))
    if name in BUILT_HERE and model.get("source"):
        problems.append(Problem("model.source", model["source"], f"model {name!r} is built here and reads no source"))
    if name not in ("nano", "smol") and model.get("tower"):
        remedy = "only model.name=nano and model.name=smol take vision tower weights"
        problems.append(Problem("model.tower", model["tower"], remedy))
    if name != "nano" and model.get("weights"):
        remedy = "only model.name=nano takes these: the others name a model.source or are built here"
        problems.append(Problem("model.weights", model["weights"], remedy))
    if name == "nano" and model.get("weights") != "shipped" and model.get("tower") == "trained":
        remedy = "learnt to see for model.weights=shipped: name a file of +experiment=ground_nano, or null"
        problems.append(Problem("model.tower", "trained", remedy))
    return problems


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
    if not (isinstance(device, str) and device.startswith("cuda") and (named := _DEVICE.fullmatch(device))):
        return []
    count = gpus.visible_gpus()
    if int(named[1] or 0) < count:
        return []
    found = "no NVIDIA GPU is visible" if not count else f"the last NVIDIA GPU visible here is cuda:{count - 1}"
    return [Problem("model.device", device, f"{found}: name another, or leave it at null, which takes what there is")]


def _smol_problems() -> list[Problem]:
    try:
        source = base_model_files.find_smol()
    except MissingResource as error:
        return [Problem("model.name", "smol", str(error))]
    if source.gguf_file and find_spec("gguf") is None:
        return [Problem("model.name", "smol", "reading SmolLM2's GGUF file needs gguf: pip install gguf")]
    return []


def _source_problems(source: str) -> list[Problem]:
    """Return what is wrong with a folder or a cached config. Whether a hub id can be loaded is known once it is."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    folder = Path(source)
    if folder.is_dir() and not _is_checkpoint(folder):
        return [Problem("model.source", source, "is not a checkpoint folder (config.json and *.safetensors)")]
    if (kind := base_model_files.checkpoint_config(source).get("model_type", _ARCHITECTURE)) != _ARCHITECTURE:
        remedy = f"its config.json says model_type={kind!r}, only {_ARCHITECTURE} can be trained: name a Qwen2.5-VL"
        return [Problem("model.source", source, remedy)]
    try:
        if not folder.is_dir():
            validate_repo_id(source)
    except HFValidationError:
        return [Problem("model.source", source, "is neither a folder nor a hub id such as owner/name")]
    return []


def _is_checkpoint(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
