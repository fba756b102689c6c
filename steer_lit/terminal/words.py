"""The words of a command line as Hydra reads them: `seed=3`, `+rate=0.1`, `~callbacks.export`, `optim.lr=1e-4,1e-5`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

SWEPT = "values to sweep over are a,b,c or, alone, range(<from>,<to>,<step>), choice(a,b) or glob(a*)"
_POLICY = re.compile(r"policies\.[\w-]+")


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a command line: the `sign` before the `key`, one of "", "+", "++" and "~", the text `given` after its
    `=`, as typed, and the `value` read from that. A word with `several` values is one to sweep over.
    """

    sign: str
    key: str
    given: str
    value: Any
    several: bool

    @classmethod
    @cache
    def read(cls, text: str) -> Word | None:
        """Read a word. Return None if Hydra cannot."""
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException:
            return None
        signed = override.get_key_element()
        key = signed.lstrip("+~")
        given = text.partition("=")[2]
        return cls(signed.removesuffix(key), key, given, override.value(), override.is_sweep_override())


def words_setting(words: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Return the words that set one of `keys`. `server.*` stands for every key below `server`."""
    return [word for word in words if _sets(word, keys)]


def words_besides(words: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Return the words that set none of `keys`."""
    return [word for word in words if not _sets(word, keys)]


def _sets(text: str, keys: Sequence[str]) -> bool:
    word = Word.read(text)
    return word is not None and word.sign != "~" and any(fnmatchcase(word.key, key) for key in keys)


def words_of_one_value(words: Sequence[str]) -> list[str]:
    """Return the words that Hydra can read and that a sweep does not vary."""
    return [text for text in words if (word := Word.read(text)) is not None and not word.several]


def names_policy(text: str) -> bool:
    """Return whether the word sets `policies.<name>`, with or without Hydra's signs."""
    return (word := Word.read(text)) is not None and word.sign != "~" and bool(_POLICY.fullmatch(word.key))
