"""The settings of a client: address, model, key, time-outs, retries, concurrency."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SkipValidation

from steer_lit.allowed import Share, record_problems
from steer_lit.errors import ConfigError, Problem, problems_of

SECRET = 16  # characters; a shorter key is a stand-in such as "none" or "EMPTY", which is also a plain word
Structured = Literal["auto", "json_schema", "json_object", "off"]
# Upper bounds: more than anybody waits for or asks at a time, yet small enough for queue sizes and floats.
_Seconds = Annotated[float, Field(gt=0, le=10**6)]
_MODEL, _FOLDER = "the name of the model as the server lists it", "a folder, or null to keep nothing"


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """How one client asks. Raises ConfigError with every value that cannot work.

    `api_key_env` names the variable that holds the key, or is None. Without a key, `none` is sent, as local servers
    expect. Up to `concurrency` requests are under way at a time, on as many connections. Time-outs are seconds per
    attempt. `backoff` is the wait in seconds before the first of `retries`; it doubles each time. `structured` says
    how a schema is asked for: `auto` takes the strictest form that the server accepts. When more than
    `max_failed_share` of the latest `min_requests` requests failed, the server counts as down.
    """

    base_url: SkipValidation[str]  # checked below, as is `api_key_env`: they may hold a key, which is not shown
    model: Annotated[str, Field(min_length=1, description=_MODEL)]
    api_key_env: SkipValidation[str | None] = "OPENAI_API_KEY"
    concurrency: Annotated[int, Field(ge=1, le=10**4)] = 16
    connect_timeout: _Seconds = 30.0
    read_timeout: _Seconds = 300.0
    retries: Annotated[int, Field(ge=0, le=100)] = 4
    backoff: _Seconds = 0.5
    structured: Structured = "auto"
    cache_dir: Annotated[str | None, Field(min_length=1, description=_FOLDER)] = None
    max_failed_share: Share = 0.5
    min_requests: Annotated[int, Field(ge=1, le=10**6)] = 64

    def __post_init__(self) -> None:
        problems = record_problems(self)
        if remedy := _url_remedy(self.base_url):
            problems.insert(0, Problem("base_url", _without_login(self.base_url), remedy))
        if self.api_key_env is not None and not names_variable(str(self.api_key_env)):
            remedy = "must be the name of an environment variable, never the key itself"
            problems.append(Problem("api_key_env", "***", remedy))
        if problems:
            raise ConfigError(problems)

    @property
    def key(self) -> str:
        """The key as a request's header holds it, "" if there is none."""
        return os.environ.get(self.api_key_env, "").strip() if self.api_key_env else ""


KNOWN = frozenset(field.name for field in fields(ChatSettings))
HOW_ASKED = KNOWN - {"model", "structured"}  # these change what is answered


def settings_problems(settings: Mapping[str, Any]) -> tuple[Problem, ...]:
    """Return what is wrong with these settings, by their names; keys outside KNOWN are ignored."""
    return tuple(problems_of(lambda: ChatSettings(**{name: settings[name] for name in settings.keys() & KNOWN})))


def with_own(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that clients share, overridden by those of one client's `own` that are not None.

    The shared key goes only to the shared server: a client whose own address has another scheme, host or port uses its
    own key or none. So does any client with its own address if none is shared.
    """
    given = {name: value for name, value in own.items() if value is not None}
    elsewhere = "base_url" in given and _place(given["base_url"]) != _place(shared.get("base_url"))
    return {**shared, **({"api_key_env": None} if elsewhere else {}), **given}


def _place(url: object) -> tuple[str, str]:
    """Return scheme and host of an address. The scheme counts: a key meant for https is never sent in plain text."""
    try:
        return urlsplit(str(url)).scheme, urlsplit(str(url)).netloc.lower()
    except ValueError:  # refused as an address elsewhere
        return "", ""


def missing_words(server: Mapping[str, object]) -> list[str]:
    """Return the words of a command line that name the server and its model, without those that are set already."""
    examples = {"base_url": "http://localhost:8000/v1", "model": "<name>"}
    return [f"server.{key}={example}" for key, example in examples.items() if server.get(key) is None]


def names_variable(name: str) -> bool:
    """Return whether `name` is a variable's name, not a key. In lower case it must be set: a key may look like one."""
    return re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) is not None and (name.isupper() or name in os.environ)


def _url_remedy(url: object) -> str | None:
    if url is None or url == "":
        return "names no server: give its address, such as server.base_url=http://localhost:8000/v1"
    import httpx2

    try:
        parts, read = urlsplit(str(url)), httpx2.URL(str(url))  # httpx, unlike urlsplit, minds a blank in front
        host, _ = parts.hostname, parts.port
    except (ValueError, httpx2.InvalidURL):
        return "is no address: such as http://localhost:8000/v1"
    if read.scheme not in ("http", "https") or not host:
        return "must be a whole address with http:// or https://, such as http://localhost:8000/v1"
    if "@" in str(url) or parts.query or parts.fragment:
        return "is saved with the config, so it must hold no key: put that in the variable server.api_key_env names"
    return None


def _without_login(url: object) -> object:
    return re.sub(r"^.*@|[?#].*", "***", url) if isinstance(url, str) else url
