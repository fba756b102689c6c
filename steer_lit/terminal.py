"""Text from outside - rows, servers, files - made fit for a terminal, which obeys what it is sent."""

from __future__ import annotations

import re

# Controls but tab and newline, marks that turn the direction of writing, line separators, halves of surrogate pairs.
_OBEYED = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_STAND_IN = "\N{REPLACEMENT CHARACTER}"


def visible(text: str) -> str:
    """The text with a stand-in for every character that a terminal would obey instead of show; lines stay lines."""
    return _OBEYED.sub(_STAND_IN, text.replace("\r\n", "\n"))


def visible_line(text: str) -> str:
    """The same on one line."""
    return visible(text).replace("\n", " ")
