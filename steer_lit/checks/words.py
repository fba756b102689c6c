"""Checks of the command line's words before Hydra reads them. Hydra saves them, and refuses some in its own terms."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from steer_lit.checks.servers import HIDDEN, key_problems
from steer_lit.errors import Problem

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


def word_problems(words: Sequence[str]) -> Iterator[Problem]:
    """Yield what is wrong with single words: an API key, letters that need quotes."""
    yield from key_problems(words)
    for word in words:
        typed, _, value = word.partition("=")
        unread = [letter for letter in _QUOTED.sub("", value) if letter.isprintable() and not letter.isascii()]
        if unread:
            text = "..." if re.search(r"[\[{(,'\"]", value) else value
            remedy = f"text with a letter such as {unread[0]} goes in quotes inside the shell's: '{typed}=\"{text}\"'"
            yield Problem(typed.lstrip("+"), HIDDEN if text != value else value, remedy)
