"""A key/value cache for dialogues whose rows differ in length: rows share columns, padding sits inside.

Each call appends the same number of columns to every row; a row's padding columns are masked for ever, so what
matters to a row is its mask and its explicit positions, not where its columns lie (TRAPS 12). Buffers are allocated
ahead and written in place: growing by concatenation would copy the whole cache once per token. They are handed out
whole, columns not yet in use masked: a slice would be copied before every matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

AHEAD = 64  # columns by which buffers grow


class TurnCache:
    """Keys and values are [B, kv_heads, capacity, head_dim] per layer; `mask` [B, capacity] is True on real tokens;
    `length` columns are in use.
    """

    def __init__(self, rows: int, device: torch.device) -> None:
        self.mask = torch.zeros(rows, 0, dtype=torch.bool, device=device)
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        self.length = 0

    @property
    def rows(self) -> int:
        return len(self.mask)

    def append(self, real: torch.Tensor) -> torch.Tensor:
        """Take columns for `real` [B, q] (True on tokens, False on padding) and return the attention mask.

        The mask is bool [B, 1, q, capacity]: a query sees the row's real tokens up to itself. A padding query sees
        only itself, because a softmax over nothing is not a number.
        """
        start, count = self.length, real.shape[1]
        self.length = start + count
        self._reserve(self.length)
        self.mask[:, start : self.length] = real
        visible = self.mask[:, None, None]
        if count == 1:
            return visible
        column = torch.arange(self.mask.shape[1], device=real.device)
        query = torch.arange(start, self.length, device=real.device)[:, None]
        return (visible & (column <= query)) | (column == query)

    def update(self, key: torch.Tensor, value: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one layer's new columns and return its buffers, [B, kv_heads, capacity, d]."""
        if layer == len(self.keys):
            shape = (key.shape[0], key.shape[1], self.mask.shape[1], key.shape[3])
            self.keys.append(key.new_zeros(shape))
            self.values.append(value.new_zeros(shape))
        start = self.length - key.shape[2]
        self.keys[layer][:, :, start : self.length] = key
        self.values[layer][:, :, start : self.length] = value
        return self.keys[layer], self.values[layer]

    def select(self, rows: Sequence[int]) -> TurnCache:
        """A copy that holds only `rows`, in that order."""
        index = torch.tensor(rows, device=self.mask.device)
        part = TurnCache(0, self.mask.device)
        part.mask = self.mask[index]
        part.keys = [keys[index] for keys in self.keys]
        part.values = [values[index] for values in self.values]
        part.length = self.length
        return part

    def merge(self, part: TurnCache, rows: Sequence[int], start: int) -> None:
        """Take over the columns from `start` on that `part` (selected `rows`) has added since it was selected."""
        self._reserve(part.length)
        index = torch.tensor(rows, device=self.mask.device)
        self.mask[index, start : part.length] = part.mask[:, start : part.length]
        for mine, theirs in zip(self.keys + self.values, part.keys + part.values, strict=True):
            mine[index, :, start : part.length] = theirs[:, :, start : part.length]
        self.length = max(self.length, part.length)

    def _reserve(self, columns: int) -> None:
        extra = -(-columns // AHEAD) * AHEAD - self.mask.shape[1]
        if extra <= 0:
            return
        self.mask = torch.nn.functional.pad(self.mask, (0, extra))
        self.keys = [torch.nn.functional.pad(keys, (0, 0, 0, extra)) for keys in self.keys]
        self.values = [torch.nn.functional.pad(values, (0, 0, 0, extra)) for values in self.values]
