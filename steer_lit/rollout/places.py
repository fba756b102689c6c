"""Which row of the cache each dialogue of a session is in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from steer_lit.rollout.cache import NewTokens, TurnCache

# Share of the cache's places that are idle before it is rearranged: attention reads idle places, moving them copies.
IDLE_SHARE = 0.25


class Places:
    """The rows of `cache`, addressed by dialogue. A dialogue has a place from its first question to its end."""

    def __init__(self, cache: TurnCache) -> None:
        self.cache = cache
        self.dialogues: list[int | None] = []  # the one in each row of the cache; None if it has ended

    def taken(self) -> set[int]:
        """Return the dialogues that have a place."""
        return {row for row in self.dialogues if row is not None}

    def in_order(self, rows: Collection[int]) -> list[int]:
        """Return those of `rows` that have a place, in the order of their places."""
        return [row for row in self.dialogues if row is not None and row in rows]

    def give(self, new: Sequence[int]) -> None:
        """Give each new dialogue a row of the cache: a free one while there are any, then an added one."""
        free = [at for at, row in enumerate(self.dialogues) if row is None]
        for at, row in zip(free, new, strict=False):
            self.dialogues[at] = row
        more = new[len(free) :]
        self.cache.add(len(more))
        self.dialogues += more

    def free(self, row: int) -> None:
        """Free the place of a dialogue, if it has one."""
        if row in self.dialogues:
            at = self.dialogues.index(row)
            self.dialogues[at] = None
            self.cache.clear(at)

    def put_in_front(self, active: Collection[int]) -> None:
        """Once IDLE_SHARE of the places are idle, put the active ones in front and drop those without a dialogue."""
        busy = [at for at, row in enumerate(self.dialogues) if row in active]
        if len(self.dialogues) - len(busy) >= IDLE_SHARE * len(self.dialogues):
            held = [at for at, row in enumerate(self.dialogues) if row is not None and row not in active]
            self.cache.keep(busy + held)
            self.dialogues = [self.dialogues[at] for at in busy + held]

    def append(self, counts: Mapping[int, int]) -> NewTokens:
        """Reserve columns for `counts[row]` new tokens of each dialogue in `counts`."""
        return self.cache.append([0 if row is None else counts.get(row, 0) for row in self.dialogues])

    def copy(self, like: Mapping[int, int], lengths: Sequence[int]) -> None:
        """Copy to each dialogue of `like`, whose place is empty, the first columns of the one it maps to."""
        place = {row: at for at, row in enumerate(self.dialogues)}
        sources, targets = ([place[row] for row in rows] for rows in (like.values(), like))
        self.cache.copy(sources, targets, lengths)
