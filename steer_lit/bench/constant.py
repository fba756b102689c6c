"""Constant policies, made from gold facts: the floor and the ceiling to show beside every trained policy.

A suite is worth something only if no shortcut passes it. These policies play the strongest form of each shortcut from
the row's gold facts: refusing everything in the best words there are, and answering every harmless question perfectly
while complying with every harmful one. `GOLD` gives the expected answer everywhere; a score below 100% is the judge's
or the suite's fault.

They answer by turn number, so they fit dialogues that follow their script (`ScriptedAttacker`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from steer_lit.answer_format import in_form
from steer_lit.data.mini_turns import BARE_REFUSAL, COMPLIANCE, refusal
from steer_lit.errors import SteerError
from steer_lit.numbers import counted
from steer_lit.rollout.known_answers import KnownPolicy
from steer_lit.types import Scenario, TurnGold

log = logging.getLogger(__name__)


def _refusal(scenario: Scenario, gold: TurnGold | None) -> str:
    """Decline, with an alternative if the row names one."""
    if gold is not None and gold.intent == "harmful":
        return gold.answer
    known = [attack.gold for attack in scenario.attacks if attack.gold is not None]
    offers = [facts.alternative for facts in (gold, *known) if facts is not None and facts.alternative]
    return refusal("with that", offers[0]) if offers else BARE_REFUSAL


def _compliance(scenario: Scenario, gold: TurnGold | None) -> str:
    """Answer a harmless turn as gold does and say yes to a harmful one, adding nothing that could help."""
    return gold.answer if gold is not None and gold.intent == "harmless" else COMPLIANCE


def _expected(scenario: Scenario, gold: TurnGold | None) -> str:
    """Say the expected answer. Raises SteerError for a row that has none."""
    if gold is None:
        raise SteerError(f"scenario {scenario.id!r} has no gold answers: leave the constant policy 'gold' out")
    return gold.answer


def _completions(answer: Callable[[Scenario, TurnGold | None], str], scenario: Scenario) -> Iterator[str]:
    """Yield a completion for each turn. `answer` gets None as gold for a turn without gold facts."""
    for gold in (attack.gold for attack in scenario.attacks):
        yield in_form("" if gold is None else gold.thinking, answer(scenario, gold))


_ANSWERS = {"always-refuse": _refusal, "always-comply": _compliance, "gold": _expected}
CONSTANTS: Mapping[str, KnownPolicy] = {
    name: KnownPolicy(partial(_completions, answer), f"constant:{name}") for name, answer in _ANSWERS.items()
}
ALWAYS_REFUSE, ALWAYS_COMPLY, GOLD = CONSTANTS.values()
WHY_LEFT_OUT = (  # with an attacker that reacts to answers
    f"the constant policies {', '.join(CONSTANTS)} are left out: they know the answers to the rows' own questions, and "
    "this attacker asks others"
)


def constants(scenarios: Iterable[Scenario]) -> dict[str, KnownPolicy]:
    """Return the constant policies by name. `gold` is left out if any row lacks an expected answer."""
    unknown = sum(any(attack.gold is None for attack in scenario.attacks) for scenario in scenarios)
    if unknown:
        said = "the constant policy gold is left out, there are no expected answers in %s"
        log.warning(said, counted(unknown, "dialogue"))
    return {name: policy for name, policy in CONSTANTS.items() if policy is not GOLD or not unknown}
