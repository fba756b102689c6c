"""The names that a program knows: its config groups, their options, and the keys of its config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from steer_lit.checks.unread import HYDRAS, OWN_NAMES
from steer_lit.data.bench_rows import READ
from steer_lit.dotted import ABSENT, at, nodes
from steer_lit.terminal.conf_files import composed, conf_file, conf_files, defaults_of, program_conf


def keys_of(program: str, words: Sequence[str]) -> list[str]:
    """Return every dotted key that the program reads, in the config composed of `words`.

    If `words` do not compose, the keys are those of the config without overrides.
    """
    return known_keys(program, composed_or_plain(program, words))


def composed_or_plain(program: str, words: Sequence[str]) -> Mapping[str, Any]:
    return composed(program, words) or composed(program, []) or {}


def known_keys(program: str, config: Mapping[str, Any]) -> list[str]:
    return [key for key, _ in nodes(config) if read_by(program, key)]


def options_of(group: str) -> list[str]:
    """Return the options of a group, without the parts of its `default`: choosing one part would drop the others."""
    return sorted({path.stem for path in conf_files(group)} - set(parts_of(group)))


def parts_of(group: str) -> list[str]:
    """Return the files of a group that its `default` combines."""
    whole = conf_file(f"{group}/default.yaml")
    return [entry for entry in (defaults_of(whole) if whole else ()) if isinstance(entry, str) and entry != "_self_"]


def choices(program: str) -> str:
    """Return the config groups of `program` and their options, for its --help."""
    return "\n".join(f"{group}: {', '.join(options_of(group))}" for group in groups(program) if group != "hydra")


OmegaConf.register_new_resolver("choices", choices, replace=True)  # conf/hydra/


def has(config: Any, key: str) -> bool:
    """Return whether the config has the dotted key. True for one inside a value: Hydra says that it is no section."""
    first, _, rest = key.partition(".")
    return not isinstance(config, Mapping) or (first in config and (not rest or has(config[first], rest)))


def takes(config: Mapping[str, Any], key: str) -> bool:
    """Return whether the config has the dotted key or may be given it.

    Configs of our classes list every key; other classes, such as Lightning's trainer, may take more.
    """
    *sections, last = key.split(".")
    above = [at(config, ".".join([*sections[:depth], "_target_"])) for depth in range(1, len(sections) + 1)]
    others = any(target is not ABSENT and not str(target).startswith("steer_lit.") for target in above)
    if has(config, key) or last in HYDRAS or others:
        return True
    return above[-1:] == [ABSENT] and sections[0] in OWN_NAMES and sections[0] in config


def groups(program: str) -> list[str]:
    """Return the config groups from which `program` takes an option."""
    return [group for entry in defaults_of(program_conf(program)) if not isinstance(entry, str) for group in entry]


def read_by(program: str, key: str) -> bool:
    """Return whether `program` reads a key of its config. A benchmark has all of conf/data/, and holds out no rows."""
    return not (program == "bench" and key.startswith("data.") and key.split(".")[1] not in READ)
