"""Atomic writes: a file or a folder is written beside its target and renamed when it is whole."""

from __future__ import annotations

import errno
import glob
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from steer_lit.files.locks import holding

FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)  # raised by writes, without the file's name
ABANDONED = 600.0  # seconds; some file systems do not show one machine another's locks


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to. The file there replaces `path` when the block ends.

    If the block raises, `path` stays as it was and nothing else is left; an error of a full disk without a file's name
    gets that of `path`. Partial files of killed runs are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED:
                with holding(left) as taken:  # a run that is still writing holds this lock
                    if taken:
                        left.unlink()
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with holding(unfinished):
            yield unfinished
            os.replace(unfinished, path)
    except OSError as error:
        if error.filename is None and error.errno in FULL:
            error.filename = str(path)
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write the file atomically, in UTF-8."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def replace_folder(target: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a new folder, and move its files to `target`.

    A folder cannot replace another in one step, but a file can. The weights are the only file in which the adapters of
    a run differ, so a run killed here leaves a whole adapter, the old one or the new. Other files in `target` stay.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        write(fresh)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)  # a full disk needs the room
        raise
    if not target.is_dir():
        os.replace(fresh, target)
        return
    for file in sorted(fresh.iterdir()):
        os.replace(file, target / file.name)
    fresh.rmdir()
