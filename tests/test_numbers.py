"""Bounds: what they allow and what they report. Numbers and counts in words."""

from __future__ import annotations

import math

import pytest

from steer_lit.bench.suite import planned
from steer_lit.chat.health import ChatUsage
from steer_lit.errors import Problem
from steer_lit.numbers import ABOVE_0, FROM_0, Bound, bound_problems, counted, whole


def test_counts_have_plurals_and_thousands_separators() -> None:
    assert [counted(count, "row") for count in (0, 1, 2, 1200)] == ["0 rows", "1 row", "2 rows", "1,200 rows"]
    assert [counted(count, "policy", "policies") for count in (1, 3)] == ["1 policy", "3 policies"]


def test_messages_about_one_thing_are_in_the_singular() -> None:
    assert planned(1, ["base"], recorded=False, hint=False) == "to play: 1 dialogue, by base"
    usage = str(ChatUsage(requests=1, retries=1, cached=1, prompt_tokens=1000))
    assert usage.startswith("1 request (0 failed, 1 retry), 0.00 s each; 1 stored reply; 1,000 prompt")


@pytest.mark.parametrize(
    ("bound", "allowed", "refused"),
    [
        (Bound(), "must be a number", math.inf),
        (Bound(whole=True), "must be a whole number", 1.0),
        (whole(1), "must be a whole number from 1 up", 0),
        (whole(1, 9), "must be a whole number from 1 to 9", 10),
        (ABOVE_0, "must be above 0", 0),
        (FROM_0, "must be at least 0", -0.1),
        (Bound(0, 1), "must be a number from 0 to 1", 1.1),
        (Bound(0, 1, below=True), "must be a number from 0 to below 1", 1),
        (Bound(0, 1, above=True), "must be a number above 0, at most 1", 0),
        (Bound(0, 1, above=True, below=True), "must be a number above 0 and below 1", 1),
        (Bound(0, 1, said="is a share"), "is a share", True),
    ],
)
def test_a_bound_names_the_values_it_allows(bound: Bound, allowed: str, refused: object) -> None:
    assert bound.allowed == allowed
    assert not bound.fits(refused)


def test_problems_name_their_keys_and_missing_keys_are_no_problem() -> None:
    bounds = {"rows": whole(1), "share": Bound(0, 1), "turns": whole(2)}
    found = bound_problems({"rows": 0, "share": 0.5, "other": -1}, bounds, "data.")
    assert found == [Problem("data.rows", 0, "must be a whole number from 1 up")]
