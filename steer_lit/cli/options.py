"""Hydra's own options, such as `-m` and `--cfg job`, which may stand anywhere among the words of a command line."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser  # hydra.main reads the command line with it

from steer_lit.errors import SteerError

_ONE_OF = ("run", "multirun", "cfg", "info", "shell_completion")  # Hydra does one of these


def options_first(words: Sequence[str]) -> tuple[list[str], list[str], Path | None]:
    """Return Hydra's options, each in one word, the other words, and the folder of `--config-dir`.

    Hydra itself refuses words on both sides of an option. Raise SteerError for an option with a wrong value or without
    one, and for options that exclude each other.
    """

    def refuse(message: str) -> NoReturn:
        raise SteerError(f"{message}. key=value words need no option; --hydra-help lists the options")

    parser = get_args_parser()
    parser.allow_abbrev = False  # `--experiment` would stand for `--experimental-rerun`
    parser.error = refuse  # type: ignore[method-assign]  # argparse would print every option, and exit
    given, unknown = parser.parse_known_intermixed_args(list(words))
    chosen = [name for name in _ONE_OF if getattr(given, name)]
    if len(chosen) > 1:
        raise SteerError(f"{' '.join(_typed(given, chosen))}: exclude each other, leave one out")
    if given.resolve and not (given.cfg or given.help):
        raise SteerError("--resolve: goes with --cfg job, which shows the config: add that")
    for name in ("config_name", "config_path"):
        if getattr(given, name) is not None:
            remedy = "each program has its own config; files of yours go in a folder of --config-dir=<folder>"
            raise SteerError(f"{' '.join(_typed(given, [name]))}: {remedy}")
    folder = None if given.config_dir is None else Path(given.config_dir).absolute()
    if folder is not None and not (given.config_dir and folder.is_dir()):
        raise SteerError(f"--config-dir={given.config_dir}: there is no such folder here")
    if given.experimental_rerun is not None:
        remedy = "unpickles a file, which may run any code: type the run's words again; its config.yaml has all values"
        raise SteerError(f"--experimental-rerun={given.experimental_rerun}: {remedy}")
    options = list(_typed(given, [name for name in vars(given) if name != "overrides"]))
    return options, [*unknown, *given.overrides], folder


def _typed(given: Namespace, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        value = getattr(given, name)
        if value is True:
            yield "-m" if name == "multirun" else f"--{name.replace('_', '-')}"
        elif isinstance(value, str):
            yield f"--{name.replace('_', '-')}={value}"
