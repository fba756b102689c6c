"""Groups of policies that are one training under several seeds, and are compared as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from steer_lit.errors import Problem

SEED_MARK = "@"  # full@1, full@2, full@3: one training under three seeds


def group_seeds(policies: Iterable[str]) -> dict[str, list[str]]:
    """Group the policies that are compared as one, in order.

    At least two policies whose names agree up to the last `@`, and are numbered from 1 after it, form a group under the
    common name, unless a policy has that name itself. Every other policy forms a group under its own name.
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
    """Yield a problem if `baseline` is none of the groups that `policies`, without the constant ones, form."""
    if baseline is not None and baseline not in (names := list(group_seeds(policies))):
        allowed = f"must be one of {', '.join([*names, 'null'])}"
        yield Problem("bench.baseline", baseline, f"is no policy of this run, or a constant one: {allowed}")
