"""Log-probabilities of chosen tokens through the language-model head, without keeping logits if it is frozen.

A vocabulary of 150k by a few thousand positions is gigabytes of logits. A frozen head need not keep them: the gradient
of its input has a closed form, `(W[token] - softmax(W h / T) W) / T`, and is computed chunk by chunk in the forward
pass. Backward needs only this gradient, which has the size of the hidden states (TRAPS 29).
"""

from __future__ import annotations

from typing import Any

import torch


class _HeadLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,  # [N, H]
        weight: torch.Tensor,  # [V, H]
        tokens: torch.Tensor,  # [N]
        forbidden: torch.Tensor,  # [F] token ids that cannot be sampled
        temperature: float,
        chunk: int,  # positions multiplied at a time
        floats: int,  # positions of a chunk held in float32 at a time
    ) -> torch.Tensor:
        logprobs = torch.empty(len(tokens), dtype=torch.float32, device=hidden.device)
        grad = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, len(tokens), chunk):
            part = slice(start, start + chunk)
            logits = hidden[part].to(weight.dtype) @ weight.T  # [n, V]
            columns = logits, tokens[part, None], logprobs[part, None]
            for few, chosen, found in zip(*(column.split(floats) for column in columns), strict=True):
                scored = restricted(few, forbidden, temperature).log_softmax(-1)  # logsumexp takes ten times as long
                torch.gather(scored, -1, chosen, out=found)
                if grad is not None:
                    # One minus the token's probability is computed in float32: rounded to bfloat16, 0.999 is 1.
                    toward = scored.exp_().neg_().scatter_add_(1, chosen, torch.ones_like(found))
                    few.copy_(toward)  # overwrites the logits, which are no longer needed
            if grad is not None:
                grad[part] = logits @ weight / temperature
        if grad is not None:
            ctx.save_for_backward(grad)
        return logprobs

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        (grad,) = ctx.saved_tensors
        return (upstream[:, None] * grad).to(grad.dtype), None, None, None, None, None, None


def restricted(logits: torch.Tensor, forbidden: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return `logits` [N, V] in float32 over the temperature, with forbidden tokens at minus infinity.

    May reuse the memory of `logits`. Sampling and scoring share this, so both lack forbidden tokens (TRAPS 14, 17).
    """
    logits = logits.float()
    if temperature != 1.0:
        logits /= temperature
    logits[:, forbidden] = -torch.inf
    return logits


def head_logprobs(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    tokens: torch.Tensor,
    forbidden: torch.Tensor,
    temperature: float = 1.0,
    chunk: int | None = None,
) -> torch.Tensor:
    """Return log p(tokens[n] | hidden[n]), float32 [N], differentiable in `hidden` and in `weight` [V, H] if it trains.

    `chunk` positions are multiplied at a time; None takes a number that is fast on the device.
    """
    if weight.requires_grad:  # pretraining: the head is small, and its logits may be kept
        logits = restricted(hidden @ weight.T, forbidden, temperature)
        return logits.log_softmax(-1).gather(-1, tokens[:, None]).squeeze(-1)
    # A CPU's caches hold few logits, fewer still as float32; a GPU reads the weights less often.
    on_cpu = hidden.device.type == "cpu"
    chunk = chunk or (128 if on_cpu else 256)
    floats = 16 if on_cpu else chunk
    return _HeadLogprobs.apply(hidden, weight, tokens, forbidden, temperature, chunk, floats)
