"""Token traces as one tensor batch, padded on the right, or packed: end to end, a prefix that rows share computed once.

The rows of one scenario begin with the same message and picture. Attention is causal, so the model computes the same
there for all of them: the first row computes it, the others read it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from steer_lit.policy.positions import Grid, rope_positions
from steer_lit.types import ImageRef, TokenTrace


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """B traces of at most L tokens. `images` lists the pictures row by row, in the order of their tokens.

    `openings` gives, for each row, the first row that opens like it (itself, if none before does) and the number of
    tokens in the opening.
    """

    input_ids: torch.Tensor  # [B, L] int64
    attention_mask: torch.Tensor  # [B, L] bool, True on real tokens
    turn_ids: torch.Tensor  # [B, L] int64, -1 where the policy did not sample
    old_logprobs: torch.Tensor  # [B, L] float32, 0 elsewhere
    position_ids: torch.Tensor  # [3, B, L] int64
    images: tuple[ImageRef, ...]
    openings: tuple[tuple[int, int], ...]

    @property
    def completion_mask(self) -> torch.Tensor:  # [B, L] bool
        """True where the policy sampled."""
        return self.turn_ids >= 0


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


def _opening_of(trace: TokenTrace) -> tuple[tuple[int, ...], tuple[ImageRef, ...]]:
    """Return the key of a trace's shared prefix: its tokens before the first sampled one, and all its pictures."""
    before = next((at for at, turn_idx in enumerate(trace.turn_ids) if turn_idx >= 0), len(trace.turn_ids))
    return trace.token_ids[:before], trace.images


def collate(
    traces: Sequence[TokenTrace], *, pad_id: int, image_token_id: int, grid_of: Callable[[ImageRef], Grid]
) -> TokenBatch:
    """Pad to the longest trace. Causal attention never lets a real token see what lies to its right."""
    rows, length = len(traces), max(len(trace.token_ids) for trace in traces)
    input_ids = torch.full((rows, length), pad_id, dtype=torch.long)
    attention_mask = torch.zeros((rows, length), dtype=torch.bool)
    turn_ids = torch.full((rows, length), -1, dtype=torch.long)
    old_logprobs = torch.zeros((rows, length))
    position_ids = torch.zeros((3, rows, length), dtype=torch.long)
    for row, trace in enumerate(traces):
        size = len(trace.token_ids)
        input_ids[row, :size] = torch.tensor(trace.token_ids)
        attention_mask[row, :size] = True
        turn_ids[row, :size] = torch.tensor(trace.turn_ids)
        old_logprobs[row, :size] = torch.tensor(trace.logprobs)
        grids = [grid_of(ref) for ref in trace.images]
        position_ids[:, row, :size] = rope_positions(trace.token_ids, image_token_id, grids)[0]
    images = tuple(ref for trace in traces for ref in trace.images)
    firsts: dict[object, int] = {}
    openings = tuple(
        (firsts.setdefault(opening, row), len(opening[0])) for row, opening in enumerate(map(_opening_of, traces))
    )
    return TokenBatch(input_ids, attention_mask, turn_ids, old_logprobs, position_ids, images, openings)


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


def padded_batches(traces: Sequence[TokenTrace], budget: int) -> list[list[int]]:
    """Cut rows into micro-batches of at most `budget` padded tokens, rows of similar length together.

    Returns lists of row indices; a row longer than the budget gets a micro-batch of its own.
    """
    lengths = [len(trace.token_ids) for trace in traces]
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def packed_batches(traces: Sequence[TokenTrace], budget: int) -> list[list[int]]:
    """Cut rows into micro-batches of at most `budget` packed tokens. Returns lists of row indices.

    Rows that open alike stay together if one micro-batch holds them. A row longer than the budget gets its own.
    """
    groups: dict[object, list[int]] = {}
    for row, trace in enumerate(traces):
        groups.setdefault(_opening_of(trace), []).append(row)
    batches: list[list[int]] = []
    used = budget
    for rows in groups.values():
        opening = len(_opening_of(traces[rows[0]])[0])
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
