"""Multimodal rotary positions (M-RoPE) of Qwen2.5-VL, from token ids and picture grids alone.

Text advances time, height and width together. A picture takes one time step and spreads its tokens over height and
width; the next token starts after the largest position used. Positions are computed here and passed explicitly,
because some transformers releases get still images wrong (TRAPS 11) and the model remembers `rope_deltas` of its last
generation (TRAPS 10).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

Grid = tuple[int, int]  # rows and columns of a picture's language-model tokens, after the spatial merge


def rope_positions(
    token_ids: Sequence[int], image_token_id: int, grids: Sequence[Grid], start: int = 0
) -> tuple[torch.Tensor, int]:
    """Compute the positions of a stretch of tokens.

    `grids` are the stretch's pictures in order; `start` is the first position, for a stretch that continues a
    dialogue. Returns int64 [3, len(token_ids)] (time, height, width) and the next position.
    """
    positions = torch.empty(3, len(token_ids), dtype=torch.long)
    pending = list(grids)
    column, at = 0, start
    while column < len(token_ids):
        if token_ids[column] != image_token_id:
            end = column
            while end < len(token_ids) and token_ids[end] != image_token_id:
                end += 1
            positions[:, column:end] = torch.arange(at, at + end - column)
            column, at = end, at + end - column
            continue
        if not pending:
            raise ValueError("more image tokens than pictures")
        rows, columns = pending.pop(0)
        end = column + rows * columns
        if any(token != image_token_id for token in token_ids[column:end]) or end > len(token_ids):
            raise ValueError(f"a picture of {rows}x{columns} tokens has fewer image tokens than that")
        positions[0, column:end] = at
        positions[1, column:end] = at + torch.arange(rows).repeat_interleave(columns)
        positions[2, column:end] = at + torch.arange(columns).repeat(rows)
        column, at = end, at + max(rows, columns)
    if pending:
        raise ValueError(f"{len(pending)} pictures have no image tokens")
    return positions, at
