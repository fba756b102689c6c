"""Replays stored dialogues: the current policy answers their user turns."""

from __future__ import annotations

from collections.abc import Sequence

from steer_lit.attacker.scripted import ScriptedAttacker
from steer_lit.policy.qwen_vl import QwenVL
from steer_lit.rollout.engine import SampledPolicy
from steer_lit.rollout.play import play
from steer_lit.types import Attack, Dialogue, Scenario, Trajectory


def as_scenario(dialogue: Dialogue) -> Scenario:
    """The dialogue's user side as a script without gold facts. Raises ValueError when it has no user turn."""
    system = next((message.text for message in dialogue.messages if message.role == "system"), None)
    attacks = [Attack(message) for message in dialogue.messages if message.role == "user"]
    if not attacks:
        raise ValueError(f"dialogue {dialogue.id!r} has no user turn")
    return Scenario(
        id=dialogue.id,
        kind=dialogue.kind or "benign",
        opening=attacks[0],
        scripted=tuple(attacks[1:]),
        system=system,
        subset=dialogue.subset,
    )


def stored_answers(dialogue: Dialogue) -> tuple[str, ...]:
    """The assistant texts, in order."""
    return tuple(message.text for message in dialogue.messages if message.role == "assistant")


def replay(policy: QwenVL, dialogues: Sequence[Dialogue], max_new_tokens: int) -> list[Trajectory]:
    """Greedy answers to every user turn. The policy reads its own earlier answers, not the stored ones."""
    scenarios = [as_scenario(dialogue) for dialogue in dialogues]
    if not scenarios:
        return []
    greedy = SampledPolicy(policy, max_new_tokens=max_new_tokens, temperature=0.0)
    longest = max(len(scenario.attacks) for scenario in scenarios)
    return play(scenarios, [0] * len(scenarios), greedy, ScriptedAttacker(), None, max_turns=longest)
