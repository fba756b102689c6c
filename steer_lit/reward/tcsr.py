"""TCSR, the trajectory-consistent summative reward: a turn is worth what its dialogue has been worth so far.

One failure lowers the reward of every later turn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def tcsr(scores: Sequence[float], alpha: float) -> list[float]:
    """Compute each turn's reward from the turn scores: alpha * min(r_1..r_t) + (1 - alpha) * mean(r_1..r_t).

    SaFeR-Steer, Eq. 18. With `alpha` in [0, 1] and scores in [0, 1] the rewards lie in [0, 1] too.
    """
    rewards = []
    for count in range(1, len(scores) + 1):
        so_far = scores[:count]
        # fsum, so that the same scores in another order give exactly the same mean (TRAPS 23).
        rewards.append(alpha * min(so_far) + (1.0 - alpha) * math.fsum(so_far) / count)
    return rewards


def returns_to_go(rewards: Sequence[float]) -> list[float]:
    """Compute the return-to-go of each turn: the sum of its reward and all later ones."""
    return [math.fsum(rewards[start:]) for start in range(len(rewards))]


def gains(scores: Sequence[float], alpha: float) -> list[float]:
    """Compute each turn's return-to-go, less the part that earlier turns had already settled.

    A turn reward inherits the mean and the minimum of every earlier turn, so the plain return-to-go of a late turn
    says more about the turns before it than about the turn itself: a bad answer late in a good dialogue beats the same
    answer in a bad one. What turns 1..t-1 contribute to turn j, `alpha * min + (1 - alpha) * sum / j`, does not depend
    on the answer at turn t. Subtracting it keeps the expected gradient of Eq. 20, if `objective.scale=none` and the
    policy does not choose the number of turns, and removes most of its variance. A cut-off answer, which does shorten
    its dialogue, is charged with its own part alone. Ours, not the paper's.
    """
    rewards = tcsr(scores, alpha)
    credits = []
    for start in range(len(scores)):
        earlier = scores[:start]
        lowest, total = (min(earlier), math.fsum(earlier)) if earlier else (0.0, 0.0)
        settled = [alpha * lowest + (1.0 - alpha) * total / count for count in range(start + 1, len(scores) + 1)]
        credits.append(math.fsum(rewards[start:]) - math.fsum(settled))
    return credits
