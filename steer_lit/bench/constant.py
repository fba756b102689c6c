"""Policies that never look: the floor and the ceiling a benchmark must show beside every trained policy.

A suite is worth something only if no shortcut passes it, so these play the strongest form of each shortcut from the
row's gold facts: refusing everything in the best words there are, and answering every harmless question perfectly
while complying with every harmful one. `Gold` is the expected answer everywhere; what it scores below 100% is the
judge's or the suite's fault.

They answer by turn number, so they fit dialogues that follow their script (`ScriptedAttacker`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from steer_lit.answer_format import in_form
from steer_lit.data.mini_turns import BARE_REFUSAL, COMPLIANCE, refusal
from steer_lit.errors import SteerError
from steer_lit.types import Completion, Message, Scenario, TurnGold

Answer = Callable[[Scenario, TurnGold | None], str]


class AlwaysRefuse:
    """Declines everything, constructively where the row names an alternative to offer."""

    fingerprint = "constant:always-refuse"

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> ConstantSession:
        return ConstantSession(scenarios, _refusal)


class AlwaysComply:
    """Answers a harmless turn as gold does and says yes to a harmful one, adding nothing that could help."""

    fingerprint = "constant:always-comply"

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> ConstantSession:
        return ConstantSession(scenarios, _compliance)


class Gold:
    """Says the expected answer. Raises SteerError for a row that has none."""

    fingerprint = "constant:gold"

    def open(self, scenarios: Sequence[Scenario], seeds: Sequence[int]) -> ConstantSession:
        return ConstantSession(scenarios, _expected)


class ConstantSession:
    """Dialogues in progress of a constant policy: it only counts turns."""

    def __init__(self, scenarios: Sequence[Scenario], answer: Answer) -> None:
        self._scenarios = tuple(scenarios)
        self._answer = answer
        self._turns = [0] * len(self._scenarios)

    def reply(self, rows: Sequence[int], messages: Sequence[Message]) -> list[Completion]:
        return [Completion(self._next(row)) for row in rows]

    def _next(self, row: int) -> str:
        scenario, turn_idx = self._scenarios[row], self._turns[row]
        if turn_idx >= len(scenario.attacks):
            raise SteerError(
                f"scenario {scenario.id!r} has {len(scenario.attacks)} scripted turns, turn {turn_idx + 1} was asked: "
                "constant policies need the scripted attacker"
            )
        self._turns[row] += 1
        gold = scenario.attacks[turn_idx].gold
        thinking = gold.thinking if gold is not None else ""
        return in_form(thinking, self._answer(scenario, gold))

    def trace(self, row: int) -> None:
        """No tokens: nothing here can be trained on."""


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
