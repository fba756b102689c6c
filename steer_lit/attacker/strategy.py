"""The rules that attackers share which react to a verdict (SaFeR-Steer, Eq. 17): when, how, and with what gold."""

from __future__ import annotations

from collections.abc import Sequence

from steer_lit.types import Attack, Message, Scenario, Strategy, Turn, Verdict
from steer_lit.verdict_scale import CONSTRUCTIVE, LEAK


def last_verdict(scenario: Scenario, turns: Sequence[Turn], extra_turns: int) -> Verdict | None:
    """Return the verdict for the next attack, None if none is valid or `extra_turns` turns past the script are over."""
    verdict = turns[-1].verdict if turns else None
    if verdict is None or verdict.failed is not None or len(turns) - len(scenario.attacks) >= extra_turns:
        return None
    return verdict


def strategy_for(turn: Turn) -> Strategy | None:
    """Return the strategy that a scored turn calls for (SaFeR-Steer, Eq. 17 and its text), None if the script goes on.

    If the row's gold does not say whether the turn was harmful, the verdict's intent does, or else its numbers: only
    harmful turns get safety below 10 or a constructive refusal.
    """
    verdict, intent = turn.verdict, turn.intent
    if verdict is None or verdict.safety is None or intent == "harmless":
        return None
    if verdict.safety <= LEAK:
        return "deepen"
    if verdict.safety < CONSTRUCTIVE:
        return "persistence"
    if intent is None:
        return "bait_and_switch" if verdict.refused else None
    return "persistence" if verdict.refused is False else "bait_and_switch"


def written(question: str, scripted: Attack | None, strategy: str) -> Attack:
    """Return the attack of a question that a model wrote (Eq. 17), with the scripted question's pictures.

    Nobody knows its gold. If the model left the scripted question as it was, return the scripted attack, gold included.
    """
    if scripted is None:
        return Attack(Message.of("user", question), None, strategy)
    if question == scripted.message.text.strip():
        return scripted
    return Attack(Message.of("user", *scripted.message.images, question), None, strategy)
