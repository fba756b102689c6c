"""Advantages of two groups of three, worked out by hand."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from steer_lit.errors import SteerError
from steer_lit.lit.credit import AssignedCredit, assign_credit, checked_credit, rewards_of
from steer_lit.reward.reward import TrajectoryReward
from steer_lit.types import Trajectory


def reward(*turn_credits: float) -> TrajectoryReward:
    zeros = (0.0,) * len(turn_credits)
    return TrajectoryReward(zeros, zeros, turn_credits[0], turn_credits)


def test_one_advantage_for_all_turns_of_a_trajectory() -> None:
    # Group 1: returns 3, 1 and a failed row. The mean of the two valid ones is 2, so the advantages are 1 and -1. Group
    # 2: returns 2, 2, 2, so nothing to compare.
    rewards = [reward(3.0, 3.0), reward(1.0), None, reward(2.0), reward(2.0), reward(2.0, 2.0, 2.0)]
    credit = assign_credit(rewards, group_size=3, scale="none", credit="trajectory")
    assert credit.advantages == ((1.0, 1.0), (-1.0,), (), (0.0,), (0.0,), (0.0, 0.0, 0.0))
    assert (credit.skipped, credit.flat) == (0, 1)


def test_credit_by_trajectory_compares_the_returns_whatever_the_turns_credits_are() -> None:
    # Of a reward of one's own. Returns 2.2, 1.6, 2.2 and 1.1, their mean 1.775; every first turn has credit 1.
    turns = ((1.0, 1.2), (1.0, 0.6), (1.0, 1.2), (1.0, 0.1))
    rewards = [TrajectoryReward(credits, credits, sum(credits), credits) for credits in turns]
    credit = assign_credit(rewards, group_size=4, scale="none", credit="trajectory")
    for row, advantage in zip(credit.advantages, (0.425, -0.175, 0.425, -0.675), strict=True):
        assert row == pytest.approx((advantage, advantage))
    assert credit.flat == 0


class Own:
    """A user's own reward, which returns what it was made with."""

    def __init__(self, found: Any) -> None:
        self.found = found

    def of(self, trajectory: Trajectory) -> Any:
        return self.found


NAN = float("nan")
TWO = (0.5, 0.5)


@pytest.mark.parametrize(
    "found",
    [
        {"return": 1.0},
        0.5,
        TrajectoryReward(TWO, TWO, 1.0, (1.0,)),
        TrajectoryReward((), TWO, 1.0, TWO),
        TrajectoryReward(TWO, None, 1.0, TWO),  # type: ignore[arg-type]
        TrajectoryReward(TWO, TWO, NAN, TWO),
        TrajectoryReward(TWO, TWO, 1.0, (0.5, float("inf"))),
        TrajectoryReward(TWO, ("a", "b"), 1.0, TWO),  # type: ignore[arg-type]
        TrajectoryReward(TWO, (np.float32(0.5),) * 2, 1.0, TWO),  # type: ignore[arg-type]  # no line of JSON holds it
    ],
)
def test_what_a_reward_of_ones_own_returns_is_checked_where_it_returns(
    found: Any, played: Callable[..., Trajectory]
) -> None:
    """A NaN would be blamed on the learning rate; the others would end in a traceback from deep inside."""
    turn = ("harmless", 10, 10, False)
    said = re.escape(f"{__name__}.Own.of returned {found!r:.300} for a dialogue of 2 turns: it must return a Traj")
    with pytest.raises(SteerError, match=f"^{said}"):
        rewards_of(Own(found), [played(turn, turn)])  # type: ignore[arg-type]


def test_a_fitting_reward_passes(played: Callable[..., Trajectory]) -> None:
    turn = ("harmless", 10, 10, False)
    for own in (None, TrajectoryReward(TWO, (1, 0), 1, TWO)):
        assert rewards_of(Own(own), [played(turn, turn)]) == [own]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("advantages", "wrong"),
    [
        (None, "None for 2 dialogues"),
        ((TWO,), f"{AssignedCredit((TWO,), 0, 0)!r} for 2 dialogues"),
        ((TWO, (), ()), f"{AssignedCredit((TWO, (), ()), 0, 0)!r} for 2 dialogues"),
        (((0.5, NAN), ()), "(0.5, nan) for dialogue 1, with 2 turns to learn from"),
        (((float("inf"), 0.5), ()), "(inf, 0.5) for dialogue 1, with 2 turns to learn from"),
        (((0.5,), ()), "(0.5,) for dialogue 1, with 2 turns to learn from"),
        (((0.5, 0.5, 0.5), ()), "(0.5, 0.5, 0.5) for dialogue 1, with 2 turns to learn from"),
        ((0.5, ()), "0.5 for dialogue 1, with 2 turns to learn from"),
        ((("a", "b"), ()), "('a', 'b') for dialogue 1, with 2 turns to learn from"),
        ((TWO, TWO), "(0.5, 0.5) for dialogue 2, with 0 turns to learn from"),
    ],
)
def test_what_a_module_of_ones_own_returns_as_credit_is_checked_where_it_returns(advantages: Any, wrong: str) -> None:
    """A NaN would make the adapter NaN; a missing turn would be learned from as if it had none."""
    credit: Any = AssignedCredit(advantages, 0, 0) if advantages else None
    said = re.escape(f"{__name__}.Own.credit_of returned {wrong}: it must return an AssignedCredit whose advantages")
    with pytest.raises(SteerError, match=f"^{said}"):
        checked_credit(credit, Own(None), [reward(0.5, 0.5), None])


def test_fitting_credit_passes() -> None:
    for advantages in ((TWO, ()), ((1, 0), ()), ((), ())):
        credit = AssignedCredit(advantages, 0, 0)
        assert checked_credit(credit, Own(None), [reward(0.5, 0.5), None]) is credit


def test_a_group_with_one_valid_trajectory_is_skipped() -> None:
    credit = assign_credit(
        [reward(3.0), None, reward(1.0), reward(2.0)], group_size=2, scale="none", credit="trajectory"
    )
    assert credit.advantages == ((), (), (-0.5,), (0.5,))
    assert (credit.skipped, credit.flat) == (1, 0)


def test_turn_credit_has_one_baseline_per_turn() -> None:
    # Returns-to-go 4, 1 and 2, 3, and of a dialogue that ended after one turn, 3. Turn 1: 2/3 * (4 - 2.5) and so on;
    # turn 2, without the ended one: 2/3 * (1 - 3).
    rewards = [reward(4.0, 1.0), reward(2.0, 3.0), reward(3.0)]
    credit = assign_credit(rewards, group_size=3, scale="none", credit="turn")
    assert credit.advantages[0] == pytest.approx((1.0, -4 / 3))
    assert credit.advantages[1] == pytest.approx((-1.0, 4 / 3))
    assert credit.advantages[2] == pytest.approx((0.0,))
    assert credit.flat == 0
    for second, flat in ((2.0, 1), (2.0 + 1e-8, 0)):  # as far apart as repetition terms may be, which float32 drops
        equal = [reward(2.0, 1.0), reward(second, 1.0), None]
        assert assign_credit(equal, group_size=3, scale="none", credit="turn").flat == flat


def test_a_rank_without_rows_has_no_credit() -> None:
    credit = assign_credit([], group_size=4, scale="none", credit="trajectory")
    assert (credit.advantages, credit.skipped, credit.flat) == ((), 0, 0)
