"""Work in a thread beside its caller's, for what waits for servers: the next call waits for the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from threading import Lock, Thread
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

PATIENCE = 2.0  # seconds that a stopped run waits: what is done without a server is done by then


def run_in_thread(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
    """Start `work` in a thread of its own. Returns a future of what it returns or raises."""
    future: Future[R] = Future()

    def run() -> None:
        try:
            future.set_result(work(*args, **kwargs))
        except BaseException as error:  # the other thread's to raise: a closed pipe is a SystemExit
            future.set_exception(error)

    # A daemon, unlike a pool's: nobody waits for a server at the end of a program that was stopped.
    Thread(target=run, name="steer-lit-background", daemon=True).start()
    return future


def delayed_by_one(work: Callable[[T], R], first: R) -> Callable[[T], R]:
    """`work` in a thread: each call returns what came of the call before it, the first one `first`.

    Calls are worked on one after the other. What one of them raises, the next raises.
    """
    latest = _done(first)

    def call(thing: T) -> R:
        nonlocal latest
        found = latest.result()
        latest = run_in_thread(work, thing)
        return found

    return call


@contextmanager
def in_background(work: Callable[[T], R], keep: Callable[[R], None]) -> Iterator[Callable[[T], None]]:
    """Gives a function that has one thing worked on, and what comes of it kept, while its caller goes on to the next.

    Both happen in one thread beside the caller's, in the order things are handed over: the function waits until the
    thing before is kept, and raises what was raised over it. At the end, after an error too, the last one is waited
    for. A stop, which is Ctrl-C or SIGTERM, waits PATIENCE seconds for it and no longer, since a server may take
    minutes. Nothing is kept once the block is left.
    """
    latest, keeping, left = _done(None), Lock(), False

    def work_and_keep(thing: T) -> None:
        made = work(thing)
        with keeping:
            if not left:
                keep(made)

    def hand_over(thing: T) -> None:
        nonlocal latest
        latest.result()
        latest = run_in_thread(work_and_keep, thing)

    try:
        yield hand_over
        latest.result()
    except Exception:
        wait([latest])
        raise
    except BaseException:
        wait([latest], PATIENCE)
        raise
    finally:
        with keeping:
            left = True


def _done(result: R) -> Future[R]:
    future: Future[R] = Future()
    future.set_result(result)
    return future
