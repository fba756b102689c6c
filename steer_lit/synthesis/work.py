"""Makes rows in parallel, and writes each to a journal the moment it is finished.

The work file is a journal: one line a row, appended whole, never changed. In a run that goes on only rows without a
line are made. Final files are written from the journal, in the order of the rows, so that they do not depend on which
row was finished first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TypeVar

from steer_lit.files.lines import append_lines, as_line, readable
from steer_lit.files.typed_lines import line_reader
from steer_lit.synthesis.outcome import Outcome, RowEnds

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job(Generic[T]):
    """One row to make. `key` stands for everything that decides the row: finished work is found by it."""

    id: str
    key: str
    start: T


class WorkFile:
    """The journal at `path`. A line that cannot be read counts as not written: its row is made again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._done = dict(readable(path, _entry, "finished rows"))

    def finished(self, key: str) -> Outcome | None:
        """What became of the row, None where it has to be made: never begun, half done, or without an answer."""
        outcome = self._done.get(key)
        return None if outcome is None or outcome.status == "failed" else outcome

    def add(self, key: str, outcome: Outcome) -> None:
        self._done[key] = outcome
        append_lines(self.path, [as_line({"key": key, **asdict(outcome)})])


def any_finished(run_dir: Path) -> bool:
    """Whether a journal in the folder holds a row that is not made again."""
    entries = (readable(path, _entry, "finished rows") for path in run_dir.glob(journal("*")))
    return any(outcome.status != "failed" for found in entries for _, outcome in found)


def journal(stage: str) -> str:
    """The name of a stage's journal."""
    return f"work.{stage}.jsonl"


def make_rows(
    jobs: Sequence[Job[T]],
    make: Callable[[Job[T]], Outcome],
    work: WorkFile,
    workers: int,
    show: Callable[[Outcome], None],
    stop: Callable[[], None],
) -> list[Outcome]:
    """One outcome a job, in order; jobs the journal knows are not made again. `show` is called with each outcome.

    `make` runs in `workers` threads. What it raises ends the run, and so does Ctrl-C: `stop` is called, and what the
    running rows still come to is written down before the error goes on.
    """
    outcomes = {job.key: outcome for job in jobs if (outcome := work.finished(job.key)) is not None}
    for outcome in outcomes.values():
        show(outcome)
    left = {job.key: job for job in jobs if job.key not in outcomes}

    def record(future: Future[Outcome]) -> None:
        outcome, key = future.result(), running[future].key
        work.add(key, outcome)
        outcomes[key] = outcome
        show(outcome)

    with ThreadPoolExecutor(workers) as pool:
        running = {pool.submit(_finish, make, job): job for job in left.values()}
        try:
            for future in as_completed(running):
                record(future)
        except BaseException:
            stop()
            pool.shutdown(wait=True, cancel_futures=True)
            for future, job in running.items():
                if job.key not in outcomes and not future.cancelled() and future.exception() is None:
                    record(future)
            raise
    return [outcomes[job.key] for job in jobs]


def _finish(make: Callable[[Job[T]], Outcome], job: Job[T]) -> Outcome:
    try:
        return make(job)
    except RowEnds as end:
        return end.outcome(job.id)


@dataclass(frozen=True, slots=True)
class _Keyed:
    key: str


_read_key, _read_outcome = line_reader(_Keyed), line_reader(Outcome)


def _entry(line: str) -> tuple[str, Outcome]:
    return _read_key(line).key, _read_outcome(line)
