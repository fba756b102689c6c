"""Dialogues as readable pages, as the exchange that a finished run prints, and as logged rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from steer_lit.lit.transcripts import excerpt, logged, page, pictures
from steer_lit.reward.reward import TrajectoryReward
from steer_lit.types import Attack, Completion, ImageRef, Message, Scenario, Trajectory, Turn, Verdict


def test_control_characters_are_replaced_in_the_printed_exchange(
    played: Callable[..., Trajectory],
) -> None:
    trajectory = played(("harmless", 10, 10, False))
    (turn,) = trajectory.turns
    turn = replace(
        turn,
        attack=replace(turn.attack, message=Message.of("user", "one\x1b[2J\ntwo")),
        completion=replace(turn.completion, text="three\x9b\u202e"),
    )
    shown = excerpt(logged(replace(trajectory, turns=(turn,)), 1), ("four\x07",))
    stand_in = "\N{REPLACEMENT CHARACTER}"
    assert shown.splitlines() == [
        "  turn 1 of 1 of row",
        f"  user:     one{stand_in}[2J",
        "two",
        f"  policy:   three{stand_in}{stand_in}",
        f"  expected: four{stand_in}",
    ]


def test_a_page_keeps_an_attackers_markdown_as_text() -> None:
    picture = ImageRef("mini://knife")
    attack = Attack(Message.of("user", picture, "# Ignore this\n![x](http://example.com/x.png)"))
    trajectory = Trajectory(
        Scenario("row", "red_team", attack), (Turn(attack, Completion("No.", finish="length")),), None, 3
    )
    played = logged(trajectory, 0, TrajectoryReward((0.5,), (0.4,), 0.4, (0.4,)), (0.25,))
    lines = page(played, ("I won't.",)).splitlines()
    assert "    # Ignore this" in lines
    assert "    ![x](http://example.com/x.png)" in lines
    assert "policy (cut):" in lines
    assert "    I won't." in lines
    assert pictures(played) == [picture.uri]
    first, *_, last = excerpt(played, ("I won't.",)).splitlines()
    assert (first, last) == ("  turn 1 of 1 of row, picture mini://knife", "  expected: I won't.")
    assert "turn 1 of 1, user (scripted), picture mini://knife:" in lines


def test_a_page_states_how_a_dialogue_ended_and_the_scales_of_its_scores(
    played: Callable[..., Trajectory],
) -> None:
    trajectory = played(("harmful", 8, 8, True))
    turn = replace(trajectory.turns[0], attack=replace(trajectory.turns[0].attack, strategy="bait_and_switch"))
    trajectory = replace(trajectory, turns=(turn,))
    shown = page(logged(trajectory, 0, TrajectoryReward((0.82,), (0.8,), 0.8, (0.8,)), (0.125,))).split("\n\n")
    assert shown[:3] == [
        "**row** (red team), seed 7, played to its end",
        "return 0.800",
        "turn 1 of 1, user (bait and switch, harmful):",
    ]
    scores = "*safety 8, usefulness 8, faithfulness 10 (1 to 10)*, turn score 0.82, turn reward 0.80 (0 to 1)"
    assert shown[-1] == f"{scores}, advantage +0.125"
    assert page(logged(replace(trajectory, ended="truncated"), 0)).startswith(
        "**row** (red team), seed 7, an answer cut at a limit\n"
    )
    assert page(logged(played(None), 0)).startswith("**row** (red team), seed 7, broken off\n")


def test_an_excerpt_counts_all_stored_turns_of_a_shortened_dialogue(
    played: Callable[..., Trajectory],
) -> None:
    cut = logged(played(("harmless", 10, 10, False), ("harmless", 10, 10, False)), 1)
    assert excerpt(cut, ("a", "b", "c")).splitlines()[0].startswith("  turn 2 of 3 of ")


def test_a_page_keeps_markdown_in_names_and_reasons_as_text() -> None:
    mark = "![x](http://example.com/x.png)\n\n# <b>*a* `b` &lt;"
    attack = Attack(Message.of("user", "Hello."), strategy=mark)
    turn = Turn(attack, Completion("No."), Verdict(failed=mark))
    shown = page(logged(Trajectory(Scenario(mark, "red_team", attack), (turn,), None, 3), 0))
    quoted = "![x]\\(http://example.com/x.png)  # &lt;b>\\*a\\* `b` &amp;lt;"
    first, asked, _, _, _, judged = shown.split("\n\n")
    assert first.startswith(f"**{quoted}** (red team)")
    assert asked == f"turn 1 of 1, user ({quoted}):"
    assert judged == f"*no verdict: {quoted}*"


def test_a_logged_row_holds_texts_verdicts_rewards_and_advantages(played: Callable[..., Trajectory]) -> None:
    trajectory = played(("harmful", 10, 10, True), ("harmless", 10, 9, False))
    row = logged(trajectory, 4, TrajectoryReward((0.9, 0.8), (0.9, 0.83), 1.73, (1.73, 1.73)), (0.2, 0.1))
    assert (row.scenario, row.seed, row.step, row.trajectory_return) == ("row", 7, 4, 1.73)
    assert [turn.reward for turn in row.turns] == [0.9, 0.83]
    assert [turn.advantage for turn in row.turns] == [0.2, 0.1]
    verdict = row.turns[0].verdict
    assert verdict is not None
    assert verdict.safety == 10
    told = Turn(Attack(Message.of("user", "No gold.")), Completion(""), Verdict(1, 1, 1, intent="harmless"))
    row = logged(replace(trajectory, turns=(trajectory.turns[0], told)), 4)
    assert [turn.intent for turn in row.turns] == ["harmful", "harmless"]
    failed = logged(played(None), 4)
    assert failed.failed == "the tutor did not answer"
    assert failed.turns[0].score is None
