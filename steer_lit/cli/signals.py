"""SIGTERM while a run starts: an interrupt, as Ctrl-C is one. Small, as it is there before any library."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from steer_lit.ranks import first_rank

INTERRUPTED, TERMINATED = 130, 143  # as shells report Ctrl-C and SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


def exit_code(stop: KeyboardInterrupt) -> int:
    return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """SIGTERM raises `Terminated`, in the process that speaks for all, where nobody else listens to it."""
    here = threading.current_thread() is threading.main_thread() and first_rank()  # the main thread alone hears it
    if mine := here and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def leave_sigterm() -> None:
    """Leave SIGTERM to Lightning, which would call the handler that it finds besides its own: a step would end in its
    middle.
    """
    if signal.getsignal(signal.SIGTERM) is _terminate:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(*_: object) -> None:
    raise Terminated
