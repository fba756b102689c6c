"""Locks for one process at a time, which the system releases when that process ends, however it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl


@contextmanager
def holding(path: Path) -> Iterator[bool | None]:
    """Hold the lock of the file, which is made where it is missing.

    Yields False where another process has it, None where there is none to have: on Windows, and on file systems
    without locks.
    """
    if sys.platform == "win32":
        yield None
        return
    with path.open("ab") as file:
        taken: bool | None = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            taken = False
        except OSError:
            taken = None
        yield taken


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait until no other process is in such a block for the same folder, which exists; nothing is left in it.

    Nobody is waited for where there is no lock to have: on Windows, and on file systems without locks.
    """
    if sys.platform == "win32":
        yield
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)
