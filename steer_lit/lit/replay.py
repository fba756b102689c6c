"""Replays stored dialogues: the current policy answers their user turns."""

from __future__ import annotations

from collections.abc import Sequence

from steer_lit.attacker.scripted import ScriptedAttacker
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.rollout.engine import SampledPolicy
from steer_lit.rollout.play import play
from steer_lit.types import Attack, Dialogue, Scenario, Trajectory


def as_scenario(dialogue: Dialogue) -> Scenario:
    """Return the dialogue's user turns as a script without gold facts. Raise ValueError if roles do not alternate."""
    opening, *scripted = (Attack(user) for user, _ in dialogue.turns)
    return Scenario(
        id=dialogue.id,
        kind=dialogue.kind or "benign",
        opening=opening,
        scripted=tuple(scripted),
        system=dialogue.system,
        subset=dialogue.subset,
    )


def replay(
    policy: QwenVL, dialogues: Sequence[Dialogue], max_new_tokens: int, side_by_side: int | None = None
) -> list[Trajectory]:
    """Answer every user turn greedily, of at most `side_by_side` dialogues at a time (None: all). The policy reads its
    own earlier answers, not the stored ones.
    """
    scenarios = [as_scenario(dialogue) for dialogue in dialogues]
    keys = "hardware.side_by_side or replay.max_new_tokens"
    greedy = SampledPolicy(policy, max_new_tokens=max_new_tokens, temperature=0.0, memory_keys=keys)
    longest = max((len(scenario.attacks) for scenario in scenarios), default=0)
    seeds = [0] * len(scenarios)
    return play(scenarios, seeds, greedy, ScriptedAttacker(), None, longest, side_by_side=side_by_side)
