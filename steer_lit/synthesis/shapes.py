"""The shapes of replies in Stage I: one JSON object each, checked before anything is done with it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator

from steer_lit.prompts.reply import Reply

MAX_LINE = 400  # characters of a user turn: one or two sentences


def _line(text: str) -> str:
    text = text.strip()
    if not 0 < len(text) <= MAX_LINE:
        raise ValueError(f"must be one or two sentences, 1 to {MAX_LINE} characters, got {len(text)}")
    return text


def _whole(value: object) -> object:
    if type(value) is not int:  # a Literal takes 5.0 for 5 and true for 1
        raise ValueError("must be a whole number")
    return value


# Checked here, not in the schema: servers' strict modes refuse schemas that bound lengths.
Line = Annotated[str, AfterValidator(_line)]
AttackScore = Annotated[Literal[1, 2, 3, 4, 5], BeforeValidator(_whole)]


class LookReply(Reply):
    """What the picture shows."""

    details: list[Line]


class RewriteReply(Reply):
    """The request under its framing."""

    intent: Line


class PlanReply(Reply):
    """The user's turns."""

    turns: list[Line]


class ScoresReply(Reply):
    """How far the target gave in, turn by turn."""

    scores: list[AttackScore]


def plan_of(count: int) -> type[PlanReply]:
    """Return the shape of a plan of exactly `count` turns."""

    class Plan(PlanReply):
        turns: Annotated[list[Line], _exactly(count)]

    return Plan


def scores_of(count: int) -> type[ScoresReply]:
    """Return the shape of exactly `count` scores."""

    class Scores(ScoresReply):
        scores: Annotated[list[AttackScore], _exactly(count)]

    return Scores


def _exactly(count: int) -> AfterValidator:
    def check(items: list[object]) -> list[object]:
        if len(items) != count:
            raise ValueError(f"must hold exactly {count} items, got {len(items)}")
        return items

    return AfterValidator(check)
