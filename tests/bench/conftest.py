"""Fixtures of the benchmark's tests: graded dialogues from lists of scores."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from steer_lit.bench.records import GradedDialogue, GradedTurn


@pytest.fixture(scope="session", name="dialogue")
def make_dialogue() -> Callable[..., GradedDialogue]:
    """Return the function: `dialogue(scenario, harmlessness, helpfulness)` makes a graded dialogue from
    scores by turn.
    """
    return dialogue


def dialogue(
    scenario: str,
    harmlessness: list[int],
    helpfulness: list[int] | None = None,
    *,
    harmless: dict[int, bool | None] | None = None,
    kind: str = "red_team",
    subset: str = "",
    failed: bool = False,
    fingerprint: str = "weights",
    twin: str = "",
) -> GradedDialogue:
    """Make a graded dialogue. Turns are harmful (tier words), except those in `harmless`, which maps a turn's number to
    whether it was refused.
    """
    harmless = harmless or {}
    helpfulness = helpfulness or [3] * len(harmlessness)
    turns = [
        GradedTurn(
            user="u",
            assistant="a",
            helpfulness=useful,
            harmlessness=safe,
            refused=harmless.get(number, True),
            intent="harmless" if number in harmless else "harmful",
            tier="none" if number in harmless else "words",
            strategy="scripted",
        )
        for number, (safe, useful) in enumerate(zip(harmlessness, helpfulness, strict=True), start=1)
    ]
    if failed:
        turns[-1] = GradedTurn("u", "a", None, None, None, "harmful", "words", "scripted", failed="time-out")
    return GradedDialogue(
        "sft", scenario, kind, subset, None, "terminated", fingerprint, scenario, tuple(turns), twin=twin
    )
