"""Background threads for calls that wait for servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from threading import Lock, Thread
from typing import ParamSpec, TypeVar

from steer_lit.waiting import first_done, result_of

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

PATIENCE = 2.0  # seconds that a stopped run waits: work that needs no server is done by then


def run_in_thread(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
    """Start `work` in a new thread. Returns a future of its result or exception."""
    future: Future[R] = Future()

    def run() -> None:
        try:
            future.set_result(work(*args, **kwargs))
        except BaseException as error:  # for the caller's thread to raise: a closed pipe is a SystemExit
            future.set_exception(error)

    # A daemon, unlike a pool's thread: a program that was stopped does not wait for a server at its end.
    Thread(target=run, name="steer-lit-background", daemon=True).start()
    return future


def delayed_by_one(work: Callable[[T], R], first: R) -> Callable[[T], R]:
    """Run `work` in a thread: each call returns the result of the call before it, the first call `first`.

    Calls are worked on one after the other. If one raises, the next call raises that error.
    """
    latest = _done(first)

    def call(thing: T) -> R:
        nonlocal latest
        found = result_of(latest)
        latest = run_in_thread(work, thing)
        return found

    return call


@contextmanager
def in_background(work: Callable[[T], R], keep: Callable[[R], None]) -> Iterator[Callable[[T], None]]:
    """Yield a function that calls `keep(work(thing))` in a background thread while its caller goes on.

    Things are handled one at a time, in order: the function first waits until the thing before is kept, and raises any
    error from it. Leaving the block, after an error too, waits for the last thing. A stop (Ctrl-C or SIGTERM) waits for
    it at most PATIENCE seconds, since a server may take minutes. Nothing is kept once the block is left.
    """
    latest, keeping, left = _done(None), Lock(), False

    def work_and_keep(thing: T) -> None:
        made = work(thing)
        with keeping:
            if not left:
                keep(made)

    def hand_over(thing: T) -> None:
        nonlocal latest
        result_of(latest)
        latest = run_in_thread(work_and_keep, thing)

    try:
        yield hand_over
        result_of(latest)
    except Exception:
        first_done([latest])
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
