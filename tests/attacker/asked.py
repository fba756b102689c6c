"""Functions that return one dialogue's next attack."""

from collections.abc import Sequence

from steer_lit.types import Attack, Attacker, Scenario, Turn


def next_attack(attacker: Attacker, scenario: Scenario, turns: Sequence[Turn]) -> Attack | None:
    (attack,) = attacker.attack([(scenario, turns)])
    return attack


def attacked(attacker: Attacker, scenario: Scenario, turns: Sequence[Turn]) -> Attack:
    """Return the next attack, which there must be."""
    attack = next_attack(attacker, scenario, turns)
    assert attack is not None
    return attack
