"""The rewards of a step's trajectories, checked, and every turn's advantage computed from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch

from steer_lit.errors import SteerError
from steer_lit.numbers import counted
from steer_lit.objective.advantage import advantages, turn_advantages, usable_rows
from steer_lit.objective.choices import Scale
from steer_lit.reward.reward import Reward, TrajectoryReward
from steer_lit.types import Trajectory


@dataclass(frozen=True, slots=True)
class AssignedCredit:
    """One entry per trajectory, group after group. `advantages` has one number per turn, none if not usable: a
    trajectory that has some, even zeros, enters the loss.

    `skipped` counts the groups with fewer than two valid trajectories; `flat` counts, among the others, those with
    nothing to compare because their credits are equal up to rounding.
    """

    advantages: tuple[tuple[float, ...], ...]
    skipped: int
    flat: int


def rewards_of(reward: Reward, trajectories: Sequence[Trajectory]) -> list[TrajectoryReward | None]:
    """Return the reward of each trajectory, None for one that failed.

    Raise SteerError for anything else that a user's own class returns: a NaN would look like a learning rate that is
    too high.
    """
    found = [reward.of(trajectory) for trajectory in trajectories]
    for one, turns in zip(found, (len(trajectory.turns) for trajectory in trajectories), strict=True):
        if one is not None and not (isinstance(one, TrajectoryReward) and _fits(one, turns)):
            raise SteerError(
                f"{type(reward).__module__}.{type(reward).__qualname__}.of returned {one!r:.300} for a dialogue of "
                f"{counted(turns, 'turn')}: it must return a TrajectoryReward of finite Python floats, its tuples with "
                "one for each turn, or None if the trajectory failed"
            )
    return found


def checked_credit(
    credit: AssignedCredit, module: object, rewards: Sequence[TrajectoryReward | None]
) -> AssignedCredit:
    """Return what the `credit_of` of a `module`'s class returned for `rewards`. Raise SteerError if it does not fit."""
    turns = [0 if reward is None else len(reward.turn_scores) for reward in rewards]
    rows = credit.advantages if isinstance(credit, AssignedCredit) else None
    wrong = [f"{credit!r:.300} for {counted(len(turns), 'dialogue')}"]
    if isinstance(rows, tuple) and len(rows) == len(turns):
        wrong = [
            f"{row!r:.300} for dialogue {number}, with {counted(count, 'turn')} to learn from"
            for number, (row, count) in enumerate(zip(rows, turns, strict=True), start=1)
            if not (isinstance(row, tuple) and len(row) in (0, count) and all(map(_is_finite, row)))
        ]
    if wrong:
        raise SteerError(
            f"{type(module).__module__}.{type(module).__qualname__}.credit_of returned {wrong[0]}: it must return an "
            "AssignedCredit whose advantages are a tuple with one entry for each dialogue: a tuple with one finite "
            "Python float for each turn, or () if nothing is learned from the dialogue, as from a failed one"
        )
    return credit


def _is_finite(number: object) -> bool:
    return isinstance(number, int | float) and math.isfinite(number)


def _fits(found: TrajectoryReward, turns: int) -> bool:
    by_turn = (found.turn_scores, found.turn_rewards, found.turn_credits)
    if not all(isinstance(entries, tuple) and len(entries) == turns for entries in by_turn):
        return False
    return all(map(_is_finite, (found.trajectory_return, *chain(*by_turn))))


def assign_credit(
    rewards: Sequence[TrajectoryReward | None], group_size: int, scale: Scale, credit: str
) -> AssignedCredit:
    """Compute every turn's advantage. `rewards` holds groups of `group_size` in order, None for failed trajectories.

    With `credit="trajectory"` each trajectory has one advantage, by its return, given to all its turns; any other
    compares the credits of turns.
    """
    by_row = [() if reward is None else reward.turn_credits for reward in rewards]
    turns = max([1, *map(len, by_row)])
    groups = (len(rewards) // group_size, group_size)
    padded = [[*credits, *[0.0] * (turns - len(credits))] for credits in by_row]
    credits = torch.tensor(padded, dtype=torch.float64).view(*groups, turns)  # [G, K, T]
    lengths = torch.tensor([len(credits) for credits in by_row], dtype=torch.int64).view(groups)
    valid = lengths > 0  # a trajectory has at least one turn
    if credit == "trajectory":
        wholes = [0.0 if reward is None else reward.trajectory_return for reward in rewards]
        returns = torch.tensor(wholes, dtype=torch.float64).view(groups)
        table = advantages(returns, valid, scale)[..., None].expand_as(credits)  # [G, K, T]
    else:
        table = turn_advantages(credits, torch.arange(turns) < lengths[..., None], valid, scale)
    usable = usable_rows(valid)
    learned_from = usable.any(1)
    rows = zip(table.flatten(0, 1).tolist(), lengths.flatten().tolist(), usable.flatten().tolist(), strict=True)
    return AssignedCredit(
        advantages=tuple(tuple(row[:length]) if ok else () for row, length, ok in rows),
        skipped=int((~learned_from).sum()),
        flat=int((learned_from & (table == 0.0).flatten(1).all(1)).sum()),
    )
