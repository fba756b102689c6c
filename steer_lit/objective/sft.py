"""The SFT loss: negative log-likelihood of the supervised tokens (SaFeR-Steer, Eq. 16)."""

from __future__ import annotations

import torch
from torch import Tensor


def sft_loss(logprobs: Tensor, mask: Tensor, denominator: Tensor | float) -> Tensor:  # [B, L], [B, L], [B, 1] -> []
    """Return the sum of -logprobs / denominator over `mask`; `normalise.denominator` gives the denominators."""
    return (torch.where(mask.bool(), -logprobs, 0.0) / denominator).sum()
