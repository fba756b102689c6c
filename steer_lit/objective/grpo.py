"""The GRPO loss with its KL to the reference (SaFeR-Steer, Eq. 19-21), and statistics to watch.

A micro-batch has B rows, each a trajectory of up to L tokens. Log-probabilities are of the sampled tokens, at the
sampling temperature. A row whose verdict failed has mask 0 everywhere: nothing in it, NaN included, reaches loss, KL,
counts or the gradient of the log-probabilities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from steer_lit.objective.choices import KlEstimator

SUMS = ("tokens", "policy_loss", "kl_loss", "kl", "nll", "ratio", "clipped")  # what `GrpoStats.sums` holds, in order


@dataclass(frozen=True, slots=True)
class GrpoStats:
    """Detached sums over the masked tokens of one micro-batch, not averaged yet, and the largest ratio.

    `policy_loss` and `kl_loss` are already divided by the step's denominators: their sums over micro-batches and
    ranks are the step's. `tokens` counts, `kl` sums k3 of policy against reference, `nll` sums -logprobs (its mean
    estimates the entropy per token), `ratio` sums the ratio. `clipped` counts tokens whose gradient was clipped away.
    """

    sums: Tensor  # [7], in the order of SUMS
    ratio_max: Tensor  # [] 0 without tokens

    @classmethod
    def of(cls, ratio_max: Tensor, **sums: Tensor) -> GrpoStats:
        """Stack the 0-dimensional tensors given for each of SUMS."""
        return cls(torch.stack([sums[name].to(ratio_max.dtype) for name in SUMS]), ratio_max)

    @classmethod
    def none(cls, device: torch.device) -> GrpoStats:
        """Return the stats of no tokens, the start of a sum."""
        return cls(torch.zeros(len(SUMS), device=device), torch.zeros((), device=device))

    def __add__(self, other: GrpoStats) -> GrpoStats:
        return GrpoStats(self.sums + other.sums, torch.maximum(self.ratio_max, other.ratio_max))

    def means(self) -> dict[str, float]:
        """Return the losses as they are, other sums per token, and the largest ratio. Waits for the device once.

        Without tokens, all but the losses are NaN.
        """
        *sums, ratio_max = torch.cat([self.sums, self.ratio_max[None]]).tolist()
        total = dict(zip(SUMS, sums, strict=True))
        tokens = total["tokens"] or math.nan
        return {
            "policy_loss": total["policy_loss"],
            "kl_loss": total["kl_loss"],
            "kl": total["kl"] / tokens,
            "nll": total["nll"] / tokens,
            "ratio": total["ratio"] / tokens,
            "ratio_max": ratio_max if total["tokens"] else math.nan,
            "clip_share": total["clipped"] / tokens,
        }


def grpo_loss(
    logprobs: Tensor,  # [B, L] of the policy, differentiable
    old_logprobs: Tensor | None,  # [B, L] at sampling; None for one update a batch: the ratio is exactly 1
    ref_logprobs: Tensor | None,  # [B, L] of the reference; None only if kl_coef is 0
    advantages: Tensor,  # [B, L], or [B, 1] if all tokens of a dialogue share one
    mask: Tensor,  # [B, L] 1 where the policy sampled and the row is usable
    *,
    clip_low: float,
    clip_high: float,
    kl_coef: float,
    kl_estimator: KlEstimator,
    denominator: Tensor | float,  # [B, 1] see `normalise.denominator`
) -> tuple[Tensor, GrpoStats]:
    """Return the clipped policy loss + kl_coef * KL, each a sum over tokens / denominator, and the stats.

    With x = log policy - log reference of the sampled token:
    * `k3` adds exp(-x) - 1 + x to the loss (the authors' code). Its expected gradient is that of
      KL(reference || policy), the reverse of the KL in the paper; the two agree while the policies are close.
    * `k2` adds x^2 / 2 to the loss. Its gradient is that of KL(policy || reference) at each visited token, on policy.
    * `k1_reward` subtracts kl_coef * x from the token's advantage: the gradient of `k2`, but clipped with the rest.
    k1 in the loss is not offered: its expected gradient is zero (TRAPS 20).

    That is so while the policy is the one that sampled. In later epochs of a batch k3 and k2 still pull every sampled
    token towards the reference, but have no ratio: next to the gradients above each token weighs 1 / ratio too much.
    `k1_reward` is multiplied by the ratio, so its gradient stays that of KL(policy || reference) where nothing clips.
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
        stats = GrpoStats.of(
            ratio_max=sampled_ratio.amax(),
            tokens=mask.sum(),
            policy_loss=policy_loss,
            kl_loss=kl_loss,
            kl=kl.sum(),
            nll=torch.where(mask, -logprobs, 0.0).sum(),
            ratio=sampled_ratio.sum(),
            clipped=(clipped_gain < gain).sum(),
        )
    return policy_loss + kl_loss, stats


def _kl(
    logprobs: Tensor, ref_logprobs: Tensor | None, mask: Tensor, kl_coef: float, kl_estimator: KlEstimator
) -> tuple[Tensor, Tensor, Tensor]:  # [B, L] each, 0 where not masked
    """Return k3 for the stats, the loss's penalty before kl_coef, and the amount to subtract from the advantage."""
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
