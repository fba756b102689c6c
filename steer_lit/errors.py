"""What can go wrong, by the boundary it crosses.

* A **row** that cannot be read is put aside and counted, and the run goes on (`RowError`) until more than
  `data.max_bad_rows` rows were bad (`TooManyBadRows`).
* A **config** that cannot work is refused before anything heavy loads, with every problem at once (`ConfigError`).
* A **resource** that is missing - weights, a package, a GPU - is named together with the way out
  (`MissingResource`).
* A **verdict** that could not be had is no exception but a failed `Verdict`. Only if too many fail does the run stop
  (`TooManyFailures`).
* A **request** to a server that fails after its retries is likewise no exception but a failed `ChatReply`. If most of
  the latest requests fail, the server counts as down, and the run stops (`ServerDown`). What a training
  has learned is saved in both cases.

Messages say what is wrong, the value, and the way out: what is allowed, the key to change. Entry points print them
without a traceback and exit with 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

_LONGEST = 400  # characters
NOT_GIVEN = "???"  # OmegaConf's mark of a key that must be given a value


class SteerError(Exception):
    """Any error that this package raises on purpose, with a message meant for the user."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a config: the key, the value found there, and what to do about it."""

    key: str
    value: object
    remedy: str

    def __str__(self) -> str:
        if self.value == NOT_GIVEN:
            return f"{self.key} is not given: {self.remedy}"
        as_typed = {"None": "null", "True": "true", "False": "false"}
        value = repr(self.value)
        return f"{self.key}={as_typed.get(value, value)}: {self.remedy}"


class ConfigError(SteerError):
    """A config that cannot work. Holds every problem found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''} in the configuration"
        super().__init__("\n".join([f"{count}:", *(f"  * {problem}" for problem in self.problems)]))


def problems_of(check: Callable[[], object]) -> Sequence[Problem]:
    """Call `check`. Return the problems of the ConfigError that it raises, or none."""
    try:
        check()
    except ConfigError as error:
        return error.problems
    return ()


class MissingResource(SteerError):
    """Something the run needs is not on this machine. The message says what, and how to get it."""


class RowError(SteerError):
    """A data row that cannot be used: names file, row and field."""

    def __init__(self, source: str, row: int, field: str, reason: str) -> None:
        field, reason = _cut(field), _cut(reason)  # a row may hold megabytes of anything
        self.source, self.row, self.field, self.reason = source, row, field, reason
        super().__init__(f"{source}, row {row}{f', field {field!r}' if field else ''}: {reason}")


class TooManyBadRows(SteerError):
    """More rows were put aside than `data.max_bad_rows` allows."""


class TooManyFailures(SteerError):
    """More verdicts failed than the run allows, or all the grades of a benchmark."""


class NothingWritten(SteerError):
    """A stage of a synthesis put all of its rows aside, which the same command would do again."""


class ServerDown(SteerError):
    """Most of the latest requests to a server failed, or it refused the first ones in a way no retry can help.

    Earlier answers are kept; the same command goes on from there once the server works.
    """


def _cut(text: str) -> str:
    """Drop the middle of a long text: its start says what was found, its end what is allowed."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
