"""A key/value cache for dialogues whose rows differ in length: every row has its own columns, without gaps.

Buffers are allocated ahead and written in place: growing by concatenation would copy the whole cache once per token.
They are handed out whole, columns not yet in use masked: a slice would be copied before every matrix product. Layers
are grown and thinned out one after the other, so that never more than one of them is held twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

AHEAD = 64  # columns by which buffers grow


@dataclass(frozen=True, slots=True)
class NewTokens:
    """N new tokens of the B rows of a cache, laid end to end, at most q of any row; it may have none of some rows."""

    row: torch.Tensor  # [N] int64
    place: torch.Tensor  # [N] int64, the token's number among the new ones of its row
    column: torch.Tensor  # [N] int64, where in the row its key and value go
    mask: torch.Tensor  # bool [B, 1, q, columns], True where a row's new token may look


class TurnCache:
    """Keys and values are [B, kv_heads, capacity, head_dim] per layer; row b uses the first `lengths[b]` columns."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self.device = device
        self.lengths = [0] * rows
        self.capacity = 0
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []

    def append(self, counts: Sequence[int]) -> NewTokens:
        """Reserve columns for `counts[b]` new tokens of row b; each token attends to its own row up to itself."""
        starts, sizes = (torch.tensor(numbers, device=self.device) for numbers in (self.lengths, counts))
        self.lengths = [length + count for length, count in zip(self.lengths, counts, strict=True)]
        self._reserve(max(self.lengths))
        row, place = _end_to_end(sizes, sum(counts))
        last_seen = starts[:, None] + torch.arange(max(counts), device=self.device)  # [B, q]
        mask = torch.arange(self.capacity, device=self.device) <= last_seen[..., None]
        return NewTokens(row, place, starts[row] + place, mask[:, None])

    def update(
        self, key: torch.Tensor, value: torch.Tensor, new: NewTokens, layer: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one layer's new keys and values, [N, kv_heads, d], and return its buffers."""
        if layer == len(self.keys):
            shape = (len(self.lengths), key.shape[1], self.capacity, key.shape[2])
            self.keys.append(key.new_zeros(shape))
            self.values.append(value.new_zeros(shape))
        self.keys[layer][new.row, :, new.column] = key
        self.values[layer][new.row, :, new.column] = value
        return self.keys[layer], self.values[layer]

    def select(self, rows: Sequence[int]) -> TurnCache:
        """A copy that holds only `rows`, in that order."""
        index = torch.tensor(rows, device=self.device)
        part = TurnCache(0, self.device)
        part.lengths = [self.lengths[row] for row in rows]
        part.capacity = self.capacity
        part.keys = [keys[index] for keys in self.keys]
        part.values = [values[index] for values in self.values]
        return part

    def keep(self, rows: Sequence[int]) -> None:
        """Hold only `rows` from now on, in that order; a row may be named more than once."""
        index = torch.tensor(rows, device=self.device)
        self.lengths = [self.lengths[row] for row in rows]
        for buffers in (self.keys, self.values):
            for layer, whole in enumerate(buffers):
                buffers[layer] = whole[index]

    def merge(self, part: TurnCache, rows: Sequence[int]) -> None:
        """Take over what `part`, which was selected as `rows`, has been given since."""
        self._reserve(max(part.lengths))
        starts = torch.tensor([self.lengths[row] for row in rows], device=self.device)
        counts = [length - self.lengths[row] for length, row in zip(part.lengths, rows, strict=True)]
        theirs, place = _end_to_end(torch.tensor(counts, device=self.device), sum(counts))
        mine, column = torch.tensor(rows, device=self.device)[theirs], starts[theirs] + place
        for whole, taken in zip(self.keys + self.values, part.keys + part.values, strict=True):
            whole[mine, :, column] = taken[theirs, :, column]
        for row, length in zip(rows, part.lengths, strict=True):
            self.lengths[row] = length

    def _reserve(self, columns: int) -> None:
        extra = -(-columns // AHEAD) * AHEAD - self.capacity
        if extra <= 0:
            return
        self.capacity += extra
        for buffers in (self.keys, self.values):
            for layer, whole in enumerate(buffers):
                buffers[layer] = torch.nn.functional.pad(whole, (0, 0, 0, extra))


def _end_to_end(sizes: torch.Tensor, total: int) -> tuple[torch.Tensor, torch.Tensor]:
    """For rows of `sizes` [B] tokens laid end to end, `total` in all: each token's row and its place in it, [N]."""
    row = torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes, output_size=total)
    return row, torch.arange(total, device=sizes.device) - (sizes.cumsum(0) - sizes)[row]
