"""The words of a command line that Hydra has accepted: `seed=3`, `+rate=0.1`, `~callbacks.export`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

_POLICY = re.compile(r"\+*policies\.[\w-]+=")


def key_of(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def words_setting(words: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Return the words that set one of `keys`. `server.*` stands for every key below `server`."""
    return [word for word in words if _sets(word, keys)]


def words_besides(words: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Return the words that set none of `keys`."""
    return [word for word in words if not _sets(word, keys)]


def _sets(word: str, keys: Sequence[str]) -> bool:
    return not word.startswith("~") and any(fnmatchcase(key_of(word), key) for key in keys)


def names_policy(word: str) -> bool:
    """Return whether the word sets `policies.<name>`, with or without Hydra's signs."""
    return _POLICY.match(word) is not None
