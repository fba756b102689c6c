"""Builds commands for the user to type again, and finds the config folder."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, ParamSpec, TypeVar, cast

import hydra
from hydra._internal.hydra import Hydra  # hydra.main does with them what is done here
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from steer_lit.errors import SteerError

P = ParamSpec("P")
T = TypeVar("T")
_POLICY = re.compile(r"policies\.[\w-]+")
_CONFIG_DIR = "--config-dir="
_PROVIDER = "command-line"  # Hydra's name for who added the folder of --config-dir
_LONGEST = 150  # letters of a folder's name: file systems allow 255 bytes


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a command line as Hydra reads it: the `sign` before the `key`, one of "", "+", "++" and "~", and the
    text `given` after its `=`, as typed.
    """

    sign: str
    key: str
    given: str

    @classmethod
    @cache
    def read(cls, text: str) -> Word | None:
        """Read a word. Return None if Hydra cannot."""
        try:
            key = OverridesParser.create().parse_override(text).get_key_element()
        except HydraException:
            return None
        name = key.lstrip("+~")
        return cls(key.removesuffix(name), name, text.partition("=")[2])


def carried(words: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Return the words that set one of `keys`. `server.*` stands for every key below `server`."""

    def sets_one(word: Word | None) -> bool:
        return word is not None and word.sign != "~" and any(fnmatchcase(word.key, key) for key in keys)

    return [word for word in words if sets_one(Word.read(word))]


def conf_dir() -> Path:
    """Return the config folder: `conf/` of the checkout, or the copy inside an installed package."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise SteerError(f"no conf/ beside or inside {package}: reinstall steer-lit")


class _Added:
    folder: ClassVar[Path | None] = None  # of --config-dir, absolute
    forget: ClassVar[list[Callable[[], None]]] = []  # what was read while other folders held the configs


def find_configs_in(folder: Path | None) -> None:
    """Look for configs in `folder`, that of `--config-dir`, before conf/, and name it in every command."""
    if folder != _Added.folder:
        _Added.folder = folder
        for forget in _Added.forget:
            forget()


def read_once(function: Callable[P, T]) -> Callable[P, T]:
    """Keep what a function reads of the configs until `find_configs_in` changes where they lie."""
    kept: Any = cache(function)
    _Added.forget.append(kept.cache_clear)
    return cast(Callable[P, T], kept)


def folder_of_hydra() -> Path | None:
    """Return the folder of `--config-dir` that Hydra composed the run's config with."""
    sources = HydraConfig.get().runtime.config_sources
    return next((Path(source.path) for source in sources if source.provider == _PROVIDER), None)


def conf_dirs() -> list[Path]:
    """Return the folders in which Hydra looks for configs, in its order."""
    return [*([] if _Added.folder is None else [_Added.folder]), conf_dir()]


def conf_file(name: str) -> Path | None:
    """Return the config file that Hydra takes for `name`, such as `judge/llm.yaml`, or None."""
    return next((path for folder in conf_dirs() if (path := folder / name).is_file()), None)


def conf_files(group: str) -> Iterator[Path]:
    """Yield the config files of a group, or with `*` those of all groups."""
    for folder in conf_dirs():
        yield from folder.glob(f"{group}/*.yaml")


def program_conf(name: str) -> Path:
    """Return the config that the program `name` begins with."""
    return conf_file(f"{name}.yaml") or conf_dir() / f"{name}.yaml"


def composed(name: str, words: Sequence[str]) -> dict[str, Any] | None:
    """Return the config composed of `words`, unresolved, or None if they do not compose."""
    taken = [word for word in words if not word.startswith("-")]
    with suppress(HydraException, OmegaConfBaseException), _hydra_begun():
        config: Any = OmegaConf.to_container(hydra.compose(name, taken), resolve=False)
        return dict(config)
    return None


@contextmanager
def _hydra_begun() -> Iterator[None]:
    if GlobalHydra.instance().is_initialized():  # it knows the folders, and must not be initialized again
        yield
        return
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        if _Added.folder is not None:  # hydra.searchpath would put it behind conf/
            path = create_config_search_path(str(conf_dir()))
            path.prepend(_PROVIDER, f"file://{_Added.folder}")
            GlobalHydra.instance().clear()
            Hydra.create_main_hydra2("app", path)
        yield


def program(name: str) -> str:
    """Return the beginning of a command of the program `name`, with `--config-dir` if that was typed."""
    given = [] if _Added.folder is None else [shlex.quote(f"{_CONFIG_DIR}{shown_path(_Added.folder)}")]
    return " ".join([script(name), *given])


def script(name: str) -> str:
    """Return the program `name` as it is called: the checkout's script, or the installed command."""
    return f"python {name}.py" if (conf_dir().parent / f"{name}.py").is_file() else f"steer-{name}"


def typed_words() -> list[str]:
    """Return this run's overrides as one types them, without `ckpt_path`; in a sweep, one run's.

    The only `hydra.*` overrides included are those of `hydra.job.env_set`.
    """
    if not HydraConfig.initialized():  # a further rank
        return []
    given = HydraConfig.get().overrides
    words = [*given.task, *carried(given.hydra, ["hydra.job.env_set", "hydra.job.env_set.*"])]
    checkpoint = carried(words, ["ckpt_path"])
    return [_as_taught(word) for word in words if word not in checkpoint]


def _as_taught(word: str) -> str:
    """Give the word the signs that the documentation uses. `normalise_override` changes them for Hydra."""
    if names_policy(word):
        return word.removeprefix("++")
    return f"+{word}" if word.startswith("experiment=") else word


def names_policy(word: str) -> bool:
    """Return whether the word sets `policies.<name>`, with or without Hydra's signs."""
    return (read := Word.read(word)) is not None and read.sign != "~" and bool(_POLICY.fullmatch(read.key))


def typed_command(run_dir: Path | None = None) -> str:
    """Return this run's command, with `hydra.run.dir` if `run_dir` is given. "" for a further rank.

    Other `hydra.*` overrides are left out: they may set environment variables to secrets.
    """
    if not HydraConfig.initialized():
        return ""
    told, folder = HydraConfig.get(), [] if run_dir is None else [typed("hydra.run.dir", run_dir)]
    words = map(shlex.quote, map(_as_taught, told.overrides.task))
    return " ".join([program(str(told.job.config_name)), *words, *folder])


def sweeping() -> bool:
    """Return whether this run is part of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def name_sweeps_folders(words: Sequence[str]) -> None:
    """Let `${swept:...}` in conf/hydra/default.yaml name the folders of a sweep's runs after the values swept over.

    In processes started by a launcher `words` are unknown: their folders are named by number only.
    """
    OmegaConf.register_new_resolver("swept", partial(_swept, list(words)), replace=True)


def _swept(words: Sequence[str], of_run: Sequence[str]) -> str:
    """Return a run's values of the keys that `words` sweep over, such as `_reward.alpha-0.3_seed-1`.

    The text follows the number in the folder's name. Values that a shell or Hydra would need quoted are left out, and
    so are parts that make the name too long.
    """
    fixed = {word.key for text in words if (word := Word.read(text)) is not None and not sweeps(text)}
    name = ""
    for text in of_run if words else []:
        if (word := Word.read(text)) is None or word.sign == "~" or word.key in fixed:
            continue
        part = f"_{word.key}-{word.given}"
        if re.fullmatch(r"[\w.+-]+", part, re.ASCII) and len(name + part) <= _LONGEST:
            name += part
    return name


def sweeps(text: str) -> bool:
    """Return whether an override stands for several values."""
    return OverridesParser.create().parse_override(text).is_sweep_override()


name_sweeps_folders([])


def going_on(name: str, words: Sequence[str], run_dir: Path) -> str:
    """Return the command of the program `name` that goes on in the run's folder, with `words`."""
    return " ".join([program(name), *map(shlex.quote, words), typed("hydra.run.dir", run_dir)])


def sweeping_on(name: str, words: Sequence[str], folder: Path) -> str:
    """Return the command that runs the rest of a stopped sweep in `folder`, begun with `words`."""
    named = carried(words, ["hydra.sweep.dir"])
    kept = [word for word in words if word not in named and not word.startswith(_CONFIG_DIR)]  # as `program` adds it
    kept = [shlex.quote(_as_taught(word)) for word in kept]
    return " ".join([program(name), *kept, typed("hydra.sweep.dir", folder)])


def typed(key: str, *paths: Path) -> str:
    """Return `key=path`, or `key=[path,path]` for several, as one types it, quoted for both the shell and Hydra."""
    read = [_read_by_hydra(str(shown_path(path))) for path in paths]
    return shlex.quote(f"{key}={read[0]}" if len(read) == 1 else f"{key}=[{','.join(read)}]")


def _read_by_hydra(path: str) -> str:
    """Return the path, in quotes if it has more than plain letters."""
    if re.fullmatch(r"[\w./+-]+", path, re.ASCII):
        return path
    quoted = path.replace('"', r"\"")
    return f'"{quoted}"'


def shown_path(run_dir: Path) -> Path:
    """Return the path as one types it here: relative if it is below the current folder."""
    return run_dir.relative_to(Path.cwd()) if run_dir.is_relative_to(Path.cwd()) else run_dir
