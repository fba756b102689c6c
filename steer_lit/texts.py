"""Texts made fit to be written or quoted."""

from __future__ import annotations


def encodable(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON can carry and UTF-8 cannot, with `?`."""
    return text.encode("utf-8", "replace").decode("utf-8")


def first_lines(error: BaseException, count: int = 1) -> str:
    """Join the first `count` nonempty lines of an error's message; return its type's name if there are none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:count]) or type(error).__name__
