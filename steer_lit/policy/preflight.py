"""Checks a model's config before anything heavy loads: bad values, missing weights, no GPU.

No torch, no transformers: a config check must answer at once. The hub gets three seconds to show it is there.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Any, get_args

from steer_lit.errors import MissingResource, Problem
from steer_lit.numbers import Bound, is_whole, whole
from steer_lit.policy.known import (
    BUILT_HERE,
    LINEAR_LAYERS,
    LORA_ALPHA,
    LORA_RANK,
    MOST_TOKENS,
    SHIPPED,
    NumberType,
    Quantization,
    nano_folder,
    no_adapter,
    tower_file,
)

_NUMBERS = ("auto", *get_args(NumberType))
_CHOICES = {"quantize": get_args(Quantization), "dtype": _NUMBERS, "lora.dtype": _NUMBERS}
_BOUNDS = {
    "lora.r": LORA_RANK,
    "lora.alpha": LORA_ALPHA,
    "lora.dropout": Bound(0, 1, below=True, said="must be a number from 0 to below 1"),
    "min_pixels": whole(1),
}
_DEVICE = re.compile(r"cpu|cuda(?::(\d+))?")
_HUB_PATIENCE_S = 3.0
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_GENERATION = "generation_config.json"  # the one file that a checkpoint may lack: config.json names an end token too
# By which another architecture is told from nano.
_SIZES = {"text_config": ("vocab_size", "hidden_size", "num_hidden_layers"), "vision_config": ("hidden_size", "depth")}


def preflight(model: Mapping[str, Any]) -> list[Problem]:
    """Every problem of the `model` section (plain containers, interpolations resolved) on this machine."""
    return value_problems(model) + resource_problems(model)


def value_problems(model: Mapping[str, Any]) -> list[Problem]:
    """Values that cannot work on any machine."""
    lora: Mapping[str, Any] = model.get("lora") or {}
    flat = {**model, **{f"lora.{key}": value for key, value in lora.items()}}
    problems = [
        Problem(f"model.{key}", flat[key], f"must be one of {', '.join(allowed)}")
        for key, allowed in _CHOICES.items()
        if key in flat and flat[key] not in allowed
    ]
    device = model.get("device")
    if device is not None and not (isinstance(device, str) and _DEVICE.fullmatch(device)):
        problems.append(Problem("model.device", device, "must be null, cpu, cuda or cuda:<number>"))
    fewest = model["min_pixels"] if is_whole(model.get("min_pixels")) else 1
    bounds = {**_BOUNDS, "max_pixels": whole(fewest, said="must be a whole number from model.min_pixels up")}
    for key, bound in bounds.items():
        if key in flat and not bound.fits(flat[key]):
            problems.append(Problem(f"model.{key}", flat[key], bound.allowed))
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


def resource_problems(model: Mapping[str, Any]) -> list[Problem]:
    """What the config asks for and this machine lacks."""
    name, source = model.get("name"), model.get("source")
    problems = []
    if model.get("quantize") == "nf4":
        if find_spec("bitsandbytes") is None:
            problems.append(Problem("model.quantize", "nf4", "needs bitsandbytes: pip install bitsandbytes"))
        if name not in BUILT_HERE and not has_gpu():
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
    if isinstance(adapter := model.get("init_from"), str) and (reason := no_adapter(Path(adapter))):
        problems.append(Problem("init_from", adapter, reason))
    return problems


def most_tokens(model: Mapping[str, Any]) -> int | None:
    """How many tokens the model was made to read; None where its config is not on this machine yet."""
    if (most := MOST_TOKENS.get(str(model.get("name")))) is not None:
        return most
    path = _checkpoint_file(model["source"], "config.json") if isinstance(model.get("source"), str) else None
    try:
        config = json.loads(path.read_text(encoding="utf-8")) if path else {}
        most = {**config, **config.get("text_config", {})}.get("max_position_embeddings")
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):  # what loads it will say so
        return None
    return most if type(most) is int else None


def weight_files(source: str) -> list[Path]:
    """The safetensors files of a checkpoint, folder or hub id, that are on this machine."""
    index = _checkpoint_file(source, _INDEX)
    names = _shards(index) if index else {_WEIGHTS}
    return sorted(path for name in names if (path := _checkpoint_file(source, name)))


def _checkpoint_file(source: str, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    try:
        found = try_to_load_from_cache(source, name)
    except HFValidationError:  # a path that does not exist, not a hub id
        return None
    return Path(found) if isinstance(found, str) else None


def _shards(index: Path) -> set[str]:
    return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())


def _device_problems(device: object) -> list[Problem]:
    if not (isinstance(device, str) and device.startswith("cuda") and (named := _DEVICE.fullmatch(device))):
        return []
    count = visible_gpus()
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
    if not (missing := uncached(source)):
        return []
    lacking = f"its {missing[0]} is not in the Hugging Face cache"
    if is_offline():
        return [Problem("model.source", source, f"{lacking}, and HF_HUB_OFFLINE is set")]
    if not hub_answers():
        from huggingface_hub import constants

        remedy = f"{lacking}, and {constants.ENDPOINT} does not answer; give a folder instead"
        return [Problem("model.source", source, remedy)]
    return []


def _is_checkpoint(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def _is_nano(folder: Path) -> bool:
    if not _is_checkpoint(folder):
        return False
    try:
        own, given = (json.loads((at / "config.json").read_text(encoding="utf-8")) for at in (SHIPPED, folder))
        return all(given[part][size] == own[part][size] for part, sizes in _SIZES.items() for size in sizes)
    except (ValueError, LookupError, TypeError):
        return False


def is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def is_cached(hub_id: str) -> bool:
    """Whether all that is read of a hub model is in the local cache, so that there is nothing to ask the hub.

    A file that no checkpoint must have counts as there once the hub has said that it has none.
    """
    from huggingface_hub import try_to_load_from_cache

    return not uncached(hub_id) and try_to_load_from_cache(hub_id, _GENERATION) is not None


def uncached(hub_id: str) -> list[str]:
    """Of the files without which no checkpoint loads, those that are not in the local cache."""
    index = _checkpoint_file(hub_id, _INDEX)
    weights = sorted(_shards(index)) if index else [_WEIGHTS]
    in_parts = _checkpoint_file(hub_id, "vocab.json") and _checkpoint_file(hub_id, "merges.txt")
    tokenizer = ["tokenizer_config.json", *([] if in_parts else ["tokenizer.json"])]
    return [name for name in ("config.json", *weights, *tokenizer) if not _checkpoint_file(hub_id, name)]


def hub_answers() -> bool:
    """Whether the hub (or its mirror, through the proxy if one is set) sends any HTTP answer in time."""
    from huggingface_hub import constants, get_session

    answers = []

    def ask() -> None:
        with contextlib.suppress(Exception):  # whatever went wrong, the hub did not answer
            answers.append(get_session().head(constants.ENDPOINT, timeout=_HUB_PATIENCE_S))

    # In a thread of its own, since looking up a host name knows no time-out.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_HUB_PATIENCE_S)
    return bool(answers)


def has_gpu() -> bool:
    """Whether an NVIDIA GPU is visible."""
    return visible_gpus() > 0


def visible_gpus() -> int:
    """How many NVIDIA GPUs this process may see, asked of NVML: initialising CUDA here would break processes forked
    later. Like CUDA, reads CUDA_VISIBLE_DEVICES up to the first number that is no GPU's.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None and named.strip() in ("", "-1", "NoDevFiles"):
        return 0
    count = _gpus_of_the_driver()
    if named is None or count == 0:
        return count
    entries = [entry.strip() for entry in named.split(",")]
    named_or_counted = (one.startswith(("GPU-", "MIG-")) or (one.isdecimal() and int(one) < count) for one in entries)
    return sum(takewhile(bool, named_or_counted))


def _gpus_of_the_driver() -> int:
    try:
        nvml = ctypes.CDLL("nvml.dll" if os.name == "nt" else "libnvidia-ml.so.1")
    except OSError:
        return 0
    count = ctypes.c_uint(0)
    if nvml.nvmlInit_v2() != 0:
        return 0
    try:
        return count.value if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0 else 0
    finally:
        nvml.nvmlShutdown()
