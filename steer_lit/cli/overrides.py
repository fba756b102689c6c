"""The words of a command line before Hydra reads them, and the config groups that they choose from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser  # hydra.main reads the command line with it
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from steer_lit.errors import SteerError
from steer_lit.terminal.conf_files import conf_dir, conf_files, loaded
from steer_lit.terminal.words import names_policy


def options_first(words: Sequence[str]) -> tuple[list[str], list[str], Path | None]:
    """Return Hydra's options, such as `-m` and `--cfg job`, the other words, and the folder of `--config-dir`.

    Hydra itself refuses words on both sides of an option. Raise SteerError for an option that it does not have.
    """

    def refuse(message: str) -> NoReturn:
        key = re.search(r"arguments: --([^\s=]+)", message)
        typed = f"{key[1] if key else '<key>'}=<value>"
        raise SteerError(f"{message}. Keys are typed without dashes, {typed}; --hydra-help lists the options")

    parser = get_args_parser()
    parser.allow_abbrev = False  # `--experiment` would stand for `--experimental-rerun`
    parser.error = refuse  # type: ignore[method-assign]  # argparse would print every option, and exit
    given, options = parser.parse_intermixed_args(list(words)), list(words)
    for word in given.overrides:
        options.remove(word)
    return options, given.overrides, None if given.config_dir is None else Path(given.config_dir).absolute()


def normalise_override(word: str, program: str) -> str:
    """Drop Hydra's plus before a group that has an option already, and add it before `policies.<name>=` of a benchmark.

    `experiment=null` becomes `~experiment`. A number for a group becomes a text: Hydra refuses that with the options.
    """
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException:  # Hydra will say why
        return word
    key, value = override.get_key_element(), override.value()
    group = key.lstrip("+")
    if key == "experiment" and value is None:
        return "~experiment"
    if key == f"+{group}" and group in groups(program):
        word = word[1:]
    if (value is None or isinstance(value, int | float)) and group.isidentifier() and any(conf_files(group)):
        chosen, _, typed = word.partition("=")
        return f"{chosen}='{typed}'"
    return f"++{word}" if program == "bench" and not key.startswith("+") and names_policy(word) else word


def groups(program: str) -> list[str]:
    """Return the config groups from which `program` takes an option."""
    entries = loaded(conf_dir() / f"{program}.yaml")["defaults"]
    return [group for entry in entries if not isinstance(entry, str) for group in entry]


def choices(program: str) -> str:
    """Return the config groups of `program` and their options, for its --help."""
    options = {group: sorted({path.stem for path in conf_files(group)}) for group in groups(program)}
    return "\n".join(f"{group}: {', '.join(names)}" for group, names in options.items() if group != "hydra")


OmegaConf.register_new_resolver("choices", choices, replace=True)  # conf/hydra/
