"""Advantages: how much better a trajectory, or one of its turns, did than the rest of its group.

SaFeR-Steer, Eq. 19. G groups of K trajectories of up to T turns.

A failed row has no vote and no advantage. A group left with fewer than two valid rows has nothing to compare: all its
advantages are 0, and `usable_rows` says which rows are left for masks and denominators. Computed in float64: the
numbers are few, and their differences count.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steer_lit.objective.choices import Scale

# A group's returns or credits count as equal if their spread is at most NOISE * max(1, |highest|): dividing by rounding
# error would make advantages of size one out of nothing (TRAPS 23). Values equal on paper can come from different sums;
# in float64 these differ by 1e-14, or by 1e-10 if weights such as 1/3 make scores of 12 decimals. Values that differ on
# paper differ by more: scores by 1e-3 between verdicts and 1e-7 between the repetition terms of answers of a thousand
# words, returns by that over the number of turns.
NOISE = 1e-9


def usable_rows(valid: Tensor) -> Tensor:  # [G, K] bool -> [G, K] bool
    """Return which rows enter the loss: the valid ones of groups that have at least two."""
    valid = valid.bool()
    return valid & (valid.sum(1, keepdim=True) >= 2)


def advantages(returns: Tensor, valid: Tensor, scale: Scale) -> Tensor:  # [G, K], [G, K] -> [G, K]
    """Return A_k = R_k - mean of R over the valid rows of its group; 0 where not usable.

    `scale="none"` is the paper's. `"group"` divides by the group's standard deviation (n - 1 in its denominator), as
    the authors' code does by default. Failed rows may hold any value, NaN included.
    """
    voters = usable_rows(valid)  # [G, K]
    kept = torch.where(voters, returns, 0.0).double()
    count = voters.sum(1, keepdim=True).clamp(min=1)  # [G, 1]
    centred = kept - kept.sum(1, keepdim=True) / count  # [G, K]
    return _scaled(centred, kept, voters, scale).to(returns.dtype)


def turn_advantages(
    credits: Tensor,  # [G, K, T] return-to-go
    alive: Tensor,  # [G, K, T] bool: the dialogue had this turn
    valid: Tensor,  # [G, K] bool
    scale: Scale,
) -> Tensor:  # [G, K, T]
    """Return A_kt = (n - 1) / n * (G_kt - mean of G_jt over the *other* valid rows j alive at turn t); n valid rows.

    If all n rows are alive, this is G_kt minus the group's mean, as in `advantages`. If the policy ended some
    dialogues early, it is still unbiased (TRAPS 26): the baseline depends on nothing that row k did from turn t on, and
    the factor is the same at every turn, so under `scale="none"` the expected gradient is (n - 1) / n times the
    true one. The plain mean over the survivors would shrink each turn by its own number of survivors. Counting
    the ended rows as 0 would be unbiased, but push every survivor up. The only row alive has baseline 0, the
    return-to-go of the dialogues that ended; under `scale="group"` its advantage is 0: there is no spread to divide
    by. Entries not alive or not usable are 0.
    """
    usable = usable_rows(valid)[..., None]  # [G, K, 1]
    voters = usable & alive.bool()  # [G, K, T]
    kept = torch.where(voters, credits, 0.0).double()
    others = (voters.sum(1, keepdim=True) - 1).clamp(min=1)  # [G, 1, T]
    baseline = (kept.sum(1, keepdim=True) - kept) / others  # [G, K, T] leave one out; 0 when alone
    rows = usable.sum(1, keepdim=True).clamp(min=1).double()  # [G, 1, 1]
    return _scaled((rows - 1) / rows * (kept - baseline), kept, voters, scale).to(credits.dtype)


def _scaled(centred: Tensor, values: Tensor, voters: Tensor, scale: Scale) -> Tensor:  # all [G, K] or [G, K, T]
    count = voters.sum(1, keepdim=True)
    highest = torch.where(voters, values, -torch.inf).amax(1, keepdim=True)
    lowest = torch.where(voters, values, torch.inf).amin(1, keepdim=True)
    flat = highest - lowest <= NOISE * highest.abs().clamp(min=1.0)
    match scale:
        case "none":
            return torch.where(voters & ~(flat & (count >= 2)), centred, 0.0)
        case "group":
            mean = values.sum(1, keepdim=True) / count.clamp(min=1)
            squares = torch.where(voters, values - mean, 0.0).square().sum(1, keepdim=True)
            std = (squares / (count - 1).clamp(min=1)).sqrt()
            return torch.where(voters & ~flat, centred / torch.where(flat, 1.0, std), 0.0)
    raise ValueError(f"scale={scale!r}: use none or group")
