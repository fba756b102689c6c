from steer_lit.attacker.scripted import ScriptedAttacker
from steer_lit.types import Attack, Completion, Message, Scenario, Turn
from tests.attacker.asked import next_attack


def test_the_row_is_replayed_in_order() -> None:
    attacks = [Attack(Message.of("user", text)) for text in ("one", "two", "three")]
    scenario = Scenario("row", "benign", attacks[0], tuple(attacks[1:]))
    turns: list[Turn] = []
    asked = []
    while (attack := next_attack(ScriptedAttacker(), scenario, turns)) is not None:
        asked.append(attack)
        turns.append(Turn(attack, Completion("whatever the policy says")))
    assert asked == attacks
