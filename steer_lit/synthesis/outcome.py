"""The outcome of one row, and the exception by which a step ends its row.

A row ends in one of four ways. `kept` and `rejected` are results. So is `unreadable`: the model answered, but not with
what was asked for. `failed` is no result: the server gave no answer, and the row is made again when the run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from steer_lit.data.writers import WriteError

T = TypeVar("T")
Status = Literal["kept", "rejected", "unreadable", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one row ended. `reason` is short and the same for all rows that share it; `detail` is about this row:
    numbers, or the reply that could not be read. `rows` holds what a kept row adds to each file, by the file's name.
    Deduplication compares `text` and `picture`.
    """

    id: str
    status: Status
    reason: str = ""
    detail: str = ""
    rows: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    picture: str = ""


class RowEnds(Exception):
    """Raised by a step whose row cannot go on, caught where the row was started."""

    def __init__(self, status: Status, reason: str, detail: str = "") -> None:
        self.status, self.reason, self.detail = status, reason, detail
        super().__init__(reason)

    def outcome(self, id: str) -> Outcome:
        return Outcome(id, self.status, self.reason, self.detail)


def as_row(write: Callable[[T], dict[str, object]], record: T) -> dict[str, object]:
    """Return the record as a row of a file. Raises RowEnds if the row's shape cannot hold it."""
    try:
        return write(record)
    except WriteError as error:
        raise RowEnds("rejected", "it does not fit a row", str(error)) from error
