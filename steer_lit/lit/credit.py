"""The rewards of a step's trajectories, checked, and every turn's advantage computed from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from numbers import Real
from typing import Any

import torch

from steer_lit.errors import SteerError
from steer_lit.numbers import counted
from steer_lit.objective.advantage import advantages, turn_advantages, usable_rows
from steer_lit.objective.choices import Scale
from steer_lit.reward.reward import Reward, TrajectoryReward
from steer_lit.types import Trajectory


@dataclass(frozen=True, slots=True)
class AssignedCredit:
    """One entry per trajectory, group after group. `advantages` has one number per turn, none if not usable.

    `usable` says which trajectories enter the loss. `skipped` counts the groups with fewer than two valid trajectories;
    `flat` counts, among the others, those with nothing to compare because their credits are equal up to rounding.
    """

    usable: tuple[bool, ...]
    advantages: tuple[tuple[float, ...], ...]
    skipped: int
    flat: int


def rewards_of(reward: Reward, trajectories: Sequence[Trajectory]) -> list[TrajectoryReward | None]:
    """Return the reward of each trajectory in plain floats, None for one that failed.

    Raise SteerError for anything else that a user's own class returns: it would break something far from here, and a
    NaN would look like a learning rate that is too high.
    """
    found = [reward.of(trajectory) for trajectory in trajectories]
    for one, trajectory in zip(found, trajectories, strict=True):
        if one is not None and not _fits(one, len(trajectory.turns)):
            raise SteerError(
                f"{type(reward).__module__}.{type(reward).__qualname__}.of returned {one!r:.300} for a dialogue of "
                f"{counted(len(trajectory.turns), 'turn')}: it must return a TrajectoryReward of finite floats, its "
                "tuples with one for each turn, or None if the trajectory failed"
            )
    return [None if one is None else _plain(one) for one in found]


def _fits(found: Any, turns: int) -> bool:
    if not isinstance(found, TrajectoryReward):
        return False
    by_turn = (found.turn_scores, found.turn_rewards, found.turn_credits)
    if not all(isinstance(entries, Sequence) and len(entries) == turns for entries in by_turn):
        return False
    numbers: list[Any] = [found.trajectory_return, *chain.from_iterable(by_turn)]
    return all(isinstance(number, Real) and math.isfinite(number) for number in numbers)


def _plain(found: TrajectoryReward) -> TrajectoryReward:
    """Return the reward in Python's floats: numpy's, as a user's class may return, cannot be written down."""
    scores, rewards, credits = (
        tuple(map(float, entries)) for entries in (found.turn_scores, found.turn_rewards, found.turn_credits)
    )
    return TrajectoryReward(scores, rewards, float(found.trajectory_return), credits)


def assign_credit(
    rewards: Sequence[TrajectoryReward | None], group_size: int, scale: Scale, by_turn: bool
) -> AssignedCredit:
    """Compute every turn's advantage. `rewards` holds groups of `group_size` in order, None for failed trajectories.

    `by_turn` compares the credits of turns (`reward.credit` other than `trajectory`); otherwise each trajectory has one
    advantage, given to all its turns.
    """
    shape = (len(rewards) // group_size, group_size)
    valid = torch.tensor([reward is not None for reward in rewards]).view(shape)
    lengths = [len(reward.turn_credits) if reward else 0 for reward in rewards]
    credits = torch.zeros(len(rewards), max([*lengths, 1]), dtype=torch.float64)
    for row, reward in enumerate(rewards):
        if reward is not None:
            credits[row, : lengths[row]] = torch.tensor(reward.turn_credits, dtype=torch.float64)
    if by_turn:
        alive = (torch.arange(credits.shape[1]) < torch.tensor(lengths)[:, None]).view(*shape, -1)
        table = turn_advantages(credits.view(*shape, -1), alive, valid, scale).flatten(0, 1)
    else:
        table = advantages(credits[:, 0].view(shape), valid, scale).reshape(-1, 1).expand_as(credits)
    usable = usable_rows(valid)
    credited = tuple(
        tuple(table[row, : lengths[row]].tolist()) if ok else () for row, ok in enumerate(usable.flatten().tolist())
    )
    groups = [credited[start : start + group_size] for start in range(0, len(credited), group_size)]
    learned_from = usable.any(1).tolist()
    flat = sum(ok and not any(map(any, group)) for ok, group in zip(learned_from, groups, strict=True))
    return AssignedCredit(tuple(usable.flatten().tolist()), credited, learned_from.count(False), flat)
