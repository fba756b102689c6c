"""Suggests names that exist for one that does not."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def nearest(wrong: str, known: Sequence[str]) -> str:
    """Return ` Did you mean ...?` or "". The last part of a dotted key counts too: `lr` finds `optim.lr`."""
    section, _, name = wrong.partition(".")
    if name and section != "policies" and "policies" in difflib.get_close_matches(section, known, cutoff=0.7):
        return f" Did you mean policies.{name}?"  # the user chooses the names there, so none is known
    found = difflib.get_close_matches(wrong, known, n=3, cutoff=0.8)
    tails = {key.rsplit(".", 1)[-1]: key for key in sorted(known, key=len, reverse=True)}  # the shortest key wins
    found += [tails[tail] for tail in difflib.get_close_matches(wrong.rsplit(".", 1)[-1], tails, n=3, cutoff=0.8)]
    return did_you_mean(found)


def did_you_mean(found: Sequence[str]) -> str:
    """Return ` Did you mean a or b?`, or "" for no names."""
    return f" Did you mean {' or '.join(list(dict.fromkeys(found))[:3])}?" if found else ""
