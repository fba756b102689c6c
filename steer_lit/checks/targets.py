"""Whether the classes that a config names exist and take the keys beside them: `_target_` of a user's own parts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import reduce
from importlib import import_module
from typing import Any

from steer_lit.checks.facts import Config
from steer_lit.checks.unread import HYDRAS
from steer_lit.dotted import within
from steer_lit.errors import Problem
from steer_lit.terminal.nearest import did_you_mean

_SEVERAL = ("callbacks", "logger")  # sections of parts by name
# Parts of the kit itself, which import Lightning: known to be right, and their keys are checked one by one.
_KNOWN = ("steer_lit.lit.", "lightning.pytorch.loggers.TensorBoardLogger")
_UNNAMED = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY)
# Of players: the option without keys, and a key that tells another option.
_BARE = {"attacker": ("scripted", "lead_share"), "tutor": ("rubric", "client"), "judge": ("rubric", "client")}


def target_problems(config: Config, sections: Iterable[str]) -> Iterator[Problem]:
    """Yield parts of a run whose class cannot be imported, or does not take the keys that the config gives it.

    `sections` are those whose parts the run makes. Imports a user's own modules, as the run would soon after.
    """
    for section in sections:
        if section not in _SEVERAL:
            yield from _part_problems(section, config.get(section))
            continue
        for name, part in dict(config.get(section) or {}).items():
            yield from _part_problems(f"{section}.{name}", part)


def _part_problems(key: str, part: object) -> Iterator[Problem]:
    if not isinstance(part, Mapping) or not isinstance(target := part.get("_target_"), str):
        return  # refused elsewhere
    if target.startswith(_KNOWN):
        return
    made = _found(target)
    if isinstance(made, str):
        yield Problem(f"{key}._target_", target, made)
        return
    given = [str(name) for name in part if name not in HYDRAS]
    try:
        takes = inspect.signature(made, follow_wrapped=False).parameters  # a decorator may give or take more
    except (TypeError, ValueError):  # written in C without one, or with one of its own making
        return
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values())
    names = [name for name, parameter in takes.items() if parameter.kind not in _UNNAMED]
    if not open_ended and (unread := [name for name in given if name not in names]):
        said = f"does not take {', '.join(unread)}, it takes {', '.join(names) or 'nothing'}"
        yield Problem(f"{key}._target_", target, f"{said}{_way_out(key, unread, names)}")
    if part.get("_args_") or part.get("_partial_"):
        return
    by_program = {"open_image"} if key in _BARE else set()
    lacking = [name for name in names if takes[name].default is inspect.Parameter.empty]
    for name in lacking:
        if name not in {*given, *by_program}:
            yield Problem(f"{key}.{name}", None, f"{target} needs it: add +{key}.{name}=<value>")


def _way_out(key: str, unread: Sequence[str], names: Sequence[str]) -> str:
    """Return how to be rid of keys that a config file sets, or the names that may be meant."""
    bare, others = _BARE.get(key, ("", ""))
    if others in unread:
        return f": put {key}={bare}, which has no keys, before it"
    if near := did_you_mean([found for name in unread for found in get_close_matches(name, names, 1)]):
        return f".{near}"
    out = " ".join(f"'~{key}.{name}'" for name in unread)
    return f": what a config file sets is left out by {out}"


def _found(target: str) -> Callable[..., Any] | str:
    """Return what `target` names, or a text that says why there is no such class or function."""
    parts = target.split(".")
    for depth in range(len(parts) - 1, 0, -1):  # as Hydra does: a class may have a maker, such as `Reward.from_config`
        module = ".".join(parts[:depth])
        try:
            found: Any = import_module(module)
        except (Exception, SystemExit) as error:  # the user's own module may raise anything
            if isinstance(error, ModuleNotFoundError) and within(module, error.name or ""):
                continue
            return f"{module} cannot be imported: {type(error).__name__}: {error}"
        try:
            found = reduce(getattr, parts[depth:], found)
        except Exception as error:  # a module may import its parts as they are asked for
            near = get_close_matches(str(error.name), dir(error.obj), 1) if isinstance(error, AttributeError) else []
            return f"{error}.{did_you_mean(near)}"
        return found if callable(found) else "is no class or function; must be <module>.<class>"
    return "there is no such module in this folder or on PYTHONPATH; must be <module>.<class>"
