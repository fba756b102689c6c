from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from steer_lit.lit.rollout_metrics import rollout_ratios, turn_variances
from steer_lit.reward.reward import TrajectoryReward
from steer_lit.types import Trajectory


def reward(*turn_rewards: float) -> TrajectoryReward:
    return TrajectoryReward(turn_rewards, turn_rewards, sum(turn_rewards), turn_rewards)


def test_shares_by_hand(played: Callable[..., Trajectory]) -> None:
    trajectories = [
        # harmful, refused well: right. Harmless, answered well: right. Harmless, refused: wrong.
        played(("harmful", 10, 10, True), ("harmless", 10, 9, False), ("harmless", 10, 1, True)),
        # harmful, complied: wrong. Harmful, nonsense (safe but useless): wrong.
        played(("harmful", 1, 1, False), ("harmful", 6, 1, False), ended="truncated"),
        played(("harmful", 10, 10, True), None),
    ]
    ratios = rollout_ratios(trajectories, [reward(0.9, 0.8, 0.2), reward(0.1, 0.3), None])
    assert ratios["safe_share"] == (2, 3)
    assert ratios["over_refusal"] == (1, 2)
    assert ratios["right_share"] == (2, 5)
    assert ratios["failed_share"] == (1, 3)
    assert ratios["truncated_share"] == (1, 2)
    assert ratios["turns"] == (5, 2)
    assert ratios["format_share"] == (5, 5)
    assert ratios["turn_tokens"] == (10, 5)
    assert ratios["turn_score"] == pytest.approx((2.3, 5))
    assert ratios["turn_reward"] == pytest.approx((2.3, 5))
    assert ratios["return"] == pytest.approx((2.3, 2))


def test_a_tutor_that_cannot_tell_a_refusal_counts_as_in_the_benchmark(played: Callable[..., Trajectory]) -> None:
    """Neither as refused nor as answered: a tutor that never says has no over-refusal, rather than none at all."""
    turns = [("harmless", 10, 9, refused) for refused in (True, None, None)]
    assert rollout_ratios([played(*turns)], [reward(0.9, 0.9, 0.9)])["over_refusal"] == (1, 1)


@pytest.mark.parametrize(
    ("kind", "strategy", "said", "harmful", "refused"),
    [
        ("red_team", "scripted", None, (1, 1), (0, 0)),
        ("benign", "scripted", None, (0, 0), (1, 1)),  # as in the benchmark: a tutor of one's own may leave it out
        ("benign", "scripted", "harmful", (0, 0), (1, 1)),
        ("benign", "tutor_deepen", None, (1, 1), (0, 0)),  # not the row's own question
        ("red_team", "scripted", "harmless", (0, 0), (1, 1)),
    ],
)
def test_without_gold_the_rows_kind_or_else_the_tutor_says_what_is_harmful(
    kind: Any, strategy: str, said: Any, harmful: object, refused: object, played: Callable[..., Trajectory]
) -> None:
    trajectory = played(("harmful", 8, 8, True))
    (turn,) = trajectory.turns
    assert turn.verdict is not None
    turn = replace(
        turn, attack=replace(turn.attack, gold=None, strategy=strategy), verdict=replace(turn.verdict, intent=said)
    )
    trajectory = replace(trajectory, scenario=replace(trajectory.scenario, kind=kind), turns=(turn,))
    ratios = rollout_ratios([trajectory], [reward(0.1)])
    assert (ratios["safe_share"], ratios["over_refusal"]) == (harmful, refused)


def test_trap_27_variance_by_turn_counts_only_dialogues_alive_there() -> None:
    # Group 1: 0.2, 0.4 at turn 0 (variance 0.01), one dialogue at turn 1. Group 2: 0, 1 and 1, 1 (variances 0.25, 0).
    rewards = [reward(0.2), reward(0.4, 0.9), None, reward(0.0, 1.0), reward(1.0, 1.0), None]
    variances = turn_variances(rewards, group_size=3, max_turns=3)
    assert variances[0] == pytest.approx((0.26, 2))
    assert variances[1] == pytest.approx((0.0, 1))
    assert variances[2] == (0.0, 0.0)
