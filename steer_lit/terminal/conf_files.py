"""Finds the config files as Hydra does, in `conf/` and in the folder of `--config-dir`, and composes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from steer_lit.errors import SteerError

_PROVIDER = "command-line"  # Hydra's name for who added the folder of --config-dir


class _Own:
    folder: ClassVar[Path | None] = None  # of --config-dir, absolute


def find_configs_in(folder: Path | None) -> None:
    """Look for configs in `folder`, that of `--config-dir`, after conf/, and name it in every command."""
    _Own.folder = folder
    loaded.cache_clear()  # the files may have changed since another run in this process
    _composed.cache_clear()


def own_conf_dir() -> Path | None:
    """Return the folder of `--config-dir`, if that was typed."""
    return _Own.folder


def never_read() -> list[Path]:
    """Return the files in the folder of `--config-dir` in whose place Hydra takes those of the same name in conf/."""
    if (folder := _Own.folder) is None:
        return []
    names = (path.relative_to(conf_dir()) for path in sorted(conf_dir().rglob("*.yaml")))
    return [own for name in names if (own := folder / name).is_file() and not own.samefile(conf_dir() / name)]


def folder_of_hydra() -> Path | None:
    """Return the folder of `--config-dir` that Hydra composed the run's config with."""
    sources = HydraConfig.get().runtime.config_sources
    return next((Path(source.path) for source in sources if source.provider == _PROVIDER), None)


@cache
def conf_dir() -> Path:
    """Return the config folder: `conf/` of the checkout, or the copy inside an installed package."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise SteerError(f"no conf/ beside or inside {package}: reinstall steer-lit")


def _conf_dirs() -> list[Path]:
    """Return the folders in which Hydra looks for configs, in its order."""
    return [conf_dir(), *([] if _Own.folder is None else [_Own.folder])]


def conf_file(name: str) -> Path | None:
    """Return the config file that Hydra takes for `name`, such as `judge/llm.yaml`, or None."""
    return next((path for folder in _conf_dirs() if (path := folder / name).is_file()), None)


def conf_files(group: str) -> Iterator[Path]:
    """Yield the config files of a group, or with `*` those of all groups."""
    for folder in _conf_dirs():
        yield from folder.glob(f"{group}/*.yaml")


@cache
def loaded(path: Path) -> Any:
    """Return what a config file holds, unresolved."""
    return OmegaConf.to_container(OmegaConf.load(path))


def composed(name: str, words: Sequence[str]) -> Mapping[str, Any] | None:
    """Return the config composed of `words`, unresolved, or None if they do not compose."""
    return _composed(_Own.folder, name, tuple(words))


@cache
def _composed(folder: Path | None, name: str, words: tuple[str, ...]) -> Mapping[str, Any] | None:
    with suppress(HydraException, OmegaConfBaseException, ValueError):  # ValueError: an option named `3`
        return compose(name, words)
    return None


def compose(name: str, words: Sequence[str]) -> Mapping[str, Any]:
    """Return the config composed of `words`, unresolved. Raise Hydra's error if they do not compose."""
    begun = GlobalHydra.instance().is_initialized()  # it knows the folders, and must not be initialized again
    own = []
    if not begun and _Own.folder is not None:
        own = [f"hydra.searchpath=[{QuotedString(f'file://{_Own.folder}', Quote.single).with_quotes()}]"]
    with nullcontext() if begun else hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config: Any = OmegaConf.to_container(hydra.compose(name, [*own, *words]), resolve=False)
        return dict(config)
