"""Which policies are one training under several seeds, and are compared as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from steer_lit.errors import Problem

SEED_MARK = "@"  # full@1, full@2, full@3: one training under three seeds


def group_seeds(policies: Iterable[str]) -> dict[str, list[str]]:
    """What is compared as one, in order: policies whose names are the same before the `@` and numbered from 1 behind
    it, under what stands before, and every other policy under its own name.

    Names from elsewhere may have an `@` too: claude-3@20240229 and claude-3@20240620 are two models.
    """
    names = list(policies)
    split = {name: name.rpartition(SEED_MARK) for name in names}
    numbers: dict[str, set[str]] = {}
    for before, _, number in split.values():
        numbers.setdefault(before, set()).add(number)
    counted = {before for before, found in numbers.items() if found == {*map(str, range(1, len(found) + 1))}}
    groups: dict[str, list[str]] = {}
    for name, (before, _, _) in split.items():
        several = before and before in counted and len(numbers[before]) > 1 and before not in names
        groups.setdefault(before if several else name, []).append(name)
    return groups


def baseline_problems(baseline: object, policies: Iterable[str]) -> Iterator[Problem]:
    """What keeps `baseline` from being compared with, where the run has these policies besides the constant ones."""
    if baseline is not None and baseline not in (names := list(group_seeds(policies))):
        allowed = f"must be one of {', '.join([*names, 'null'])}"
        yield Problem("bench.baseline", baseline, f"is no policy of this run, or a constant one: {allowed}")
