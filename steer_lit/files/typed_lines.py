"""Reads lines of JSON back as the frozen records they were written from, every field present and of its type."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


class FieldError(ValueError):
    """A line of JSON that is no such record. `field` says where, such as `turns[1].user`; "" is the whole line."""

    def __init__(self, field: str, reason: str) -> None:
        self.field, self.reason = field, reason
        super().__init__(f"{field} {reason}" if field else reason)


def line_reader(record: type[T]) -> Callable[[str], T]:
    """Return a function that reads a line as a `record`, a dataclass. It raises FieldError, and as `json.loads` does.

    Fields of numbers and booleans must be typed `StrictInt` and the like, so that JSON's 1.0, true and "1" are no 1. A
    strict adapter would refuse the dict and lists that `json.loads` returns, and pydantic's own JSON reader refuses
    half a surrogate pair, which policies sample.
    """
    adapter = TypeAdapter(record)

    def read(line: str) -> T:
        values = json.loads(line)
        try:
            return adapter.validate_python(values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            field = "".join(f"[{at}]" if isinstance(at, int) else f".{at}" for at in first["loc"]).removeprefix(".")
            found = "" if first["type"] == "missing" else f"is {reprlib.repr(first['input'])}: "
            raise FieldError(field, found + first["msg"]) from None

    return read
