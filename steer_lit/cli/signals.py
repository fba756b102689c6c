"""Handles signals while no run is at work: before it begins and after its end. Small, since no library has loaded.

Also ends a run's ranks if one of them ends by an error.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from steer_lit.ranks import first_rank, several_ranks

TERMINATED = 143  # as shells report SIGTERM
FROZEN = "--frozen="  # the option that gives a further process its run's config

_PR_SET_PDEATHSIG = 1  # of Linux: the signal that this process gets when its parent has ended
_AGAIN_S = 0.05  # most destructors have ended by then; if one has not, the signal is sent again


@dataclass(frozen=True, slots=True)
class _Ending:
    said: Callable[[], str]

    def __call__(self, *_: object) -> None:
        listening: object = signal.getsignal(signal.SIGTERM)
        if listening is not self:  # Lightning's handler called this one, and stops at the end of a step itself
            return
        with suppress(Exception):  # the signal may have come in the middle of a write
            sys.stdout.flush()
        os.write(2, f"{self.said()}\n".encode(errors="backslashreplace"))
        os._exit(TERMINATED)


@contextmanager
def sigterm_ends(said: Callable[[], str]) -> Iterator[None]:
    """Have SIGTERM print what `said` returns and end the process at once.

    Only on the first rank, and only while no other handler, such as Lightning's, is set. The handler raises nothing: a
    library that is being imported would take an exception for an error of its own.
    """
    before = signal.getsignal(signal.SIGTERM)
    here = threading.current_thread() is threading.main_thread() and first_rank()  # signals reach only the main thread
    if mine := here and (before == signal.SIG_DFL or isinstance(before, _Ending)):
        signal.signal(signal.SIGTERM, _Ending(said))
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def heard_in_destructors() -> Iterator[None]:
    """Repeat Ctrl-C or SIGTERM a moment later if its exception was raised in a destructor or a weak reference callback.

    Python ignores exceptions raised there, and only prints that it did.
    """
    before, main = sys.unraisablehook, threading.main_thread().ident

    def hook(ignored: sys.UnraisableHookArgs) -> None:
        stop = ignored.exc_value
        terminated = isinstance(stop, SystemExit) and stop.code == TERMINATED
        if main is None or not (terminated or isinstance(stop, KeyboardInterrupt)):
            before(ignored)
            return
        number = signal.SIGTERM if terminated else signal.SIGINT
        # An exception raised in this hook would be ignored too.
        again = threading.Timer(_AGAIN_S, signal.pthread_kill, (main, number))
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def end_with_parent() -> None:
    """End this process, a further rank of a run, as soon as the first rank's process has ended, which started it.

    If that one was killed or failed alone (`leave_other_ranks`), this one would finish its step and then wait for it:
    on GPUs, where NCCL does not notice, for `hardware.rank_timeout_minutes`. If that one was stopped, this one would
    take seconds to end its libraries, or print pages about a broken connection. The kernel ends it: no thread of
    Python's runs by then.

    SIGTERM does nothing until Lightning handles it: if it ended this process, Lightning would kill the first one, which
    says what is saved.
    """
    signal.signal(signal.SIGTERM, lambda *_: None)  # not SIG_IGN, which further processes would inherit
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def leave_other_ranks(error: BaseException) -> None:
    """End this process at once if it is one of several ranks and ends by `error`. Return if it is not, or succeeded.

    At a normal exit Lightning closes NCCL's communicators, which waits for the other ranks, while these wait for this
    one. Once this process is gone, Lightning in the first rank, or `end_with_parent` in the others, ends the rest.
    """
    code = error.code if isinstance(error, SystemExit) else 1
    if code in (None, 0) or not several_ranks():
        return
    with suppress(Exception):
        if not isinstance(error, SystemExit):
            traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)
