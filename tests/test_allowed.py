"""Types: which values they allow, and what is reported of others."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from steer_lit.allowed import Share, type_problems
from steer_lit.errors import Problem


@pytest.mark.parametrize(
    ("kind", "allowed", "refused"),
    [
        (float, "a number", math.inf),
        (float, "a number", "1"),
        (int, "a whole number", 1.0),
        (PositiveInt, "a whole number, above 0", 0),
        (Annotated[int, Field(ge=1, le=9)], "a whole number, at least 1 and at most 9", 10),
        (PositiveFloat, "a number, above 0", 0),
        (PositiveFloat, "a number, above 0", 10**400),  # no float holds it
        (NonNegativeFloat, "a number, at least 0", -0.1),
        (Share, "a number, at least 0 and at most 1", 1.1),
        (Share, "a number, at least 0 and at most 1", math.nan),
        (Annotated[float, Field(ge=0, lt=1)], "a number, at least 0 and below 1", 1),
        (Annotated[float, Field(gt=0, le=1)], "a number, above 0 and at most 1", 0),
        (Annotated[float, Field(gt=0, lt=1)], "a number, above 0 and below 1", 1),
        (Annotated[float, Field(description="a share")], "a share", True),
        (bool, "true or false", 1),
        (str | None, "text, or null", 1),
        (Literal["a", "b"], "one of a, b", ["a"]),
        (PositiveInt | Annotated[int, Field(le=-1, description="-1")], "a whole number, above 0, or -1", 0),
    ],
)
def test_a_problem_names_the_values_that_a_type_allows(kind: Any, allowed: str, refused: object) -> None:
    (problem,) = type_problems({"key": refused}, {"key": kind})
    assert problem.remedy == f"must be {allowed}"


def test_problems_name_their_keys_and_missing_keys_are_no_problem() -> None:
    kinds = {"source.rows": PositiveInt, "share": Share, "turns": PositiveInt}
    found = type_problems({"source": {"rows": 0}, "share": 1, "other": -1}, kinds)
    assert found == [Problem("source.rows", 0, "must be a whole number, above 0")]
