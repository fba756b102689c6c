"""Packing: the rows of a micro-batch end to end without padding, with a prefix that rows share computed once.

The rows of one scenario begin with the same message and picture. Attention is causal, so the model computes the same
there for all of them: the first row computes it, the others read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from steer_lit.policy.token_batch import TokenBatch, opening_of
from steer_lit.types import TokenTrace


@dataclass(frozen=True, slots=True)
class Segment:
    """Packed tokens: each of `own` sees the tokens of `opening` and those of `own` up to itself."""

    own: slice
    opening: slice


@dataclass(frozen=True, slots=True)
class Packing:
    """Where T packed tokens come from, and where the tokens of a padded batch [B, L] went."""

    source: torch.Tensor  # [T] int64, indices in the flattened batch
    slots: torch.Tensor  # [B, L] int64, packed indices; 0 for padding
    segments: tuple[Segment, ...]


def pack(batch: TokenBatch) -> Packing:
    """Lay rows end to end. A row that opens like an earlier one leaves its opening out and attends to that row's."""
    width = batch.input_ids.shape[1]
    slots = torch.zeros_like(batch.input_ids)
    source: list[torch.Tensor] = []
    segments: list[Segment] = []
    packed = 0
    for row, (length, (first, opening)) in enumerate(
        zip(batch.attention_mask.sum(1).tolist(), batch.openings, strict=True)
    ):
        shared = 0 if first == row else opening
        slots[row, :shared] = slots[first, :shared]
        slots[row, shared:length] = torch.arange(packed, packed + length - shared)
        source.append(torch.arange(row * width + shared, row * width + length))
        start = int(slots[first, 0])
        segments.append(Segment(slice(packed, packed + length - shared), slice(start, start + shared)))
        packed += length - shared
    return Packing(torch.cat(source), slots, tuple(segments))


def packed_batches(traces: Sequence[TokenTrace], budget: int) -> list[list[int]]:
    """Cut rows into micro-batches of at most `budget` packed tokens. Returns lists of row indices.

    Rows that open alike stay together if one micro-batch holds them. A row longer than the budget gets its own.
    """
    groups: dict[object, list[int]] = {}
    for row, trace in enumerate(traces):
        groups.setdefault(opening_of(trace), []).append(row)
    batches: list[list[int]] = []
    used = budget
    for rows in groups.values():
        opening = len(opening_of(traces[rows[0]])[0])
        own = [len(traces[row].token_ids) - opening for row in rows]
        full = used + opening + sum(own) > budget
        for row, length in zip(rows, own, strict=True):
            cost = length if row != rows[0] else opening + length
            if full or used + cost > budget:
                batches.append([])
                used, cost, full = 0, opening + length, False
            batches[-1].append(row)
            used += cost
    return batches
