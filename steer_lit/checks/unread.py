"""Finds keys that nothing reads, such as a mistyped one in a config file, and keys that were removed.

Hydra takes any key that a file adds, and `~<key>` for any key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from steer_lit.dotted import leaves, nodes, within
from steer_lit.errors import NOT_GIVEN, Problem
from steer_lit.terminal.commands import given_words
from steer_lit.terminal.conf_files import composed, conf_dir, conf_files, loaded
from steer_lit.terminal.nearest import nearest
from steer_lit.terminal.words import key_of

HYDRAS = ("_target_", "_args_", "_convert_", "_partial_", "_recursive_")  # keys that Hydra reads anywhere
OWN_NAMES = ("callbacks", "logger", "policies", "callbacks.settings.settings")  # sections with keys of any name
# Groups whose option decides which keys there are. Experiments, hardware and servers only change values.
_PARTS = ("model", "data", "attacker", "tutor", "reward", "judge", "generator")  # each the section of its name
_DECIDING = (*_PARTS, "stage", "callbacks", "logger")


def unread_problems(config: Mapping[str, Any], ours: Mapping[str, Any]) -> list[Problem]:
    """Return the keys of a run's unresolved config that nothing reads; `ours` is `own_config` of it.

    A key is read if the program's own config files have it, if another key refers to it by `${...}`, or if it is given
    to a class of the user's or of a library, which may take any. An option of the user's own may leave out keys that
    other options of its group have.
    """
    unknown = {key: value for key, value in _only_in(config, ours) if key.rpartition(".")[2] not in HYDRAS}
    if not unknown:
        return []
    references, of_options, names = set(_references(config)), _of_options(), [key for key, _ in nodes(ours)]
    return [
        Problem(key, value, f"nothing reads it.{nearest(key, names)} `--cfg job` lists every key")
        for key, value in unknown.items()
        if key not in of_options and not any(_refers(reference, key) for reference in references)
    ]


def removed_problems(config: Mapping[str, Any], ours: Mapping[str, Any]) -> list[Problem]:
    """Return the program's own keys that words of the command line remove from a run's config.

    A class of the user's or of a library may do without. Ours, and the programs themselves, have no other defaults.
    """
    gone = [key for key, _ in _only_in(ours, config)]
    typed = [key_of(word) for word in (given_words("task") if gone else ()) if word.startswith("~")]
    return [
        Problem(key, NOT_GIVEN, f"a run needs it: leave out ~{key}, which removes it")
        for key in gone
        if any(within(key, other) for other in typed)
    ]


def own_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the program's own config for the options that were chosen, without any experiment; the run's itself
    without a command line, which says what was chosen.

    For an option of the user's own, whose keys may be mistyped, stands the one of this kit's that is most like it.
    """
    if not HydraConfig.initialized():
        return config
    settings = HydraConfig.get()
    program, chosen = str(settings.job.config_name), settings.runtime.choices.items()
    options = {group: option for group, option in chosen if group in _DECIDING and option is not None}

    def made(**other: str) -> Mapping[str, Any] | None:
        words = [f"{group}={option}" for group, option in {**options, **other}.items()]
        return composed(program, [*words, *(["~experiment"] if program == "train" else [])])

    def alike(group: str, option: str) -> int:
        return len(_values(config) & _values(made(**{group: option}) or {}))

    for group, option in options.items():
        if not (conf_dir() / group / f"{option}.yaml").is_file():
            shipped = sorted(path.stem for path in conf_dir().glob(f"{group}/*.yaml"))
            options[group] = max(shipped, key=partial(alike, group), default=option)
    return made() or config


def _values(config: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(key, str(value)) for key, value in leaves(config)}


def _of_options() -> set[str]:
    """Return the keys of every option here of the groups that are sections."""
    files = [(group, path) for group in _PARTS for path in conf_dir().glob(f"{group}/*.yaml")]
    return {f"{group}.{key}" for group, path in files for key, _ in nodes(loaded(path))}


def _only_in(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what `one` has and `other` lacks, except in a class that is not ours or is another in `other`."""
    target = str(one.get("_target_", ""))
    if target and (target != other.get("_target_", target) or not target.startswith("steer_lit.")):
        return
    for name, value in one.items():
        if name in other:
            if isinstance(value, Mapping) and isinstance(other[name], Mapping):
                yield from _only_in(value, other[name], f"{prefix}{name}.")
        elif prefix.rstrip(".") not in OWN_NAMES:
            yield f"{prefix}{name}", value


def _references(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys in `${...}` of the config, of Hydra's settings, and of every experiment: `ablation_nano` names its
    `sft_adapter` even in the row that does not start from it.
    """
    hydras: Any = OmegaConf.to_container(HydraConfig.instance().cfg, resolve=False)
    texts = [value for section in (config, hydras) for _, value in leaves(section, lists=True)]
    for text in (*map(str, texts), *(path.read_text(encoding="utf-8") for path in conf_files("experiment"))):
        yield from re.findall(r"[$]{\s*(?:oc\.select:\s*)?([^\s${}:,]+)", text)


def _refers(reference: str, key: str) -> bool:
    """Return whether `reference` names `key` or something below it. A relative one may, if its first name is there."""
    if reference.startswith("."):
        return reference.lstrip(".").partition(".")[0] in key.split(".")
    return within(reference, key)
