"""File locks held by one process at a time. The system releases them when the process ends, however it ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl


@contextmanager
def holding(path: Path) -> Iterator[bool | None]:
    """Hold the lock of the file, which is created if it is missing.

    Yield True while the lock is held, False if another process has it, and None without locks: on Windows, and on file
    systems that have none.
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
