"""Checks of the command line's words before Hydra reads them. Hydra saves them, and refuses some in its own terms."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from steer_lit.checks.servers import HIDDEN, key_problems
from steer_lit.errors import Problem
from steer_lit.terminal.words import Word

# Sections that are no config group. For a group, Hydra says which options it has.
_SECTIONS = (
    "bench", "data.source", "keep", "model.lora", "module", "objective", "optim", "policies", "replay", "rollout",
    "trainer", "turns",
)  # fmt: skip
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


def word_problems(words: Sequence[str]) -> Iterator[Problem]:
    """Yield what is wrong with single words: an API key, a section given as a list, letters that need quotes."""
    yield from key_problems(words)
    for word in words:
        typed, _, value = word.partition("=")
        key = typed.lstrip("+")
        unread = [letter for letter in _QUOTED.sub("", value) if letter.isprintable() and not letter.isascii()]
        if unread:
            text = "..." if re.search(r"[\[{(,'\"]", value) else value
            remedy = f"text with a letter such as {unread[0]} goes in quotes inside the shell's: '{typed}=\"{text}\"'"
            yield Problem(key, HIDDEN if text != value else value, remedy)
        elif key in _SECTIONS and (read := Word.read(word)) is not None:
            yield from _section_problems(key, read.value, signed=typed != key)


def _section_problems(key: str, value: object, *, signed: bool) -> Iterator[Problem]:
    """Yield what keeps `value` from being merged into the section. A word with a plus (`signed`) may add new names."""
    if isinstance(value, list):
        shown = HIDDEN if key == "policies" and value else value  # it may hold an API key
        yield Problem(key, shown, f"must hold keys of its own, such as {key}.<name>=<value>")
    new = [name for name in value if name != "base"] if isinstance(value, dict) and key == "policies" else []
    if new and not signed:
        remedy = f"is given policy by policy, policies.{new[0]}=<value>, or with a plus, +policies={{...}}"
        yield Problem(key, HIDDEN, remedy)
