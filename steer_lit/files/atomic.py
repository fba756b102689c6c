"""Atomic writes: a file or a folder is written beside its place and renamed when it is whole."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from steer_lit.files.locks import holding

ABANDONED = 600.0  # seconds: some file systems tell one machine nothing of another's locks


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to; it takes `path`'s place when the block ends.

    Where the block raises, `path` stays as it was and nothing else is left. What killed runs left of it is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED:
                with holding(left) as taken:  # which a run that is still writing has, where locks are heard of
                    if taken:
                        left.unlink()
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with holding(part):
            yield part
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write the file, in UTF-8, in one step."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def replace_folder(target: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a folder, and put it in `target`'s place.

    A folder cannot take another's place in one step, but a file can, and the weights are the only file in which the
    adapters of a run differ: so a run killed here leaves a whole adapter, the old one or the new. What else `target`
    holds stays there.
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
