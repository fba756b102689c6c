"""Divides a split's rows into the steps of an epoch: order, each rank's slice, and the position to resume from.

An epoch is a permutation of blocks of rows. Rows of a block stay together, so a split that is balanced block by block
is balanced step by step as well. One item holds the rows of one optimizer step. Modules may split a step further, which
cannot move the cursor (TRAPS 35).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from random import Random
from typing import TYPE_CHECKING, Generic, TypeVar

from steer_lit.numbers import counted

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

T = TypeVar("T")


def shuffled(count: int, *key: object) -> list[int]:
    """Return a permutation of `range(count)` that depends on `key` alone, not on the process or Python's version."""
    rng = Random(repr(key))  # a text seed is hashed the same everywhere, and Python promises to keep `random()`
    weights = [rng.random() for _ in range(count)]
    return sorted(range(count), key=weights.__getitem__)


def blocks_of(rows: int, size: int) -> list[range]:
    """Cut `range(rows)` into blocks of `size` consecutive rows; the last may be shorter."""
    return [range(start, min(start + size, rows)) for start in range(0, rows, size)]


def holding_out_fails(rows: int, block: int, count: int) -> str | None:
    """Return why `count` of `rows` rows in blocks of `block` cannot be held out, or None if they can."""
    size = min(block, rows)
    most = (rows - 1) // size * size
    if below := count % size:
        near = dict.fromkeys(min(fit, most) for fit in (count - below, count - below + size))
        why = f"STEER-mini's rows come in blocks of {size} that belong together"  # those of files are blocks of one
        return f"must be a multiple of {size}, such as {' or '.join(map(str, near))}: {why}"
    has = f"of {counted(rows, 'row')}, at most {most} can be held out"
    return f"leaves nothing to train on: {has}" if count >= rows else None


def hold_out(blocks: Sequence[range], count: int, seed: int) -> tuple[list[range], list[range]]:
    """Return (train, val) blocks, val holding `count` rows in whole blocks drawn by `seed`; both in natural order.

    Raises ValueError if `count` is not made of whole blocks, or leaves nothing to train on.
    """
    size = len(blocks[0])
    if reason := holding_out_fails(sum(map(len, blocks)), size, count):
        raise ValueError(reason)
    whole = [index for index, block in enumerate(blocks) if len(block) == size]
    drawn = {whole[place] for place in shuffled(len(whole), "hold_out", seed)[: count // size]}
    train = [block for index, block in enumerate(blocks) if index not in drawn]
    return train, [blocks[index] for index in sorted(drawn)]


def hold_out_least(read: Sequence[str], count: int, marks: Sequence[str]) -> tuple[list[range], list[range]]:
    """Return (train, val) blocks of one row of `marks`, in natural order: val has those of the `count` least of `read`.

    Rows of one mark stay together, so val may hold a few more, and fewer if `marks` lacks some that were `read`. Raises
    ValueError if nothing is left to train on, or to hold out.
    """
    if reason := holding_out_fails(len(read), 1, count):
        raise ValueError(reason)
    last = sorted(read)[count - 1] if count else ""
    train = [range(row, row + 1) for row, mark in enumerate(marks) if mark > last]
    val = [range(row, row + 1) for row, mark in enumerate(marks) if mark <= last]
    if not train or (count and not val):
        why = f"what the user says decides which rows are held out, here {len(val)} of {len(marks)}"
        raise ValueError(f"leaves nothing {'held out' if train else 'to train on'}: {why}")
    return train, val


def epoch_order(blocks: Sequence[range], seed: int, epoch: int) -> list[int]:
    """Return the row numbers of one epoch, block after block."""
    return [row for index in shuffled(len(blocks), "epoch", seed, epoch) for row in blocks[index]]


def count_steps(rows: int, batch_size: int, world_size: int) -> int:
    """Count the steps of one epoch. Rows left over make a short last step, unless some rank would get none of them."""
    return rows // batch_size + (rows % batch_size >= world_size)


@dataclass(slots=True)
class Cursor:
    """Where training stands: the first `position` rows of this epoch's order belong to finished steps."""

    seed: int
    epoch: int = 0
    position: int = 0


@dataclass(slots=True)
class _Pass:
    """One run over the steps: the cursor and the Trainer's count at its start, and its own count of finished steps."""

    position: int
    processed: int
    returned: int = 0


class StepLoader(Generic[T]):
    """The steps of an epoch, iterated from the cursor on. `len()` counts the whole epoch.

    Each item holds this rank's rows, every `world_size`-th of the step's. The first pass continues at the cursor; each
    later pass is the next epoch. A step is finished when the Trainer has processed it or, without a Trainer, when the
    next step is asked for. Rows of a step that never finished are handed out again after a resume.
    """

    def __init__(
        self,
        fetch: Callable[[int], T],
        blocks: Sequence[range],
        cursor: Cursor,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        trainer: Trainer | None = None,
    ) -> None:
        self._fetch = fetch
        self._blocks = blocks
        self._cursor = cursor
        self._batch_size = batch_size
        self._rank, self._world_size = rank, world_size
        self._trainer = trainer
        self._pass: _Pass | None = None
        self.rows = sum(map(len, blocks))

    def __len__(self) -> int:
        return count_steps(self.rows, self._batch_size, self._world_size)

    def __iter__(self) -> Iterator[list[T]]:
        # A generator: Lightning also makes iterators that it never draws from, and those must not move the cursor.
        if self._pass is not None:
            self._cursor.epoch, self._cursor.position = self._cursor.epoch + 1, 0
        current = self._pass = _Pass(self._cursor.position, self._processed())
        # Overfitting shows the same rows in every epoch.
        repeats = self._trainer is not None and self._trainer.overfit_batches > 0
        order = epoch_order(self._blocks, self._cursor.seed, 0 if repeats else self._cursor.epoch)
        for start in range(current.position, min(self.rows, len(self) * self._batch_size), self._batch_size):
            step = order[start : start + self._batch_size]
            yield [self._fetch(row) for row in step[self._rank :: self._world_size]]
            current.returned += 1

    def finished(self) -> Cursor:
        """Return the cursor after the last finished step; at the end of an epoch, that is the start of the next."""
        seed, epoch, position = self._cursor.seed, self._cursor.epoch, self._cursor.position
        if self._pass is not None:
            done = self._pass.returned if self._trainer is None else self._processed() - self._pass.processed
            position = self._pass.position + done * self._batch_size
        steps = len(self) if self._trainer is None else min(len(self), self._trainer.num_training_batches)
        over = position >= min(self.rows, steps * self._batch_size)
        return Cursor(seed, epoch + 1) if over else Cursor(seed, epoch, position)

    def settle(self) -> None:
        """Move the cursor past the finished steps; the next pass continues there instead of at the next epoch."""
        done = self.finished()
        self._cursor.epoch, self._cursor.position = done.epoch, done.position
        self._pass = None

    def _processed(self) -> int:
        """Return how many steps of this epoch have left `training_step`, as the Trainer counts them."""
        if self._trainer is None:
            return 0
        return self._trainer.fit_loop.epoch_loop.batch_progress.current.processed

    # Lightning asks each loader whether it can resume, and warns about those that cannot. This one can; what it needs
    # is saved with the datamodule.
    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        pass


class SliceLoader(Generic[T]):
    """The held-out slice: the same rows in the same steps at every pass, each row on one rank.

    Ranks take turns at the rows, also from step to step: the first `n` of each make the first ones of all. All ranks
    have as many steps. One that has fewer rows than there are ranks is empty on some.
    """

    def __init__(
        self, fetch: Callable[[int], T], blocks: Sequence[range], batch_size: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self._fetch = fetch
        self._order = [row for block in blocks for row in block]
        self._batch_size = batch_size
        self._rank, self._world_size = rank, world_size

    def __len__(self) -> int:
        return ceil(len(self._order) / self._batch_size)

    def __iter__(self) -> Iterator[list[T]]:
        for start in range(0, len(self._order), self._batch_size):
            rows = self._order[start : start + self._batch_size]
            yield [self._fetch(row) for row in rows[(self._rank - start) % self._world_size :: self._world_size]]
