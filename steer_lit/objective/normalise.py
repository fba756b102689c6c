"""Denominators of the token losses, counted over the whole optimizer step.

A "sequence" in the literature is a dialogue here: one row, all its turns. The counts cover every micro-batch on
every rank and leave failed rows out (their mask is 0), so the step's gradient is the *sum* over micro-batches and
ranks of the micro-batch gradients, however the step was cut (TRAPS 22).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from steer_lit.objective.choices import Normaliser


class StepCounts(NamedTuple):
    """How many dialogues have a counted token, and how many tokens count. Add up over micro-batches and ranks."""

    dialogues: float
    tokens: float


def denominator(
    mask: Tensor,  # [B, L]
    normaliser: Normaliser,
    step: StepCounts,
    max_tokens: int | None = None,
) -> Tensor:  # [B, 1]
    """Return the divisor of each token's loss, by row.

    * `dialogue_sum`: the step's dialogues. Tokens are summed within a dialogue, dialogues averaged: the paper's
      (SaFeR-Steer, Eq. 21). A long dialogue weighs more.
    * `dialogue`: the step's dialogues times the row's own tokens. Every dialogue weighs the same (GRPO).
    * `token`: the step's tokens. Every token weighs the same (DAPO).
    * `constant`: the step's dialogues times `max_tokens`, the most a dialogue may sample (Dr. GRPO). Weighs like
      `dialogue_sum`, but the loss has the size of one token's.
    """
    row_tokens = mask.bool().sum(1, keepdim=True).clamp(min=1)  # [B, 1]
    same = torch.ones_like(row_tokens, dtype=torch.float32)  # [B, 1]
    dialogues, tokens = max(step.dialogues, 1.0), max(step.tokens, 1.0)  # a step of failed rows has a loss of 0
    match normaliser:
        case "dialogue_sum":
            return same * dialogues
        case "dialogue":
            return row_tokens * dialogues
        case "token":
            return same * tokens
        case "constant":
            if max_tokens is None or max_tokens < 1:
                raise ValueError(f"normaliser=constant needs max_tokens >= 1, got {max_tokens}")
            return same * dialogues * max_tokens
    raise ValueError(f"normaliser={normaliser!r}: use dialogue_sum, dialogue, token or constant")
