"""Makes text from outside (rows, servers, files, errors) fit for a terminal, Markdown, a file or a message."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# Controls but tab and newline, marks that turn the direction of writing, line separators, halves of surrogate pairs.
_OBEYED = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_STAND_IN = "\N{REPLACEMENT CHARACTER}"
# What makes a link or a picture, ends a cell, or makes bold; a star that stands alone does not.
_MARKS = re.compile(r"[\\|]|(?<=\])\(|(?<! )\*|\*(?! |$)")


def encodable(text: str) -> str:
    """The text with `?` for halves of surrogate pairs, which JSON can carry and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def first_lines(error: BaseException, count: int = 1) -> str:
    """The first lines of an error's message that say something, as one; the error's name where there are none."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(said[:count]) or type(error).__name__


def visible(text: str) -> str:
    """The text with a stand-in for every character that a terminal would obey instead of show; lines stay lines."""
    return _OBEYED.sub(_STAND_IN, text.replace("\r\n", "\n"))


def visible_line(text: str) -> str:
    """The same on one line."""
    return visible(text).replace("\n", " ")


def print_lines(console: Console, *lines: str) -> None:
    """Print each as one line, as it is: no markup, no emoji codes, and no break where the console ends."""
    for line in lines:
        console.print(visible_line(line), markup=False, emoji=False, highlight=False, soft_wrap=True)


def markdown_line(text: str) -> str:
    """The same within a line or a cell of Markdown, where it fetches and links nothing, and is no HTML."""
    return _MARKS.sub(r"\\\g<0>", visible_line(text).replace("&", "&amp;").replace("<", "&lt;"))
