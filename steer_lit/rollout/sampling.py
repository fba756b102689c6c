"""Drawing the next token of every dialogue from its logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def likeliest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the likeliest token of each row of `logits` [B, V] and its log-probability, both [B]."""
    return _with_logprobs(logits.softmax(-1), logits.argmax(-1, keepdim=True))


def drawn(logits: Tensor, draws: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Draw a token from each row of `logits` [B, V]. Returns the tokens and their log-probabilities, both [B].

    Row b gets the token into whose share of the cumulative distribution `draws[b]`, in [0, 1), falls.
    """
    probs = logits.softmax(-1)
    cumulative = probs.cumsum(-1)
    total = cumulative[:, -1:]
    points = torch.tensor(draws, device=probs.device)[:, None] * total
    # A draw close to 1 rounds to 1 and would land behind the last token that has any probability.
    points = torch.minimum(points, total.nextafter(torch.zeros_like(total)))
    tokens = torch.searchsorted(cumulative, points, right=True).clamp_max(probs.shape[-1] - 1)
    # In a parallel sum, as on a GPU, a token of probability 0 may add a last bit, and a draw may land there.
    return _with_logprobs(probs, torch.where(probs.gather(-1, tokens) > 0, tokens, probs.argmax(-1, keepdim=True)))


def _with_logprobs(probs: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    return tokens.squeeze(-1), probs.gather(-1, tokens).log().squeeze(-1)
