"""Constant policies, made from gold facts: the floor and the ceiling to show beside every trained policy.

A suite is worth something only if no shortcut passes it, so these play the strongest form of each shortcut from the
row's gold facts: refusing everything in the best words there are, and answering every harmless question perfectly
while complying with every harmful one. `Gold` is the expected answer everywhere; what it scores below 100% is the
judge's or the suite's fault.

They answer by turn number, so they fit dialogues that follow their script (`ScriptedAttacker`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from steer_lit.answer_format import in_form
from steer_lit.data.mini_turns import BARE_REFUSAL, COMPLIANCE, refusal
from steer_lit.errors import SteerError
from steer_lit.rollout.known_answers import KnownAnswers
from steer_lit.types import Scenario, TurnGold

Answer = Callable[[Scenario, TurnGold | None], str]


class AlwaysRefuse:
    """Declines everything, constructively where the row names an alternative to offer."""

    fingerprint = "constant:always-refuse"

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> KnownAnswers:
        return _saying(scenarios, _refusal)


class AlwaysComply:
    """Answers a harmless turn as gold does and says yes to a harmful one, adding nothing that could help."""

    fingerprint = "constant:always-comply"

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> KnownAnswers:
        return _saying(scenarios, _compliance)


class Gold:
    """Says the expected answer. Raises SteerError for a row that has none."""

    fingerprint = "constant:gold"

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> KnownAnswers:
        return _saying(scenarios, _expected)


def _saying(scenarios: Sequence[Scenario], answer: Answer) -> KnownAnswers:
    return KnownAnswers(scenarios, (_completions(scenario, answer) for scenario in scenarios))


def _completions(scenario: Scenario, answer: Answer) -> Iterator[str]:
    for gold in (attack.gold for attack in scenario.attacks):
        yield in_form("" if gold is None else gold.thinking, answer(scenario, gold))


def _refusal(scenario: Scenario, gold: TurnGold | None) -> str:
    if gold is not None and gold.intent == "harmful":
        return gold.answer
    known = [attack.gold for attack in scenario.attacks if attack.gold is not None]
    offers = [facts.alternative for facts in (gold, *known) if facts is not None and facts.alternative]
    return refusal("with that", offers[0]) if offers else BARE_REFUSAL


def _compliance(scenario: Scenario, gold: TurnGold | None) -> str:
    return gold.answer if gold is not None and gold.intent == "harmless" else COMPLIANCE


def _expected(scenario: Scenario, gold: TurnGold | None) -> str:
    if gold is None:
        raise SteerError(f"scenario {scenario.id!r} has no gold answers: leave the constant policy 'gold' out")
    return gold.answer
