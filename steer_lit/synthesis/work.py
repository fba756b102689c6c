"""Rows made in parallel, each written to a journal the moment it is finished.

The journal has one line a row, appended whole; a row made again gets another, which counts.
A run that goes on makes only rows that failed or have no line. Final files are in the order of the rows, so that they
do not depend on which row was finished first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol, TypeVar

from steer_lit.files.lines import append_lines, as_line, readable
from steer_lit.files.typed_lines import line_reader
from steer_lit.synthesis.outcome import Outcome, RowEnds
from steer_lit.waiting import next_of


class Start(Protocol):
    """The record that a row is made from."""

    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=Start)


class WorkFile:
    """The journal at `path`. A line that cannot be read counts as not written: its row is made again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._done = dict(readable(path, _entry, "finished rows"))

    def finished(self, key: str) -> Outcome | None:
        """Return what became of the row, None if it has to be made: never begun, half done, or without an answer."""
        outcome = self._done.get(key)
        return None if outcome is None or outcome.status == "failed" else outcome

    def add(self, key: str, outcome: Outcome) -> None:
        self._done[key] = outcome
        append_lines(self.path, [as_line({"key": key, **asdict(outcome)})])


def any_finished(run_dir: Path) -> bool:
    """Return whether a journal in the folder holds a row that is not made again."""
    entries = (readable(path, _entry, "finished rows") for path in run_dir.glob(journal("*")))
    return any(outcome.status != "failed" for found in entries for _, outcome in found)


def journal(stage: str) -> str:
    """Return the name of a stage's journal."""
    return f"work.{stage}.jsonl"


def make_rows(
    starts: Mapping[str, T],
    make: Callable[[T], Outcome],
    work: WorkFile,
    workers: int,
    show: Callable[[Outcome], None],
    stop: Callable[[], None],
) -> list[Outcome]:
    """Return one outcome for each of `starts`, in order, and call `show` with each. A start's key stands for everything
    that decides its row: a row that the journal has finished under its key is not made again.

    `make` runs in `workers` threads. An error from it other than RowEnds ends the run, and so does Ctrl-C: `stop` is
    called, and outcomes of the rows still running are written down before the error goes on.
    """
    outcomes = {key: outcome for key in starts if (outcome := work.finished(key)) is not None}
    for outcome in outcomes.values():
        show(outcome)
    left = {key: start for key, start in starts.items() if key not in outcomes}

    made: dict[str, Outcome | BaseException] = {}
    # Not the pool's futures: whoever waits for those takes their locks, and Ctrl-C in between would keep them taken.
    ready: SimpleQueue[str] = SimpleQueue()

    def run(key: str, start: T) -> None:
        try:
            made[key] = make(start)
        except RowEnds as end:
            made[key] = end.outcome(start.id)
        except BaseException as error:  # for the main thread to raise
            made[key] = error
        ready.put(key)

    def record(key: str) -> None:
        if isinstance(outcome := made[key], BaseException):
            raise outcome
        work.add(key, outcome)
        outcomes[key] = outcome
        show(outcome)

    with ThreadPoolExecutor(workers) as pool:
        try:
            for key, start in left.items():
                pool.submit(run, key, start)
            for _ in left:
                record(next_of(ready))
        except BaseException:
            stop()
            pool.shutdown(wait=True, cancel_futures=True)
            for key, result in made.items():
                if key not in outcomes and isinstance(result, Outcome):
                    record(key)
            raise
    return [outcomes[key] for key in starts]


@dataclass(frozen=True, slots=True)
class _Keyed:
    key: str


_read_key, _read_outcome = line_reader(_Keyed), line_reader(Outcome)


def _entry(line: str) -> tuple[str, Outcome]:
    return _read_key(line).key, _read_outcome(line)
