"""TCSR: a turn is worth what the dialogue has been worth so far, so one failure lowers every turn after it."""

from __future__ import annotations

import math
from collections.abc import Sequence


def tcsr(scores: Sequence[float], alpha: float) -> list[float]:
    """Turn rewards from turn scores, one each: alpha * min(r_1..r_t) + (1 - alpha) * mean(r_1..r_t).

    SaFeR-Steer, Eq. 18. With `alpha` in [0, 1] and scores in [0, 1] the rewards lie in [0, 1] too.
    """
    rewards = []
    for count in range(1, len(scores) + 1):
        so_far = scores[:count]
        # fsum, so that the same scores in another order give exactly the same mean (TRAPS 23).
        rewards.append(alpha * min(so_far) + (1.0 - alpha) * math.fsum(so_far) / count)
    return rewards


def returns_to_go(rewards: Sequence[float]) -> list[float]:
    """At each turn, the sum of its reward and all later ones."""
    return [math.fsum(rewards[start:]) for start in range(len(rewards))]
