"""Which values are allowed, as pydantic types such as `Annotated[float, Field(gt=0)]`, and how a user is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from steer_lit.dotted import ABSENT, at
from steer_lit.errors import Problem

Share = Annotated[float, Field(ge=0, le=1)]
# `true`, "1" and 1.0 are no whole numbers; NaN and infinity are no numbers.
_STRICT = ConfigDict(strict=True, allow_inf_nan=False, regex_engine="python-re")
_KINDS = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text"}
_LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def fits(value: object, kind: Any) -> bool:
    """Return whether a pydantic type allows the value as it is, not converted."""
    try:
        TypeAdapter(kind, config=_STRICT).validate_python(value)
    except ValidationError:
        return False
    return True


def type_problems(values: Mapping[str, object], kinds: Mapping[str, Any]) -> list[Problem]:
    """Return which values at these dotted keys do not fit. Any may be absent."""
    found = ((key, at(values, key), kind) for key, kind in kinds.items())
    return [
        Problem(key, value, f"must be {_in_words(TypeAdapter(kind, config=_STRICT).json_schema())}")
        for key, value, kind in found
        if value is not ABSENT and not fits(value, kind)
    ]


def record_problems(record: object) -> list[Problem]:
    """Return which values of a dataclass do not fit the types of their fields."""
    kinds = get_type_hints(type(record), include_extras=True)
    return type_problems({name: getattr(record, name) for name in kinds}, kinds)


def _in_words(schema: Mapping[str, Any]) -> str:
    """Return words such as `a whole number, at least 1`. A `description` replaces a type's own; a list needs one."""
    if "description" in schema:
        return str(schema["description"])
    if "anyOf" in schema:
        return ", or ".join(map(_in_words, schema["anyOf"]))
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    found = (f"{word} {schema[limit]}".removesuffix(".0") for limit, word in _LIMITS.items() if limit in schema)
    limits = " and ".join(found)  # an older pydantic writes 10 as 10.0
    return f"{_KINDS.get(schema['type'], schema['type'])}{limits and f', {limits}'}"
