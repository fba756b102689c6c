"""Puts together problems that many rows share, so that a rare one is not lost among them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from steer_lit.numbers import counted, few

T = TypeVar("T")
# A number, or a text in quotes that stand outside a word: another value, or another place, is not another problem.
# Nor is another list of texts.
_VALUES = re.compile(r"""(?:(?<!\w)(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?!\w)(?:, (?:\.{3}, )?)?)+|\d+""")


def alike(problems: Iterable[T], message: Callable[[T], str], row: Callable[[T], int]) -> list[list[T]]:
    """Return the problems in groups that `message` tells apart only by numbers, quoted texts and lists of these.

    The group of most different rows comes first, of equally many the one that begins first.
    """
    groups: dict[str, list[T]] = {}
    for problem in problems:
        groups.setdefault(_VALUES.sub("'", message(problem)), []).append(problem)
    return sorted(groups.values(), key=lambda group: -len(set(map(row, group))))


def few_rows(numbers: Iterable[int]) -> str:
    """Return text such as `1 row (7)` or `43 rows (3, 7, 12, 13, 20 and 38 more)`."""
    named = list(dict.fromkeys(map(str, numbers)))
    return f"{counted(len(named), 'row')} ({few(named)})"
