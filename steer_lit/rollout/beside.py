"""Work in a thread of its own, beside its caller's: for what waits for servers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


def beside(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
    """Start `work` in a thread of its own. Returns a future of what it returns or raises."""
    future: Future[R] = Future()

    def run() -> None:
        try:
            future.set_result(work(*args, **kwargs))
        except BaseException as error:  # the other thread's to raise: a closed pipe is a SystemExit
            future.set_exception(error)

    # A daemon, unlike a pool's: nobody waits for a server at the end of a program that was stopped.
    Thread(target=run, name="steer-lit-beside", daemon=True).start()
    return future


def one_call_later(work: Callable[[T], R], first: R) -> Callable[[T], R]:
    """`work` beside its caller: each call returns what came of the call before it, the first one `first`.

    Calls are worked on one after the other. What one of them raises, the next raises.
    """
    before: Future[R] = Future()
    before.set_result(first)

    def later(thing: T) -> R:
        nonlocal before
        found = before.result()
        before = beside(work, thing)
        return found

    return later
