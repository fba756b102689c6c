"""Token traces, padded on the right into one tensor batch."""

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


def opening_of(trace: TokenTrace) -> tuple[tuple[int, ...], tuple[ImageRef, ...]]:
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
        (firsts.setdefault(opening, row), len(opening[0])) for row, opening in enumerate(map(opening_of, traces))
    )
    return TokenBatch(input_ids, attention_mask, turn_ids, old_logprobs, position_ids, images, openings)


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
