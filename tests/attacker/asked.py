"""A function that returns one dialogue's next attack."""

from collections.abc import Sequence

from steer_lit.types import Attack, Attacker, Scenario, Turn


def next_attack(attacker: Attacker, scenario: Scenario, turns: Sequence[Turn]) -> Attack | None:
    (attack,) = attacker.attack([(scenario, turns)])
    return attack
