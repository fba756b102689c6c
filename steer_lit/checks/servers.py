"""Checks of the servers in a config: settings that make no client, and API keys that must not be saved.

An API key belongs in the variable that `server.api_key_env` names. If typed anywhere else, it is never printed back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from steer_lit.allowed import type_problems
from steer_lit.chat.settings import KNOWN, SECRET, names_variable, settings_problems, with_own
from steer_lit.checks.facts import Config, makes_rows
from steer_lit.dotted import ABSENT, leaves
from steer_lit.errors import Problem

HIDDEN = "***"
_UNKNOWN = f"is not one of {', '.join(sorted(KNOWN))}"
# A client takes less, but in a run it would fail while waiting for its turn (TRAPS 37).
_LONG = "at least 30 s: a busy server lets a wave of requests wait so long"
_PATIENT = {"connect_timeout": Annotated[float, Field(ge=30, description=_LONG)]}
_NAMED = {"base_url": "http://localhost/v1", "model": "any"}  # stand-ins for a server that is not named nor asked
_PLACES = re.compile(r"(server|policies)\b|.*\.(settings|client|target)\b|hydra(\.job(\.env_set\b.*)?)?$")
_KEYS = r"(api_?key|token|secret|password)"  # usual names of API keys
# In an address: before its host after `://`, but for storage and git, where that is a name; or without `://`, as
# `user:password@host` with a port or a path: text and names of models have the like without these.
_LOGIN = re.compile(
    r"(?<!abfs)(?<!abfss)(?<!wasb)(?<!wasbs)(?<!ssh)://[^/,;\s]*@"
    r"|(?:^|[\s,'\"{\[(])[^\s,'\"{\[($/@:\\]+:[^\s,{}/@\\]*(?:\$\{[^}\s]*\})?@[\w.-]+(?::\d|/)"
)
# A login or a query in an address, a key of OpenAI's form, or a setting with such a name.
_SECRET = re.compile(rf"base_url['\"]?\s*:[^,}}]*@|://[^,\s]*[?#]|(?<![\w-])sk-\w|{_KEYS}['\"]?\s*:", re.IGNORECASE)
# In words about no server: a setting whose name ends like an API key's, or a value that is a key and not a file's name
# such as sk-learn.
_NAMED_KEY = re.compile(rf"([\w-]*[_-])?({_KEYS}|key)", re.IGNORECASE)
_KEY = re.compile(r"(?<![\w./-])(sk-|hf_)(?=[\w-]*\d)[\w-]{16,}")
# Variables that hold keys by convention, such as OPENAI_API_KEY and HF_TOKEN.
_KEY_VARIABLE = re.compile(r"(^|_)(API_?KEY|TOKEN|SECRET|PASSWORD)$")
_EXPORT = "holds a key or a login, and is saved with the run: export it in the shell"
_HELD = "holds the key in ${}, and is saved with the run: leave it to the variable"
_READ_LATER = re.compile(r"['\"]?\$\{oc\.env:\w+\}['\"]?")


def key_problems(words: Sequence[str]) -> Iterator[Problem]:
    """Yield words of the command line that hold an API key: Hydra would save them before a config can be checked."""
    keys = _environments_keys()
    for word in words:
        name, _, value = word.partition("=")
        key = name.lstrip("+~")
        if any(map(_KEY.match, key.split("."))):
            yield Problem(key.partition(".")[0], HIDDEN, "is named by a key, and saved with the run: name it otherwise")
        elif _PLACES.match(key) and (remedy := _word_remedy(*key.split("."), value=value)):
            yield Problem(key, HIDDEN, remedy)
        elif _names_key(key, value) or _KEY.search(value) or _LOGIN.search(value):
            yield Problem(key, HIDDEN, _EXPORT)
        elif held := next((name for name, secret in keys.items() if _holds(key, value, name, secret)), None):
            yield Problem(key, HIDDEN, _HELD.format(held))


def _names_key(key: str, value: str) -> bool:
    """Return whether a setting is named like an API key. A policy may have any name."""
    section, _, name = key.rpartition(".")
    return section != "policies" and bool(_NAMED_KEY.fullmatch(name)) and not _READ_LATER.fullmatch(value)


def _word_remedy(section: str, *setting: str, value: str) -> str | None:
    if section == "server" and setting and setting[0] not in KNOWN:
        return _UNKNOWN
    variables = re.findall(r"api_key_env['\"]?\s*:\s*['\"]?([^\s,'\"}]+)", value)
    if setting[-1:] == ("api_key_env",):
        variables += [piece for piece in re.split(r"[\s,'\"]+", value) if piece]
    if not all(piece.startswith("${") or names_variable(piece) for piece in variables):
        return "must be the name of an environment variable, never the key itself"
    named = len(setting) > 1 and re.fullmatch(_KEYS, setting[-1], re.IGNORECASE)
    login = setting[-1:] == ("base_url",) and "@" in value
    if named or login or _SECRET.search(value) or _LOGIN.search(value):
        return "holds a key or a login, and is saved with the run: put it in the variable server.api_key_env names"
    return None


def saved_key_problems(config: Config) -> Iterator[Problem]:
    """Yield values that hold an API key of the environment, by `${oc.env:...}` or as typed, or a login, outside the
    servers that are checked below: the run would save them, and its loggers show them.
    """
    values = dict(leaves(config, lists=True))
    named = {str(value) for key, value in values.items() if key.rpartition(".")[2] == "api_key_env"}
    keys = _environments_keys(named)
    for key, value in values.items():
        source = key.removeprefix("module.").removeprefix("callbacks.settings.settings.")
        if source != key and values.get(source) == value:
            continue  # they repeat settings from elsewhere
        if held := [name for name, secret in keys.items() if secret in str(value)]:
            yield Problem(key, HIDDEN, _HELD.format(held[0]))
        elif _LOGIN.search(str(value)) and not _PLACES.match(key):
            yield Problem(key, HIDDEN, _EXPORT)


def _environments_keys(named: Container[str] = ()) -> dict[str, str]:
    """Return the API keys in environment variables that are `named`, or whose name is usual for a key."""
    variables = sorted(name for name in os.environ if name in named or _KEY_VARIABLE.search(name))
    return {name: os.environ[name].strip() for name in variables if len(os.environ[name].strip()) >= SECRET}


def _holds(key: str, value: str, variable: str, secret: str) -> bool:
    """Return whether a word holds the API key of a variable, filled in by the shell or by an interpolation of Hydra's.

    Setting another variable from it, `hydra.job.env_set`, is allowed: that keeps the key out of files.
    """
    read = re.search(rf"\$\{{oc\.env:\s*{re.escape(variable)}\s*[,}}]", value)
    return secret in value or bool(read and not key.startswith("hydra.job.env_set"))


def server_problems(config: Config) -> Iterator[Problem]:
    """Yield what is wrong with `server`, whether or not anything asks it: it is saved in either case."""
    server = config.get("server", {})
    named = {**server, **{key: value for key, value in _NAMED.items() if server.get(key) is None}}
    for problem in _problems(named):
        yield replace(problem, key=f"server.{problem.key}")


def client_problems(node: Config, prefix: str = "", root: Config | None = None) -> Iterator[Problem]:
    """Yield what is wrong with the chat clients anywhere in a config, each value under the key where it was given."""
    root = node if root is None else root
    server = root.get("server", {})
    for key, value in node.items():
        if not isinstance(value, Mapping) or f"{prefix}{key}" in ("module", "callbacks.settings"):
            continue  # they repeat clients from elsewhere
        if value.get("_target_") != "steer_lit.chat.ChatClient":
            yield from client_problems(value, f"{prefix}{key}.", root)
            continue
        if not isinstance(given := value.get("settings"), Mapping):
            yield Problem(f"{prefix}{key}.settings", HIDDEN, "must hold the settings of a client, such as ${server}")
            continue
        named = ((name, setting) for name, setting in value.items() if name != "settings" and not name.startswith("_"))
        own = {name: setting for name, setting in named if setting is not None}
        settings = with_own({"base_url": None, "model": None, **given}, own)
        for problem in _problems(settings):
            shared = settings.get(problem.key) == server.get(problem.key, ABSENT)
            place = f"{prefix}{key}" if problem.key in own else "server" if shared else f"{prefix}{key}.settings"
            without = ""
            if settings.get(problem.key) is None and prefix in ("tutor.", "judge.") and makes_rows(root):
                without = f", or {prefix[:-1]}=rubric, which asks none"
            yield replace(problem, key=f"{place}.{problem.key}", remedy=f"{problem.remedy}{without}")


def _problems(settings: Config) -> Iterator[Problem]:
    for name in sorted(map(str, settings.keys() - KNOWN)):
        yield Problem(name, HIDDEN, _UNKNOWN)
    yield from type_problems(settings, _PATIENT)
    yield from settings_problems(settings)
