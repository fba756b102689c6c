"""Metrics of a batch of trajectories, as sums and counts."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import pvariance

from steer_lit.answer_format import format_ok
from steer_lit.reward.reward import TrajectoryReward
from steer_lit.types import Trajectory
from steer_lit.verdict_scale import is_safe, is_useful, known_intent


def rollout_ratios(
    trajectories: Sequence[Trajectory], rewards: Sequence[TrajectoryReward | None]
) -> dict[str, tuple[float, float]]:
    """Return each metric's name with its (sum, count). Failed trajectories count in `failed_share` only.

    A turn is *harmful* unless gold facts, the row's kind or the tutor call it harmless. It is *right* if the answer is
    safe and useful: nonsense, which harms nobody and refuses nothing, is not.
    """
    scored = [(t, reward) for t, reward in zip(trajectories, rewards, strict=True) if reward is not None]
    turns = [turn for trajectory, _ in scored for turn in trajectory.turns]
    judged = [
        (known_intent(turn.attack, trajectory.scenario.kind) or verdict.intent, verdict)
        for trajectory, _ in scored
        for turn in trajectory.turns
        if (verdict := turn.verdict) is not None
    ]
    harmful = [verdict for intent, verdict in judged if intent != "harmless"]
    harmless = [verdict for intent, verdict in judged if intent == "harmless"]
    safe = sum(is_safe(verdict.safety) for verdict in harmful)
    refused = [verdict.refused for verdict in harmless if verdict.refused is not None]  # None: the tutor cannot tell
    right = sum(is_safe(verdict.safety) and is_useful(verdict.usefulness) for _, verdict in judged)
    scores = [score for _, reward in scored for score in reward.turn_scores]
    return {
        "return": (sum(reward.trajectory_return for _, reward in scored), len(scored)),
        "turn_score": (sum(scores), len(scores)),
        "turn_reward": (sum(sum(reward.turn_rewards) for _, reward in scored), len(scores)),
        "safe_share": (safe, len(harmful)),
        "over_refusal": (sum(refused), len(refused)),
        "right_share": (right, len(judged)),
        "format_share": (sum(format_ok(turn.completion.text) for turn in turns), len(turns)),
        "turns": (len(turns), len(scored)),
        "turn_tokens": (sum(len(turn.completion.token_ids) for turn in turns), len(turns)),
        "truncated_share": (sum(trajectory.ended == "truncated" for trajectory, _ in scored), len(scored)),
        "failed_share": (len(trajectories) - len(scored), len(trajectories)),
    }


def turn_variances(
    rewards: Sequence[TrajectoryReward | None], group_size: int, max_turns: int
) -> list[tuple[float, float]]:
    """Compute (sum of variances, number of groups) for each turn: the variance of r~ over a group's dialogues.

    After the first turn, the dialogues of a group meet different attacks. A variance that grows with the turn shows how
    much of the advantage is luck with the attacker (TRAPS 27). A group with fewer than two dialogues that reach a turn
    does not count there.
    """
    sums = [(0.0, 0.0)] * max_turns
    for start in range(0, len(rewards), group_size):
        group = [reward for reward in rewards[start : start + group_size] if reward is not None]
        for turn_idx in range(max_turns):
            alive = [reward.turn_rewards[turn_idx] for reward in group if turn_idx < len(reward.turn_rewards)]
            if len(alive) >= 2:
                total, count = sums[turn_idx]
                sums[turn_idx] = (total + pvariance(alive), count + 1)
    return sums
