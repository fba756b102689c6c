"""The exchange that a finished run prints."""

from __future__ import annotations

from dataclasses import replace

from steer_lit.lit.transcripts import Played, excerpt
from steer_lit.types import Message


def test_what_user_and_policy_say_cannot_drive_the_terminal(played) -> None:
    trajectory = played(("harmless", 10, 10, False))
    (turn,) = trajectory.turns
    turn = replace(
        turn,
        attack=replace(turn.attack, message=Message.of("user", "one\x1b[2J\ntwo")),
        completion=replace(turn.completion, text="three\x9b\u202e"),
    )
    shown = excerpt(Played(replace(trajectory, turns=(turn,)), 1, expected=("four\x07",)))
    stand_in = "\N{REPLACEMENT CHARACTER}"
    assert shown.splitlines() == [
        f"  user:     one{stand_in}[2J",
        "two",
        f"  policy:   three{stand_in}{stand_in}",
        f"  expected: four{stand_in}",
    ]
