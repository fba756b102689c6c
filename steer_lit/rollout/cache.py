"""A key/value cache for dialogues whose rows differ in length: every row has its own columns, without gaps.

Buffers are allocated ahead and written in place: growing by concatenation would copy the whole cache once per token.
While rows get one token each, attention reads the buffers up to the last such row, with unused columns masked: a slice
of the columns would be copied before every matrix product. Layers are grown and shrunk one after the other, so at most
one of them is held twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

AHEAD = 64  # columns by which buffers grow


@dataclass(frozen=True, slots=True)
class NewTokens:
    """N new tokens of some of a cache's rows, laid end to end, at most q of any row.

    Attention covers S rows: those that have new tokens, or the first S.
    """

    row: torch.Tensor  # [N] int64, in the cache
    column: torch.Tensor  # [N] int64, where in the row its key and value go
    looking: torch.Tensor | None  # [S] int64, the rows attended to; None for the first S
    among: torch.Tensor  # [N] int64, the index of the token's row among those S
    place: torch.Tensor  # [N] int64, the token's index among the new ones of its row
    mask: torch.Tensor  # bool [S, 1, q, columns], True where a row's new token may attend


class TurnCache:
    """Keys and values are [B, kv_heads, capacity, head_dim] per layer; row b uses the first `lengths[b]` columns."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.lengths: list[int] = []
        self.capacity = 0
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []

    def append(self, counts: Sequence[int]) -> NewTokens:
        """Reserve columns for `counts[b]` new tokens of row b; each token attends to its own row up to itself."""
        starts, sizes = self._index(self.lengths), self._index(counts)
        self.lengths = [length + count for length, count in zip(self.lengths, counts, strict=True)]
        self._reserve(max(self.lengths))
        given = [row for row, count in enumerate(counts) if count]
        row, place = _end_to_end(sizes, sum(counts))
        columns, looking, among, seen = self.capacity, None, row, starts[: given[-1] + 1]
        # For one token a row, gathering the rows' keys and values, which reads them twice, costs more than it saves.
        if max(counts) > 1 and len(given) < len(counts):
            columns = _ahead(max(self.lengths[one] for one in given))
            looking = self._index(given)
            among, seen = torch.searchsorted(looking, row), starts[looking]
        last_seen = seen[:, None] + torch.arange(max(counts), device=self.device)  # [S, q]
        mask = torch.arange(columns, device=self.device) <= last_seen[..., None]
        return NewTokens(row, starts[row] + place, looking, among, place, mask[:, None])

    def update(
        self, key: torch.Tensor, value: torch.Tensor, new: NewTokens, layer: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one layer's new keys and values, [N, kv_heads, d]. Returns those of the S rows to attend to."""
        if layer == len(self.keys):
            shape = (len(self.lengths), key.shape[1], self.capacity, key.shape[2])
            self.keys.append(key.new_zeros(shape))
            self.values.append(value.new_zeros(shape))
        keys, values = self.keys[layer], self.values[layer]
        keys[new.row, :, new.column] = key
        values[new.row, :, new.column] = value
        rows, _, _, columns = new.mask.shape
        if new.looking is None:
            return keys[:rows], values[:rows]
        return keys[new.looking, :, :columns], values[new.looking, :, :columns]

    def add(self, rows: int) -> None:
        """Append `rows` empty rows."""
        if not rows:
            return
        self.lengths += [0] * rows
        for buffers in (self.keys, self.values):
            for layer, whole in enumerate(buffers):
                buffers[layer] = torch.cat([whole, whole.new_zeros(rows, *whole.shape[1:])])

    def clear(self, row: int) -> None:
        """Empty the row."""
        self.lengths[row] = 0

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only `rows`, in that order, and no more columns than they need."""
        index = self._index(rows)
        self.lengths = [self.lengths[row] for row in rows]
        self.capacity = _ahead(max(self.lengths, default=0))
        for buffers in (self.keys, self.values):
            for layer, whole in enumerate(buffers):
                buffers[layer] = whole[index, :, : self.capacity]

    def copy(self, sources: Sequence[int], targets: Sequence[int], lengths: Sequence[int]) -> None:
        """Copy the first `lengths[i]` columns of row `sources[i]` to the empty row `targets[i]`."""
        columns, theirs, mine = max(lengths), self._index(sources), self._index(targets)
        for whole in self.keys + self.values:
            whole[mine, :, :columns] = whole[theirs, :, :columns]
        for row, length in zip(targets, lengths, strict=True):
            self.lengths[row] = length

    def _index(self, numbers: Sequence[int]) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self.device)

    def _reserve(self, columns: int) -> None:
        extra = _ahead(columns) - self.capacity
        if extra <= 0:
            return
        self.capacity += extra
        for buffers in (self.keys, self.values):
            for layer, whole in enumerate(buffers):
                buffers[layer] = torch.nn.functional.pad(whole, (0, 0, 0, extra))


def _ahead(columns: int) -> int:
    return -(-columns // AHEAD) * AHEAD


def _end_to_end(sizes: torch.Tensor, total: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each token's row and index in it, both [N], for rows of `sizes` [B] tokens end to end, `total` in all."""
    row = torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes, output_size=total)
    return row, torch.arange(total, device=sizes.device) - (sizes.cumsum(0) - sizes)[row]
