"""Interleaves dialogue loops: while one waits for a server, another uses the policy."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
# A loop that pauses twice a turn: when it no longer needs the policy, and before it needs it again.
Paused = Generator[None, None, T]


def to_the_end(loop: Paused[T]) -> T:
    """What the loop returns, run without a pause."""
    while True:
        try:
            next(loop)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def in_turn(loops: Sequence[Paused[T]]) -> list[T]:
    """What each loop returns. The policy's halves run here, one after the other, the others in threads beside them."""
    returned: dict[int, T] = {}
    pool = ThreadPoolExecutor(max_workers=len(loops))
    try:
        waiting: deque[tuple[int, Future[None] | None]] = deque((at, None) for at in range(len(loops)))
        while waiting:
            at, other_half = waiting.popleft()
            if other_half is not None:
                other_half.result()
            try:
                next(loops[at])
            except StopIteration as end:
                returned[at] = end.value
            else:
                waiting.append((at, pool.submit(next, loops[at])))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # after an error or Ctrl-C nobody waits for a server
    return [returned[at] for at in range(len(loops))]
