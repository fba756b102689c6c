from dataclasses import replace
from types import SimpleNamespace

import pytest

from steer_lit.bench.suite import check_gold, planned
from steer_lit.errors import ConfigError
from steer_lit.tutor.rubric import RubricJudge
from steer_lit.types import Attack, Message, Scenario, TurnGold


def scenario(id: str) -> Scenario:
    return Scenario(id, "benign", Attack(Message.of("user", "hello")))


@pytest.mark.parametrize(
    ("dialogues", "policies", "limit", "recorded", "said"),
    [
        (3227, ["base", "gold"], None, False, "3,227 dialogues, each by 2 policies, base, gold; bench.limit=120 is a"),
        (120, ["base"], None, False, "120 dialogues, by base"),
        (200, ["base"], 200, False, "the first 200 dialogues, by base"),
        (200, ["base"], 300, False, "200 dialogues, by base"),  # there are no more
        (200, ["base"], 200, True, "the first 200 dialogues, by base; those that records.jsonl holds are not played a"),
    ],
)
def test_the_line_about_what_will_be_played(
    dialogues: int, policies: list[str], limit: int | None, recorded: bool, said: str
) -> None:
    line = planned(dialogues, policies, limit, recorded=recorded)
    assert line.startswith(f"to play: {said}")
    assert ("quick look" in line) == ("bench.limit" in said)


def test_a_rubric_needs_gold_facts_for_every_turn_that_is_played(caplog: pytest.LogCaptureFixture) -> None:
    unknown = scenario("unknown")
    known = replace(unknown, opening=replace(unknown.opening, gold=TurnGold("harmless", "none", "Hello.")))
    opened = replace(known, scripted=(unknown.opening,))
    for rows, turns in (([unknown], 10), ([unknown, opened], 10)):
        counted = "1 dialogue" if len(rows) == 1 else "2 dialogues"
        with pytest.raises(ConfigError, match=rf"judge='rubric': .* of {counted} none has .*use judge=llm"):
            check_gold("judge", RubricJudge(), rows, turns)
        check_gold("judge", object(), rows, turns)  # another judge
        with pytest.raises(ConfigError, match=r"tutor=.* gives the attacker its verdicts by gold facts.*use tutor=llm"):
            check_gold("tutor", SimpleNamespace(needs_gold=True), rows, turns)
    check_gold("judge", RubricJudge(), [known, opened], turns_played=1)
    assert not caplog.text
    check_gold("judge", RubricJudge(), [known, opened, unknown], turns_played=10)
    assert "judge=rubric grades by gold facts: 2 of 3 dialogues lack some and will be left out" in caplog.text
