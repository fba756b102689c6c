"""Whether the classes that a config names exist and take the keys beside them: `_target_` of a user's own parts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType
from typing import Any

from steer_lit.checks.facts import Config
from steer_lit.dotted import within
from steer_lit.errors import Problem

_PLAYERS = ("attacker", "tutor", "judge")
_SEVERAL = ("callbacks", "logger")  # sections of parts by name
_HYDRAS = {"_target_", "_args_", "_partial_", "_recursive_", "_convert_"}
# Parts of the kit itself, which import Lightning: known to be right, and their keys are checked one by one.
_KNOWN = ("steer_lit.lit.", "lightning.pytorch.loggers.TensorBoardLogger")
_GIVEN = {"open_image"}  # by the program, to a player that takes it
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
    given = [str(name) for name in part if name not in _HYDRAS]
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
    by_program = _GIVEN if key in _PLAYERS else set()
    lacking = [name for name in names if takes[name].default is inspect.Parameter.empty]
    for name in lacking:
        if name not in {*given, *by_program}:
            yield Problem(f"{key}.{name}", None, f"{target} needs it: add +{key}.{name}=<value>")


def _way_out(key: str, unread: Sequence[str], names: Sequence[str]) -> str:
    """Return how to be rid of keys that a config file sets, or the names that may be meant."""
    bare, others = _BARE.get(key, ("", ""))
    if others in unread:
        return f": put {key}={bare}, which has no keys, before it"
    near = [found for name in unread for found in get_close_matches(name, names, 1)]
    if near:
        return f". Did you mean {' or '.join(near)}?"
    out = " ".join(f"'~{key}.{name}'" for name in unread)
    return f": what a config file sets is left out by {out}"


def _found(target: str) -> Callable[..., Any] | str:
    """Return what `target` names, or a text that says why there is no such class or function."""
    module, _, name = target.rpartition(".")
    if not module:
        return "names no module; must be <module>.<class>"
    parts, attributes = target.split("."), list[str]()
    found: Any
    while len(parts) > 1:  # as Hydra does: a class may have a maker, such as `Reward.from_config`
        attributes.insert(0, parts.pop())
        if isinstance(found := _imported(".".join(parts)), str):
            return found
        if found is not None:
            break
    else:
        return f"there is no module {module} in this folder or on PYTHONPATH"
    for name in attributes:
        try:
            found = getattr(found, name)
        except AttributeError:
            near = "".join(f". Did you mean {other}?" for other in get_close_matches(name, dir(found), 1))
            return f"{getattr(found, '__name__', module)} has no {name}{near}"
        except Exception as error:  # a module that imports its parts as they are asked for
            return f"{target} cannot be imported: {type(error).__name__}: {error}"
    return found if callable(found) else "is no class or function; must be <module>.<class>"


def _imported(module: str) -> ModuleType | str | None:
    """Return the module, None if there is none of that name, or a text that says why it cannot be imported."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if within(module, missing):
            return None
        return f"{module} cannot be imported: {error}"
    except (Exception, SystemExit) as error:  # the user's own module may raise anything
        return f"{module} cannot be imported: {type(error).__name__}: {error}"
