"""Waiting for other threads such that Ctrl-C and SIGTERM always end it.

Python runs a signal's handler in the main thread, between two of its instructions. A signal does not wake that thread
if it arrives just before the thread goes to sleep, or if the system delivers it to another thread. The main thread
would then sleep until the work is done, which for a server that hangs is minutes. So it wakes up now and then.
"""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import FIRST_COMPLETED, Future, wait
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")

_AWAKE_S = 0.25  # seconds after which a signal is heard at the latest


def first_done(futures: Collection[Future[T]]) -> set[Future[T]]:
    """Wait until at least one of the futures, of which there must be some, is done. Return all that are."""
    while not (done := wait(futures, _AWAKE_S, FIRST_COMPLETED).done):
        pass
    return done


def result_of(future: Future[T]) -> T:
    """Wait for the future. Return its result or raise its exception."""
    first_done([future])
    return future.result()


def next_of(queue: SimpleQueue[T]) -> T:
    """Wait until the queue holds something. Return it."""
    while True:
        try:
            return queue.get(timeout=_AWAKE_S)
        except Empty:
            pass
