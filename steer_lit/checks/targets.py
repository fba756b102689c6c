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
        found = config.get(section)
        for name, part in (found or {}).items() if section in _SEVERAL else [("", found)]:
            if isinstance(part, Mapping) and isinstance(target := part.get("_target_"), str):  # or refused elsewhere
                key = f"{section}.{name}".rstrip(".")
                if remedy := _remedy(key, target, part):
                    yield Problem(f"{key}._target_", target, remedy)


def _remedy(key: str, target: str, part: Config) -> str | None:
    if target.startswith(_KNOWN):
        return None
    try:
        made = locate(target)
    except Exception as error:  # the user's own module may raise anything
        return f"cannot be imported: {error}"
    if not callable(made):
        return "is not a class or function: must be <module>.<class>, of a module in this folder or on PYTHONPATH"
    try:
        takes = inspect.signature(made, follow_wrapped=False)  # a decorator may give or take more
    except (TypeError, ValueError):  # written in C without one, or with one of its own making
        return None
    given = {str(name): value for name, value in part.items() if name not in HYDRAS}
    more = _GIVEN.get(key, "")
    given |= {more: None} if key == "module" or more in takes.parameters else {}
    bind = takes.bind_partial if part.get("_partial_") else takes.bind
    try:
        bind(*(part.get("_args_") or ()), **given)
    except TypeError as error:
        return f"{error}; it takes {takes}: '~{key}.<name>' leaves a key out, +{key}.<name>=<value> adds one"
    return None
