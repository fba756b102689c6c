"""Commands for the user to type again, built of this run's words and of paths."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from steer_lit.terminal.conf_files import conf_dir, own_conf_dir
from steer_lit.terminal.words import names_policy, words_besides, words_setting


def command(name: str, *words: str) -> str:
    """Return the command of a program with `words`, quoted for the shell, and this run's `--config-dir`, if any. The
    program is the checkout's script, in the folder in which this run's was typed, or the installed command.
    """
    checkout, typed = conf_dir().parent, Path(sys.argv[0])
    beside = typed.parent / f"{name}.py"
    there = typed.resolve().parent == checkout and beside.is_file()  # else `typed` may be a link to the script
    script = beside if there else Path(f"{name}.py")
    program = ["python", str(script)] if (checkout / script.name).is_file() else [f"steer-{name}"]
    folder = [] if (own := own_conf_dir()) is None else [f"--config-dir={shown_path(own)}"]
    return shlex.join([*program, *folder, *words])


def resume_command(name: str, words: Sequence[str], run_dir: Path) -> str:
    """Return the command of the program `name` that goes on in the run's folder, begun with `words`."""
    return command(name, *words, path_word("hydra.run.dir", run_dir))


def next_step(following: str, *wanted: str) -> str:
    """Return a program's last lines: the command that comes next and, each on a line of its own, what that lacks."""
    return "\n".join([f"next:    {following}", *(f"         ({want})" for want in wanted)])


def resuming_step(name: str, words: Sequence[str], run_dir: Path) -> str:
    """Return, on a line of its own, the command that goes on in the run's folder: "" in a sweep, whose own does."""
    return "" if sweeping() else f"\n{next_step(resume_command(name, words, run_dir))}"


def resume_sweep_command(name: str, words: Sequence[str], folder: Path) -> str:
    """Return the command that runs the rest of a stopped sweep in `folder`, begun with `words`."""
    kept = map(_as_taught, words_besides(words, ["hydra.sweep.dir"]))
    return command(name, "-m", *kept, path_word("hydra.sweep.dir", folder))


def typed_command(run_dir: Path | None = None) -> str:
    """Return this run's command, with `hydra.run.dir` if `run_dir` is given. "" for a further rank."""
    if not HydraConfig.initialized():
        return ""
    # Other `hydra.*` words are left out: they may set environment variables to secrets.
    settings, folder = HydraConfig.get(), [] if run_dir is None else [path_word("hydra.run.dir", run_dir)]
    return command(str(settings.job.config_name), *map(_as_taught, given_words("task")), *folder)


def typed_words() -> list[str]:
    """Return one run's overrides as typed, without `ckpt_path`, and of `hydra.*` only `hydra.job.env_set`."""
    if not HydraConfig.initialized():  # a further rank
        return []
    words = [*given_words("task"), *words_setting(given_words("hydra"), ["hydra.job.env_set", "hydra.job.env_set.*"])]
    return list(map(_as_taught, words_besides(words, ["ckpt_path"])))


def given_words(kind: str) -> list[str]:
    """Return this run's words of one `kind`, "task" or "hydra", as they were typed.

    OmegaConf would fill in a `${...}` of theirs, such as a key of the environment, and cannot if that is relative.
    """
    words: Any = OmegaConf.to_container(HydraConfig.get().overrides, resolve=False)
    return list(words[kind])


def _as_taught(word: str) -> str:
    """Give the word the signs that the documentation uses. `normalise_override` changes them for Hydra."""
    if names_policy(word):
        return word.removeprefix("++")
    return f"+{word}" if word.startswith("experiment=") else word


def sweeping() -> bool:
    """Return whether this run is part of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def folder_key() -> str:
    """Return the key that names the folder into which this run writes, or the sweep that it is part of."""
    return "hydra.sweep.dir" if sweeping() else "hydra.run.dir"


def path_word(key: str, *paths: Path | str) -> str:
    """Return the word `key=path`, or `key=[path,path]` for several, quoted for Hydra. A text is taken as it is."""
    read = [_read_by_hydra(str(shown_path(path) if isinstance(path, Path) else path)) for path in paths]
    return f"{key}={read[0]}" if len(read) == 1 else f"{key}=[{','.join(read)}]"


def _read_by_hydra(path: str) -> str:
    """Return the path, in quotes if it has more than plain letters."""
    if re.fullmatch(r"[\w./+-]+", path, re.ASCII):
        return path
    return '"' + path.replace('"', r"\"") + '"'


def shown_path(run_dir: Path) -> Path:
    """Return the path as one types it here: relative if it is below the current folder."""
    return run_dir.relative_to(Path.cwd()) if run_dir.is_relative_to(Path.cwd()) else run_dir
