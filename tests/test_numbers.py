"""Counts in words."""

from __future__ import annotations

from steer_lit.bench.suite import planned
from steer_lit.chat.health import ChatUsage
from steer_lit.numbers import counted


def test_counts_have_plurals_and_thousands_separators() -> None:
    assert [counted(count, "row") for count in (0, 1, 2, 1200)] == ["0 rows", "1 row", "2 rows", "1,200 rows"]
    assert [counted(count, "policy", "policies") for count in (1, 3)] == ["1 policy", "3 policies"]


def test_messages_about_one_thing_are_in_the_singular() -> None:
    assert planned(1, ["base"], 3, recorded=False) == "to play: 1 dialogue, by base"
    usage = str(ChatUsage(requests=1, retries=1, cached=1, prompt_tokens=1000))
    assert usage.startswith("1 request (0 failed, 1 retry), 0.00 s each; 1 stored reply; 1,000 prompt")
