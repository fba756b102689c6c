"""Whether the classes that a config names exist and take the keys beside them: `_target_` of a user's own parts."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from pydoc import locate  # as Hydra finds them, but Hydra's own would write into the log of a run that is refused

from steer_lit.checks.facts import LOGGERS, Config
from steer_lit.checks.unread import HYDRAS
from steer_lit.errors import Problem

_SEVERAL = ("callbacks", "logger")  # sections of parts by name
# What the program gives beside the keys: of these, `open_image` if they take it.
_GIVEN = {**dict.fromkeys(("attacker", "tutor", "judge"), "open_image"), "module": "policy"}
# Parts of the kit itself, which import Lightning: known to be right, and their keys are checked one by one.
_KNOWN = ("steer_lit.lit.", *LOGGERS)


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
    try:
        made = locate(target)
    except Exception as error:  # the user's own module may raise anything
        yield Problem(f"{key}._target_", target, f"cannot be imported: {error}")
        return
    if not callable(made):
        remedy = "is not a class or function: must be <module>.<class>, of a module in this folder or on PYTHONPATH"
        yield Problem(f"{key}._target_", target, remedy)
        return
    try:
        takes = inspect.signature(made, follow_wrapped=False)  # a decorator may give or take more
    except (TypeError, ValueError):  # written in C without one, or with one of its own making
        return
    given = {str(name): value for name, value in part.items() if name not in HYDRAS}
    more = _GIVEN.get(key, "")
    given |= {more: None} if key == "module" or more in takes.parameters else {}
    bind = takes.bind_partial if part.get("_partial_") else takes.bind
    try:
        bind(*(part.get("_args_") or ()), **given)
    except TypeError as error:
        remedy = f"{error}; it takes {takes}: '~{key}.<name>' leaves a key out, +{key}.<name>=<value> adds one"
        yield Problem(f"{key}._target_", target, remedy)
