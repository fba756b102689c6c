"""The shapes of replies in Stage I: one JSON object each, checked before anything is done with it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema

from steer_lit.prompts.reply import Reply

MAX_LINE = 400  # characters of a user turn: one or two sentences


def _line(text: str) -> str:
    text = text.strip()
    if not 0 < len(text) <= MAX_LINE:
        raise ValueError(f"must be one or two sentences, 1 to {MAX_LINE} characters, got {len(text)}")
    return text


# Checked here, not in the schema: servers' strict modes refuse schemas that bound lengths.
Line = Annotated[str, AfterValidator(_line)]
# A list of values, as servers' grammars want it. (A Literal would take 5.0 for 5 and True for 1.)
AttackScore = Annotated[int, Field(ge=1, le=5), WithJsonSchema({"type": "integer", "enum": list(range(1, 6))})]


class LookReply(Reply):
    """What the picture shows."""

    details: list[Line]


class RewriteReply(Reply):
    """The request under its framing."""

    intent: Line


def plan_of(count: int) -> type[Any]:
    """Return the shape of a plan of exactly `count` turns of the user's."""

    class Plan(Reply):
        turns: Annotated[list[Line], _exactly(count)]

    return Plan


def scores_of(count: int) -> type[Any]:
    """Return the shape of exactly `count` scores: how far the target gave in, turn by turn."""

    class Scores(Reply):
        scores: Annotated[list[AttackScore], _exactly(count)]

    return Scores


def _exactly(count: int) -> AfterValidator:
    def check(items: list[object]) -> list[object]:
        if len(items) != count:
            raise ValueError(f"must hold exactly {count} items, got {len(items)}")
        return items

    return AfterValidator(check)
