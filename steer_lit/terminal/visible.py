"""Makes text from outside (rows, servers, files, errors) fit for a terminal or Markdown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# Controls but tab and newline, marks that change the direction of writing, line separators, surrogate halves.
_OBEYED = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_STAND_IN = "\N{REPLACEMENT CHARACTER}"
# Characters that make a link or a picture, end a table cell, or make bold. A star on its own is harmless.
_MARKS = re.compile(r"[\\|]|(?<=\])\(|(?<! )\*|\*(?! |$)")


def visible(text: str) -> str:
    """Replace every character that a terminal would obey instead of show. Lines stay lines."""
    return _OBEYED.sub(_STAND_IN, text.replace("\r\n", "\n"))


def visible_line(text: str) -> str:
    """Return `visible(text)` on one line."""
    return visible(text).replace("\n", " ")


def print_lines(console: Console, *lines: str) -> None:
    """Print each text as one visible line: no markup, no emoji codes, no wrapping at the console's width."""
    for line in lines:
        console.print(visible_line(line), markup=False, emoji=False, highlight=False, soft_wrap=True)


def markdown_line(text: str) -> str:
    """Return `visible_line(text)`, escaped for a line or table cell of Markdown: no links, pictures or HTML tags."""
    return _MARKS.sub(r"\\\g<0>", re.sub("<(?! )", "&lt;", visible_line(text).replace("&", "&amp;")))
