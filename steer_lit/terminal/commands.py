"""Builds commands for the user to type again, and finds the config folder they choose from."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from steer_lit.errors import SteerError

_POLICY = re.compile(r"policies\.[\w-]+")
_LONGEST = 150  # letters of a folder's name: file systems take 255 bytes


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a command line as Hydra reads it: `sign` is what stands before the `key`, "", "+", "++" or "~"; `given`
    what follows its `=`, as typed.
    """

    sign: str
    key: str
    given: str

    @classmethod
    @cache
    def read(cls, text: str) -> Word | None:
        """None for a word that Hydra does not read."""
        try:
            key = OverridesParser.create().parse_override(text).get_key_element()
        except HydraException:
            return None
        name = key.lstrip("+~")
        return cls(key.removesuffix(name), name, text.partition("=")[2])


def carried(words: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Those words that set one of the keys, of which `server.*` stands for all below `server`."""

    def sets_one(word: Word | None) -> bool:
        return word is not None and word.sign != "~" and any(fnmatchcase(word.key, key) for key in keys)

    return [word for word in words if sets_one(Word.read(word))]


def conf_dir() -> Path:
    """The config folder: `conf/` of the checkout, or the copy inside an installed package."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise SteerError(f"no conf/ beside or inside {package}: reinstall steer-lit")


def composed(name: str, words: Sequence[str]) -> dict[str, Any] | None:
    """The config that `words` compose, as it is written; None where they do not."""
    taken = [word for word in words if not word.startswith("-")]
    running = GlobalHydra.instance().is_initialized()  # in a run of Hydra's, which knows the folder and begins once
    begun = nullcontext() if running else hydra.initialize_config_dir(str(conf_dir()), version_base="1.3")
    with suppress(HydraException, OmegaConfBaseException), begun:
        config: Any = OmegaConf.to_container(hydra.compose(name, taken), resolve=False)
        return dict(config)
    return None


def program(name: str) -> str:
    """How this program is called here: the checkout's script, or the installed command."""
    return f"python {name}.py" if (conf_dir().parent / f"{name}.py").is_file() else f"steer-{name}"


def typed_words() -> list[str]:
    """This run's overrides as they can be typed, without `ckpt_path`, in a sweep one run's; of Hydra's own only
    `hydra.job.env_set`.
    """
    if not HydraConfig.initialized():  # a further rank
        return []
    given = HydraConfig.get().overrides
    words = [*given.task, *carried(given.hydra, ["hydra.job.env_set", "hydra.job.env_set.*"])]
    checkpoint = carried(words, ["ckpt_path"])
    return [_as_taught(word) for word in words if word not in checkpoint]


def _as_taught(word: str) -> str:
    """Give the word the signs that the documents have. `normalise_override` changed them for Hydra, and will again."""
    if names_policy(word):
        return word.removeprefix("++")
    return f"+{word}" if word.startswith("experiment=") else word


def names_policy(word: str) -> bool:
    """Whether the word says what a policy of the user's own naming is, with or without Hydra's signs."""
    return (read := Word.read(word)) is not None and read.sign != "~" and bool(_POLICY.fullmatch(read.key))


def typed_command(run_dir: Path | None = None) -> str:
    """This run's command without what is Hydra's own, such as variables, which may be secret, but for its folder where
    `run_dir` names it. "" for a further rank.
    """
    if not HydraConfig.initialized():
        return ""
    told, folder = HydraConfig.get(), [] if run_dir is None else [typed("hydra.run.dir", run_dir)]
    words = map(shlex.quote, map(_as_taught, told.overrides.task))
    return " ".join([program(str(told.job.config_name)), *words, *folder])


def sweeping() -> bool:
    """Whether this run is one of a sweep's."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def name_sweeps_folders(words: Sequence[str]) -> None:
    """Let conf/hydra/default.yaml's `${swept:...}` name the folders of a sweep's runs for what `words` sweep over.

    A launcher that starts other processes has no words there: folders then have their numbers alone.
    """
    OmegaConf.register_new_resolver("swept", partial(_swept, list(words)), replace=True)


def _swept(words: Sequence[str], of_run: Sequence[str]) -> str:
    """What a run's words choose that `words` leave open, such as `_reward.alpha-0.3_seed-1`, to follow its number.

    Values that would need quotes in a path, of a shell or of Hydra, are left out, and so is what makes a name long.
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
    """Whether an override stands for several values."""
    return OverridesParser.create().parse_override(text).is_sweep_override()


name_sweeps_folders([])


def going_on(name: str, words: Sequence[str], run_dir: Path) -> str:
    """The command of the program `name`, called with `words`, that goes on in the run's folder."""
    return " ".join([program(name), *map(shlex.quote, words), typed("hydra.run.dir", run_dir)])


def sweeping_on(name: str, words: Sequence[str]) -> str:
    """The command that runs what a stopped sweep has left, which was begun with `words`."""
    folder, named = Path.cwd() / str(HydraConfig.get().sweep.dir), carried(words, ["hydra.sweep.dir"])
    kept = [shlex.quote(_as_taught(word)) for word in words if word not in named]
    return " ".join([program(name), *kept, typed("hydra.sweep.dir", folder)])


def typed(key: str, path: Path) -> str:
    """`key=path` as a shell and Hydra take it: what is more than plain letters stands in quotes of both."""
    shown = str(shown_path(path))
    if re.fullmatch(r"[\w./+-]+", shown, re.ASCII):
        return f"{key}={shown}"
    quoted = shown.replace('"', r"\"")
    return shlex.quote(f'{key}="{quoted}"')


def shown_path(run_dir: Path) -> Path:
    """The folder as it would be typed here."""
    return run_dir.relative_to(Path.cwd()) if run_dir.is_relative_to(Path.cwd()) else run_dir
