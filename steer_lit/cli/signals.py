"""What a signal does while a run is not at work: it starts, or it is over. Small, as it is there before any library."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from steer_lit.ranks import first_rank

INTERRUPTED, TERMINATED = 130, 143  # as shells report Ctrl-C and SIGTERM

_AGAIN_S = 0.05  # by then most destructors have ended, and one that has not is met again


@dataclass(frozen=True, slots=True)
class _Ending:
    said: Callable[[], str]

    def __call__(self, *_: object) -> None:
        listening: object = signal.getsignal(signal.SIGTERM)
        if listening is not self:  # Lightning's own calls it, and stops at the end of a step
            return
        with suppress(Exception):  # it may have come in the middle of a write
            sys.stdout.flush()
        os.write(2, f"{self.said()}\n".encode(errors="backslashreplace"))
        os._exit(TERMINATED)


@contextmanager
def sigterm_ends(said: Callable[[], str]) -> Iterator[None]:
    """Have SIGTERM end the process at once with what `said` returns, in the process that speaks for all, where nobody
    else listens to it, or until Lightning does. It raises nothing: a library that is being imported would take that for
    an error of its own.
    """
    before = signal.getsignal(signal.SIGTERM)
    here = threading.current_thread() is threading.main_thread() and first_rank()  # the main thread alone hears it
    if mine := here and (before == signal.SIG_DFL or isinstance(before, _Ending)):
        signal.signal(signal.SIGTERM, _Ending(said))
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def heard_in_destructors() -> Iterator[None]:
    """Have Ctrl-C or a SIGTERM come again a moment later where it was raised in a destructor, or in a function that a
    weak reference calls: of what is raised there Python only says that it was ignored.
    """
    before, main = sys.unraisablehook, threading.main_thread().ident

    def hook(ignored: sys.UnraisableHookArgs) -> None:
        stop = ignored.exc_value
        terminated = isinstance(stop, SystemExit) and stop.code == TERMINATED
        if main is None or not (terminated or isinstance(stop, KeyboardInterrupt)):
            before(ignored)
            return
        number = signal.SIGTERM if terminated else signal.SIGINT
        # Raised in here, it would be ignored too.
        again = threading.Timer(_AGAIN_S, signal.pthread_kill, (main, number))
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
