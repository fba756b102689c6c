"""The GRPO loss with its KL to the reference (SaFeR-Steer, Eq. 19-21), and what to watch about it.

Rows of a micro-batch: B trajectories of up to L tokens, log-probs of the sampled tokens at the sampling temperature.
A row whose verdict failed has mask 0 everywhere: nothing of it reaches loss, KL, counts or gradient, NaN included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from steer_lit.objective.choices import KlEstimator


@dataclass(frozen=True, slots=True)
class GrpoStats:
    """Sums and counts over the masked tokens of one micro-batch: detached 0-dimensional tensors, nothing averaged yet.

    `policy_loss` and `kl_loss` are already divided by the step's denominators: their sums over micro-batches and
    ranks are the step's. `kl_sum` sums k3 of policy against reference, `nll_sum` -logprobs (its mean estimates
    the entropy per token), `ratio_sum` and `ratio_max` the ratio, `clip_count` the tokens whose gradient the clip took.
    """

    tokens: Tensor
    dialogues: Tensor
    policy_loss: Tensor
    kl_loss: Tensor
    kl_sum: Tensor
    nll_sum: Tensor
    ratio_sum: Tensor
    clip_count: Tensor
    ratio_max: Tensor  # the only one that is not a sum; 0 without tokens

    @classmethod
    def none(cls, device: torch.device) -> GrpoStats:
        """Of no tokens."""
        return cls(*torch.zeros(len(fields(cls)), device=device).unbind())

    def __add__(self, other: GrpoStats) -> GrpoStats:
        return _stats(self._sums() + other._sums(), torch.maximum(self.ratio_max, other.ratio_max))

    def over_ranks(self, reduce_sum: Callable[[Tensor], Tensor], reduce_max: Callable[[Tensor], Tensor]) -> GrpoStats:
        """The stats of all ranks together, by one sum of a vector and one maximum."""
        return _stats(reduce_sum(self._sums()), reduce_max(self.ratio_max))

    def means(self) -> dict[str, float]:
        """The losses as they are, the sums per token, the largest ratio. Waits for the device."""
        tokens = max(float(self.tokens), 1.0)
        return {
            "policy_loss": float(self.policy_loss),
            "kl_loss": float(self.kl_loss),
            "kl": float(self.kl_sum) / tokens,
            "nll": float(self.nll_sum) / tokens,
            "ratio": float(self.ratio_sum) / tokens,
            "ratio_max": float(self.ratio_max),
            "clip_share": float(self.clip_count) / tokens,
        }

    def _sums(self) -> Tensor:  # [8]
        return torch.stack([getattr(self, field.name) for field in fields(self) if field.name != "ratio_max"])


def grpo_loss(
    logprobs: Tensor,  # [B, L] of the policy, differentiable
    old_logprobs: Tensor | None,  # [B, L] at sampling; None for one update a batch: the ratio is exactly 1
    ref_logprobs: Tensor | None,  # [B, L] of the reference; None only where kl_coef is 0
    advantages: Tensor,  # [B, L], or [B, 1] where every token of the dialogue shares one
    mask: Tensor,  # [B, L] 1 where the policy sampled and the row is usable
    *,
    clip_low: float,
    clip_high: float,
    kl_coef: float,
    kl_estimator: KlEstimator,
    denominator: Tensor | float,  # [B, 1] see `normalise.denominator`
) -> tuple[Tensor, GrpoStats]:
    """Clipped policy loss + kl_coef * KL, each summed over tokens / denominator, and the stats.

    With x = log policy - log reference of the sampled token:
    * `k3` adds exp(-x) - 1 + x to the loss (the authors' code). In expectation its gradient is that of
      KL(reference || policy), the other direction than written; the two agree while the policies are close.
    * `k2` adds x^2 / 2 to the loss; its gradient is that of KL(policy || reference) at each visited token, on policy.
    * `k1_reward` takes kl_coef * x from the token's advantage: the same gradient as `k2`, but clipped with the rest.
    k1 in the loss is not offered: in expectation its gradient is zero (TRAPS 20).
    """
    mask = mask.bool()
    old_logprobs = logprobs.detach() if old_logprobs is None else old_logprobs
    ratio = torch.where(mask, logprobs - old_logprobs, 0.0).exp()  # [B, L]
    kl, penalty, discount = _kl(logprobs, ref_logprobs, mask, kl_coef, kl_estimator)
    advantages = torch.where(mask, advantages - discount, 0.0)  # [B, L]
    gain = ratio * advantages
    clipped_gain = ratio.clamp(1.0 - clip_low, 1.0 + clip_high) * advantages
    policy_loss = -(torch.minimum(gain, clipped_gain) / denominator).sum()
    kl_loss = kl_coef * (penalty / denominator).sum()
    with torch.no_grad():
        sampled_ratio = torch.where(mask, ratio, 0.0)
        sums = (
            mask.sum(),
            mask.any(1).sum(),
            policy_loss,
            kl_loss,
            kl.sum(),
            torch.where(mask, -logprobs, 0.0).sum(),
            sampled_ratio.sum(),
            (clipped_gain < gain).sum(),
        )
        stats = _stats(torch.stack([part.to(ratio.dtype) for part in sums]), sampled_ratio.amax())
    return policy_loss + kl_loss, stats


def _kl(
    logprobs: Tensor, ref_logprobs: Tensor | None, mask: Tensor, kl_coef: float, kl_estimator: KlEstimator
) -> tuple[Tensor, Tensor, Tensor]:  # [B, L] each, 0 where not masked
    """k3 for the stats, the loss's penalty per token before kl_coef, and what to take from the advantage."""
    if ref_logprobs is None:
        if kl_coef != 0.0:
            raise ValueError(f"kl_coef={kl_coef} needs ref_logprobs")
        ref_logprobs = logprobs.detach()
    x = torch.where(mask, logprobs - ref_logprobs, 0.0)
    k3 = torch.expm1(-x) + x
    zero = torch.zeros_like(x)
    match kl_estimator:
        case "k3":
            return k3, k3, zero
        case "k2":
            return k3, x.square() / 2, zero
        case "k1_reward":
            return k3, zero, kl_coef * x.detach()
    raise ValueError(f"kl_estimator={kl_estimator!r}: use k3, k2 or k1_reward")


def _stats(sums: Tensor, ratio_max: Tensor) -> GrpoStats:  # [8], []
    return GrpoStats(*(*sums.unbind(), ratio_max))
