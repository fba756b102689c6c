"""Work that follows one step behind what makes it: some dialogues are graded while others are played."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from threading import Lock
from typing import Generic, TypeVar

from steer_lit.rollout.beside import beside

T = TypeVar("T")
R = TypeVar("R")

PATIENCE = 2.0  # seconds that a stopped run waits: what is graded without a server is done by then


@contextmanager
def one_behind(work: Callable[[T], R], keep: Callable[[R], None]) -> Iterator[Callable[[T], None]]:
    """Gives a function that has one thing worked on, and what comes of it kept, while its caller goes on to the next.

    Both happen in one thread beside the caller's, in the order things are handed over: the function waits until the
    thing before is kept, and raises what was raised over it. At the end, after an error too, the last one is waited
    for. A stop, which is Ctrl-C or SIGTERM, waits PATIENCE seconds for it and no longer, since a server may take
    minutes. Nothing is kept once the block is left.
    """
    beside = _Beside(work, keep)
    try:
        yield beside.hand_over
        beside.latest.result()
    except Exception:
        wait([beside.latest])
        raise
    except BaseException:
        wait([beside.latest], PATIENCE)
        raise
    finally:
        beside.leave()


class _Beside(Generic[T, R]):
    def __init__(self, work: Callable[[T], R], keep: Callable[[R], None]) -> None:
        self._work, self._keep = work, keep
        self._keeping, self._left = Lock(), False
        self.latest: Future[None] = Future()
        self.latest.set_result(None)

    def hand_over(self, thing: T) -> None:
        self.latest.result()
        self.latest = beside(self._do, thing)

    def _do(self, thing: T) -> None:
        made = self._work(thing)
        with self._keeping:
            if not self._left:
                self._keep(made)

    def leave(self) -> None:
        with self._keeping:
            self._left = True
